# Makes one relocatable object of cargo's static library, whose only global symbols are those of exported-0.6.2.txt.
#
# A Rust static library brings its copy of the Rust runtime along, with global names. Two of them in one
# program would collide, or worse, share half of it. Linked partially and localised, ours can stand beside any other.
#
#   cmake -DARCHIVE=in.a -DOBJECT=out.o -DNAMES=exported-0.6.2.txt -DCC=cc -DFLAGS=... -DOBJCOPY=objcopy -DNM=nm -DDEBUG=OFF -P localise.cmake

cmake_minimum_required(VERSION 3.16)

# RUST_TARGET is asked on Apple's systems alone, which need neither OBJCOPY nor NM.
set(needed ARCHIVE OBJECT NAMES CC OBJCOPY NM)
if(RUST_TARGET MATCHES "-apple-")
  set(needed ARCHIVE OBJECT NAMES CC)
endif()
foreach(variable IN LISTS needed)
  if(NOT ${variable})
    message(FATAL_ERROR "localise.cmake needs -D${variable}=...")
  endif()
endforeach()

# Called on every build: nothing to do while cargo has made nothing new. (IS_NEWER_THAN is true for equal times.)
set(stale FALSE)
foreach(input "${ARCHIVE}" "${NAMES}" "${CMAKE_CURRENT_LIST_FILE}")
  if("${input}" IS_NEWER_THAN "${OBJECT}")
    set(stale TRUE)
  endif()
endforeach()
if(NOT stale)
  return()
endif()

# The flags of the compiler, as one would write them: for which machine, with which system.
separate_arguments(flags UNIX_COMMAND "${FLAGS}")

file(STRINGS "${NAMES}" names)
set(roots)
foreach(name IN LISTS names)
  list(APPEND roots "-Wl,-u,${name}")
endforeach()

include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

set(partial "${OBJECT}.partial")
if(RUST_TARGET MATCHES "-apple-")
  # ld(1) of Apple: -r with a list of what is exported makes all other names local. In the list C's names are with their _.
  string(REGEX MATCH "^[^-]+" architecture "${RUST_TARGET}")
  string(REPLACE "aarch64" "arm64" architecture "${architecture}")
  if(RUST_TARGET MATCHES "-darwin$")
    list(APPEND flags -arch "${architecture}")
  elseif(RUST_TARGET MATCHES "-apple-([a-z]+)(-sim)?$") # the compiler is for macOS unless it is told
    string(REPLACE "-sim" "-simulator" simulator "${CMAKE_MATCH_2}")
    list(APPEND flags -target "${architecture}-apple-${CMAKE_MATCH_1}${simulator}")
  endif()
  list(TRANSFORM names PREPEND "_")
  list(JOIN names "\n" lines)
  file(WRITE "${partial}.txt" "${lines}\n")
  list(TRANSFORM names PREPEND "-Wl,-u," OUTPUT_VARIABLE roots)
  run("${CC}" ${flags} -r -nostdlib ${roots} "-Wl,-exported_symbols_list,${partial}.txt" "${ARCHIVE}" -o "${partial}")
  file(REMOVE "${partial}.txt")
  file(RENAME "${partial}" "${OBJECT}")
  return()
endif()
# --force-group-allocation dissolves section groups. With them DW.ref.rust_eh_personality would stay shared with another
# Rust library of the same program, whose first panic would then run into our personality routine.
# BFD is named because gold and older lld lack that option.
set(link "${CC}" ${flags} -r -nostdlib -fuse-ld=bfd -Wl,--gc-sections -Wl,--force-group-allocation ${roots})
run(${link} "${ARCHIVE}" -o "${partial}")
# Rust's own objects carry LLVM bitcode along, which an nm, ar or ld with LLVM's plugin would stumble over.
run("${OBJCOPY}" --remove-section=.llvmbc --remove-section=.llvmcmd "${partial}")

# A third of the library would be what Rust prints a backtrace with: a reader of debug information, its decompression, the
# demangling of names. It never runs here, since panics are caught and printed by nobody (feature own-std), but it hangs on
# std's default panic hook, and std comes compiled. So the one function that leads there, std's
# `<DisplayBacktrace as Display>::fmt`, is emptied: it returns success, and the linker drops what nothing refers to any
# more. Its size stays, since the unwind tables name it. A std that has no function of that name makes a larger library.
if(NOT DEBUG)
  execute_process(COMMAND "${NM}" --print-size "${partial}" OUTPUT_VARIABLE symbols)
  if(symbols MATCHES "[0-9a-f]+ 0*([0-9a-f]+) t (_[A-Za-z0-9_]+9backtrace[A-Za-z0-9_]+16DisplayBacktrace[A-Za-z0-9_]+7Display3fmt)\n")
    set(size "0x${CMAKE_MATCH_1}")
    set(section ".text.${CMAKE_MATCH_2}")
    file(WRITE "${partial}.c" "__attribute__((section(\".empty\"))) int empty(void) { return 0; }\n")
    run("${CC}" ${flags} -O2 -fPIC -c "${partial}.c" -o "${partial}.empty.o")
    run("${OBJCOPY}" -O binary --only-section=.empty "--pad-to=${size}" "${partial}.empty.o" "${partial}.empty")
    run("${OBJCOPY}" "--update-section=${section}=${partial}.empty" "--remove-relocations=${section}" "${partial}")
    run(${link} "${partial}" -o "${partial}.less")
    file(RENAME "${partial}.less" "${partial}")
    file(REMOVE "${partial}.c" "${partial}.empty.o" "${partial}.empty")
  else()
    message(STATUS "Rust's std has no DisplayBacktrace::fmt any more: the library gets larger (docs/size.md)")
  endif()
endif()

set(options "--keep-global-symbols=${NAMES}")
if(NOT DEBUG)
  list(APPEND options --strip-unneeded)
endif()
run("${OBJCOPY}" ${options} "${partial}")
# Renamed at the end, so that an interrupted build leaves no object that looks complete.
file(RENAME "${partial}" "${OBJECT}")
