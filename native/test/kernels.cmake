# cmake -DNVCC=nvcc -DSOURCES=native/src -DREPORTS=FOLDER -DOUTPUT=FOLDER -DARCHITECTURES=LIST -P kernels.cmake: what no host
# run can show of the kernels. On every architecture that is built the kernels without extras use 64 registers at most, and no local memory but
# for a few bytes of those of the loss alone (the report is printed), and the gradient goes out in 16-byte stores.
set(most_local 24)  # bytes a thread, of the rare path of an object
set(report "")
foreach(source IN ITEMS truths cells)  # cuda/report.sh wrote them
  file(READ ${REPORTS}/${source}.cu.o.report of_source)
  string(APPEND report "${of_source}")
endforeach()
string(REGEX MATCHALL "Compiling entry function [^\n]*\n[^\n]*Function properties for [^\n]*\n[^\n]*\n[^\n]*Used [^\n]*"
  kernels "${report}")
foreach(kernel IN LISTS kernels)
  string(REGEX REPLACE ".*Compiling entry function '([_A-Z0-9a-z]*)' for '([a-z_0-9]*)'.*" "\\1;\\2" entry "${kernel}")
  list(GET entry 0 name)
  list(GET entry 1 arch)
  string(REGEX REPLACE ".*[0-9]([a-z_]+_kernel)" "\\1" name "${name}")
  string(REGEX REPLACE "E+v?NS_(4Task|9LayerTask).*" "" name "${name}")
  string(REGEX REPLACE ".*\n +([0-9]+) bytes stack.*Used ([0-9]+) registers.*" "\\1;\\2" usage "${kernel}")
  list(GET usage 0 local)
  list(GET usage 1 registers)
  message(STATUS "${arch} ${name}: ${registers} registers, ${local} bytes of local memory")
  list(APPEND reported ${arch})
  list(APPEND kernels_${arch} ${name})
  if(name MATCHES "cells_kernel.*Lb1ELb1$")  # extras: on request, and a few bytes do not count
    continue()
  endif()
  if((name MATCHES "cells_kernel" AND registers GREATER 64) OR local GREATER most_local)
    message(FATAL_ERROR "a kernel needs too much: ${kernel}")
  endif()
  if(local GREATER 0 AND NOT name MATCHES "cells_kernel.*Lb0ELb0$")
    message(FATAL_ERROR "a kernel uses local memory: ${kernel}")
  endif()
endforeach()
if(NOT reported)
  message(FATAL_ERROR "no kernels in the reports in ${REPORTS}")
endif()
set(architectures ${reported})
foreach(arch IN LISTS ARCHITECTURES)  # 90-real and 90 are compiled to the end, 90-virtual is not
  if(arch MATCHES "^([0-9]+a?)(-real)?$")
    list(APPEND architectures sm_${CMAKE_MATCH_1})
  endif()
endforeach()
list(REMOVE_DUPLICATES architectures)
foreach(arch IN LISTS architectures)
  list(LENGTH kernels_${arch} count)
  if(NOT count EQUAL 32)  # cells: 3 types in 2 orders, with and without gradient, with extras; double with all; decode; 4 of stage 1
    message(FATAL_ERROR "${count} kernels in the report for ${arch}, 32 are expected:\n${report}")
  endif()
endforeach()

execute_process(COMMAND ${NVCC} -std=c++17 -I${SOURCES} -I${SOURCES}/../include -arch=sm_90 -ptx -o ${OUTPUT}/cells.ptx
  ${SOURCES}/cuda/cells.cu COMMAND_ERROR_IS_FATAL ANY)
file(STRINGS ${OUTPUT}/cells.ptx wide REGEX "st\\.global\\.v4\\.u32")
if(wide STREQUAL "")
  message(FATAL_ERROR "no 16-byte store of the gradient")
endif()
