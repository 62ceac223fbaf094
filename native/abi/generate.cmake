# cmake -DHEADERS=FILE;FILE -DOUTPUT=FOLDER -P generate.cmake: writes everything that repeats the fields of the structs and
# the values of the enums in native/include, so that the headers are the only place where they are written by hand.
#
# It is a CMake script because CMake is the one tool that every build of the library has, cross builds included. parse.cmake
# reads the headers; one file for each language writes what that language needs.
cmake_minimum_required(VERSION 3.25)

include(${CMAKE_CURRENT_LIST_DIR}/parse.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/cxx.cmake)

parse_headers(${HEADERS})
emit_cxx(${OUTPUT})
