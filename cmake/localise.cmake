# Makes one relocatable object of cargo's static library, whose only global symbols are those of exported.txt.
#
# A Rust static library brings its copy of the Rust runtime along, with global names. Two of them in one
# program would collide, or worse, share half of it. Linked partially and localised, ours can stand beside any other.
#
#   cmake -DARCHIVE=in.a -DOBJECT=out.o -DNAMES=exported.txt -DCC=cc -DOBJCOPY=objcopy -DDEBUG=OFF -P localise.cmake

cmake_minimum_required(VERSION 3.16)

foreach(variable ARCHIVE OBJECT NAMES CC OBJCOPY)
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

file(STRINGS "${NAMES}" names)
set(roots)
foreach(name IN LISTS names)
  list(APPEND roots "-Wl,-u,${name}")
endforeach()

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed (${result}): ${command}")
  endif()
endfunction()

set(partial "${OBJECT}.partial")
# --force-group-allocation dissolves section groups. With them DW.ref.rust_eh_personality would stay shared with another
# Rust library of the same program, whose first panic would then run into our personality routine.
# BFD is named because gold and older lld lack that option.
run("${CC}" -r -nostdlib -fuse-ld=bfd -Wl,--gc-sections -Wl,--force-group-allocation ${roots} "${ARCHIVE}" -o "${partial}")
# Debug builds carry LLVM bitcode of the Rust runtime along, which an ar or ld with LLVM's plugin would stumble over.
set(options "--keep-global-symbols=${NAMES}" --remove-section=.llvmbc --remove-section=.llvmcmd)
if(NOT DEBUG)
  list(APPEND options --strip-unneeded)
endif()
run("${OBJCOPY}" ${options} "${partial}")
# Renamed at the end, so that an interrupted build leaves no object that looks complete.
file(RENAME "${partial}" "${OBJECT}")
