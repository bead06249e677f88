# Tries cargo-config.cmake: cmake -DFOLDER=folder -P test-cargo-config.cmake

cmake_minimum_required(VERSION 3.16)
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

# A cargo that fetches one crate, as far as the script can see it, from a registry of its own into a folder with a quote in its name.
set(home "${FOLDER}/a \"home\"")
set(cargo "${FOLDER}/cargo")
file(REMOVE_RECURSE "${FOLDER}")
file(WRITE "${cargo}" "#!/bin/sh\nmkdir -p \"$CARGO_HOME/registry/src/some-mirror\"\n")
run(chmod +x "${cargo}")
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)

# expect(FLAGS OPTION...): what cargo is told to pass to rustc.
function(expect flags)
  run("${CMAKE_COMMAND}" -E env "CARGO_HOME=${home}" "${CMAKE_COMMAND}" "-DCONFIG=${FOLDER}/config.toml" "-DCARGO=${cargo}"
    -DTARGET=any "-DBUILD=${FOLDER}/build" ${ARGN} -P "${CMAKE_CURRENT_LIST_DIR}/cargo-config.cmake")
  file(READ "${FOLDER}/config.toml" written)
  set(wanted "[target.'cfg(all())']\nrustflags = [\n")
  foreach(flag IN LISTS flags)
    string(APPEND wanted "    \"${flag}\",\n")
  endforeach()
  string(APPEND wanted "]\n")
  if(NOT written STREQUAL wanted)
    message(SEND_ERROR "${ARGN}: wrote\n${written}in place of\n${wanted}")
  endif()
endfunction()

# Microsoft's C runtime.
expect("" -DDEBUG=ON -DRUNTIME=)
expect("" -DDEBUG=ON -DRUNTIME=MultiThreadedDLL)
expect("" -DDEBUG=ON -DRUNTIME=MultiThreadedDebugDLL)
expect("-Ctarget-feature=+crt-static" -DDEBUG=ON -DRUNTIME=MultiThreaded)
expect("-Ctarget-feature=+crt-static" -DDEBUG=ON -DRUNTIME=MultiThreadedDebug)
# The folders of a release: the last that matches counts, and the registry's is there once cargo has fetched.
string(REPLACE "\"" "\\\"" name "${home}")
expect("--remap-path-prefix=${name}=/cargo;--remap-path-prefix=${source}=/libplum;--remap-path-prefix=${FOLDER}/build=/build;--remap-path-prefix=${name}/registry/src/some-mirror=/crates;--remap-path-prefix=${source}/vendor=/crates"
  -DDEBUG=OFF)
