# cmake -DNVCC=nvcc -DSOURCES=native/src -DOUTPUT=FOLDER -P kernels.cmake: what no host run can show of the kernels. On every
# architecture the kernels without extras use 64 registers at most, and no local memory but for a few bytes of those of the
# loss alone (the report is printed), and the gradient goes out in 16-byte stores.
set(most_local 24)  # bytes a thread, of the rare path of an object
set(common -std=c++17 -I${SOURCES} -I${SOURCES}/../include)
foreach(arch IN ITEMS sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120)
  set(report "")
  foreach(source IN ITEMS gather visit)
    execute_process(COMMAND ${NVCC} ${common} -arch=${arch} -Xptxas=-v -cubin -o ${OUTPUT}/${source}.cubin
      ${SOURCES}/cuda/${source}.cu ERROR_VARIABLE of_source COMMAND_ERROR_IS_FATAL ANY)
    string(APPEND report "${of_source}")
  endforeach()
  string(REGEX MATCHALL "Function properties for [^\n]*\n[^\n]*\n[^\n]*Used [^\n]*" kernels "${report}")
  foreach(kernel IN LISTS kernels)
    string(REGEX REPLACE ".*Function properties for ([_A-Z0-9a-z]*)\n.*" "\\1" name "${kernel}")
    string(REGEX REPLACE ".*[0-9](visit_cells|decode_cells|gather_[a-z]+|write_y_true|finish_gather)" "\\1" name "${name}")
    string(REGEX REPLACE "E+v?NS_(4Task|9LayerTask).*" "" name "${name}")
    string(REGEX REPLACE ".*\n +([0-9]+) bytes stack.*Used ([0-9]+) registers.*" "\\1;\\2" usage "${kernel}")
    list(GET usage 0 local)
    list(GET usage 1 registers)
    message(STATUS "${arch} ${name}: ${registers} registers, ${local} bytes of local memory")
    if(name MATCHES "visit_cells.*Lb1ELb1$")  # extras: on request, and a few bytes do not count
      continue()
    endif()
    if((name MATCHES "visit_cells" AND registers GREATER 64) OR local GREATER most_local)
      message(FATAL_ERROR "a kernel needs too much: ${kernel}")
    endif()
    if(local GREATER 0 AND NOT name MATCHES "visit_cells.*Lb0ELb0$")
      message(FATAL_ERROR "a kernel uses local memory: ${kernel}")
    endif()
  endforeach()
  list(LENGTH kernels count)
  if(NOT count EQUAL 32)  # visit: 3 types in 2 orders, with and without gradient, with extras; double with all; decode; 4 of stage 1
    message(FATAL_ERROR "${count} kernels in the report, 32 are expected:\n${report}")
  endif()
endforeach()
execute_process(COMMAND ${NVCC} ${common} -arch=sm_90 -ptx -o ${OUTPUT}/visit.ptx ${SOURCES}/cuda/visit.cu
  COMMAND_ERROR_IS_FATAL ANY)
file(STRINGS ${OUTPUT}/visit.ptx wide REGEX "st\\.global\\.v4\\.u32")
if(wide STREQUAL "")
  message(FATAL_ERROR "no 16-byte store of the gradient")
endif()
