# Writes the configuration that cargo builds the library with, after cargo has fetched the crates of the library.
#
#   cmake -DCONFIG=config.toml -DCARGO=cargo -DTARGET=x86_64-unknown-linux-gnu -DBUILD=folder -DDEBUG=OFF -DRUNTIME=
#     -DFLAGS=... -P cargo-config.cmake, in the folder of the sources
#
# A release names no folder of the machine that built it, nor where its crates came from: the same sources make the same library.
# (RUSTFLAGS of the environment, where set, take the place of these.)
#
# RUNTIME is the C runtime of Microsoft's compiler, by CMake's names for them; empty for other compilers.
#
# FLAGS are further flags of rustc for each crate, with spaces between them.

cmake_minimum_required(VERSION 3.16)

foreach(variable CONFIG CARGO TARGET BUILD)
  if(NOT ${variable})
    message(FATAL_ERROR "cargo-config.cmake needs -D${variable}=...")
  endif()
endforeach()
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)

separate_arguments(flags UNIX_COMMAND "${FLAGS}")
if(NOT DEBUG)
  if(DEFINED ENV{CARGO_HOME})
    set(cargo_home "$ENV{CARGO_HOME}")
  elseif(CMAKE_HOST_WIN32)
    set(cargo_home "$ENV{USERPROFILE}/.cargo")
  else()
    set(cargo_home "$ENV{HOME}/.cargo")
  endif()
  file(TO_CMAKE_PATH "${cargo_home}" cargo_home)
  # Only now are there the folders of the registries, whose names cargo chooses.
  run("${CARGO}" tree --locked --package plum-c --edges normal,build --target "${TARGET}" OUTPUT_QUIET)
  file(GLOB registries "${cargo_home}/registry/src/*")
  # Of those that match a path, rustc takes the last.
  list(APPEND flags "--remap-path-prefix=${cargo_home}=/cargo" "--remap-path-prefix=${source}=/libplum"
    "--remap-path-prefix=${BUILD}=/build")
  foreach(folder IN LISTS registries ITEMS "${source}/vendor")
    list(APPEND flags "--remap-path-prefix=${folder}=/crates")
  endforeach()
endif()
if(RUNTIME AND NOT RUNTIME MATCHES "DLL$")
  list(APPEND flags "-Ctarget-feature=+crt-static")
endif()

set(toml)
foreach(flag IN LISTS flags)
  string(REGEX REPLACE "([\\\"])" "\\\\\\1" flag "${flag}")
  string(APPEND toml "    \"${flag}\",\n")
endforeach()
file(WRITE "${CONFIG}" "[target.'cfg(all())']\nrustflags = [\n${toml}]\n")
