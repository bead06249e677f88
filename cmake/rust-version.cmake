# plum_check_rust_version(): an error where PLUM_CARGO or PLUM_RUSTC is older than what Cargo.toml asks for (rust-version).
# An old cargo would only say that it does not know some key of the manifest.

# Sets `out` to the version that `tool` prints.
function(plum_tool_version out tool)
  execute_process(COMMAND "${tool}" --version WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    OUTPUT_VARIABLE printed ERROR_VARIABLE complaint RESULT_VARIABLE result)
  if(NOT result EQUAL 0 OR NOT printed MATCHES "^[a-z]+ ([0-9]+[.][0-9]+[.][0-9]+)")
    message(FATAL_ERROR "${tool} --version does not work (${result}): is a Rust toolchain installed?\n${printed}${complaint}")
  endif()
  set(${out} "${CMAKE_MATCH_1}" PARENT_SCOPE)
endfunction()

function(plum_check_rust_version)
  file(STRINGS Cargo.toml wanted REGEX "^rust-version = \"[0-9.]+\"$" LIMIT_COUNT 1)
  string(REGEX REPLACE "^.* = \"([0-9.]+)\"$" "\\1" wanted "${wanted}")
  plum_tool_version(cargo "${PLUM_CARGO}")
  plum_tool_version(rustc "${PLUM_RUSTC}")
  if(wanted AND NOT cargo VERSION_LESS wanted AND NOT rustc VERSION_LESS wanted)
    return()
  endif()
  set(found "  cargo ${cargo}: ${PLUM_CARGO}\n  rustc ${rustc}: ${PLUM_RUSTC}\n")
  # So that the next run looks again.
  unset(PLUM_CARGO CACHE)
  unset(PLUM_RUSTC CACHE)
  message(FATAL_ERROR "libplum needs Rust ${wanted} or later. This is too old:\n${found}"
    "A newer Rust is to be had\n"
    "  for every system: https://rustup.rs (with it already installed: rustup update)\n"
    "  on Debian 12 and 13: apt install cargo-web rustc-web\n"
    "Elsewhere installed: -DPLUM_CARGO=/path/to/cargo -DPLUM_RUSTC=/path/to/rustc")
endfunction()
