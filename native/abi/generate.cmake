# cmake "-DHEADERS=FILE;FILE" -DOUTPUT=FOLDER -P generate.cmake
#
# Writes everything that repeats the fields of the structs and the values of the enums in native/include, so that the
# headers are the only place where they are written by hand. It is a CMake script because CMake is the one tool that
# every build of the library has, cross builds included. parse.cmake reads the headers; one file for each language
# writes what that language needs.
cmake_minimum_required(VERSION 3.25)

include(${CMAKE_CURRENT_LIST_DIR}/parse.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/cxx.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/java.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/python.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/rust.cmake)

# Writes a file unless it has this text already: what did not change is not compiled again.
function(write_if_changed file text)
  if(EXISTS ${file})
    file(READ ${file} old)
    if("${old}" STREQUAL "${text}")
      return()
    endif()
  endif()
  file(WRITE ${file} "${text}")
endfunction()

parse_headers(${HEADERS})
emit_cxx(${OUTPUT})
emit_java(${OUTPUT})
emit_python(${OUTPUT})
emit_rust(${OUTPUT})
file(TOUCH ${OUTPUT}/stamp)
