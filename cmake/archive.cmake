# The libraries on Windows. No partial link can localise the names of an object for Windows (neither GNU's nor Microsoft's linker
# can do one that keeps thread-local storage), so the static library is cargo's as it is, with the names of Rust's runtime in it,
# and the DLL is linked from that. What it exports is a list.

# What `rustc --print native-static-libs` says, but for the debugger's: backtraces are never printed.
set(plum_windows_libraries kernel32 ntdll userenv ws2_32 dbghelp)

# plum_add_windows_library(TARGET SHARED|STATIC [EXCLUDE_FROM_ALL])
function(plum_add_windows_library target kind)
  # CMake wants a library to have a source.
  set(source "${CMAKE_CURRENT_BINARY_DIR}/plum-windows.c")
  if(NOT EXISTS "${source}")
    file(WRITE "${source}" "typedef int nothing;\n")
  endif()
  if(kind STREQUAL "STATIC")
    add_library(${target} STATIC ${ARGN} "${source}")
    target_link_libraries(${target} INTERFACE ${plum_windows_libraries})
    # Made anew whenever cargo has made another.
    set_property(SOURCE "${source}" APPEND PROPERTY OBJECT_DEPENDS "${plum_archive}")
    add_custom_command(TARGET ${target} POST_BUILD
      COMMAND ${CMAKE_COMMAND} -E copy "${plum_archive}" "$<TARGET_FILE:${target}>" VERBATIM)
    return()
  endif()

  file(STRINGS "${plum_exported}" names)
  list(JOIN names "\n" exports)
  set(definitions "${CMAKE_CURRENT_BINARY_DIR}/plum-${PLUM_ABI}.def")
  file(CONFIGURE OUTPUT "${definitions}" CONTENT "EXPORTS\n@exports@\n" @ONLY)
  add_library(${target} SHARED ${ARGN} "${source}" "${definitions}")
  # plum.dll, by whichever compiler.
  set_target_properties(${target} PROPERTIES PREFIX "")
  target_link_libraries(${target} PRIVATE "${plum_archive}" ${plum_windows_libraries})
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${plum_archive}" "${definitions}")
  if(MSVC)
    list(TRANSFORM names PREPEND "/INCLUDE:")
    target_link_options(${target} PRIVATE ${names})
  else()
    # It needs no DLL of the compiler's.
    list(TRANSFORM names PREPEND "-Wl,-u,")
    target_link_options(${target} PRIVATE -static-libgcc -Wl,--gc-sections ${names})
    if(NOT plum_debug)
      target_link_options(${target} PRIVATE -s)
    endif()
  endif()
endfunction()
