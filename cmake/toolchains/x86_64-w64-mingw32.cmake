# Building for 64-bit Windows with MinGW-w64 on another system:
#
#   cmake -B build -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/x86_64-w64-mingw32.cmake
#
# Rust needs its library for x86_64-pc-windows-gnu too (rustup target add x86_64-pc-windows-gnu). Where there is Wine, the tests run
# under it.

set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)

set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)

# Programs are this machine's, everything else is Windows'.
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

# Debian's wine64 package has it in a folder of its own.
find_program(PLUM_WINE NAMES wine64 wine HINTS /usr/lib/wine DOC "Runs programs for Windows")
if(PLUM_WINE)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${PLUM_WINE}")
endif()
