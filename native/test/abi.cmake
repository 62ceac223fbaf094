# cmake -DGENERATE=generate.cmake "-DHEADERS=FILE;FILE" -DOUTPUT=FOLDER -P abi.cmake
#
# Checks that the generator of native/abi refuses a header with a fault, names the file and the line, and writes
# nothing. Each fault is planted into a copy of yololoss.h.
cmake_minimum_required(VERSION 3.25)

list(GET HEADERS 0 header)
file(READ ${header} text)

# Replaces the text once, which must be there; the generator must end with a failure that says so.
function(refused what old new sentence)
  string(FIND "${text}" "${old}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${what}: ${header} has no ${old}")
  endif()
  string(REPLACE "${old}" "${new}" faulty "${text}")
  file(WRITE ${OUTPUT}/faulty.h "${faulty}")
  execute_process(COMMAND ${CMAKE_COMMAND} -DHEADERS=${OUTPUT}/faulty.h -DOUTPUT=${OUTPUT}/faulty -P ${GENERATE}
    RESULT_VARIABLE failed ERROR_VARIABLE error OUTPUT_QUIET)
  string(REGEX REPLACE "[ \n]+" " " error "${error}")
  if(NOT failed OR NOT error MATCHES "${sentence}")
    message(FATAL_ERROR "${what}: a failure with '${sentence}' is expected, got ${failed}: ${error}")
  endif()
  if(EXISTS ${OUTPUT}/faulty/abi.h)
    message(FATAL_ERROR "${what}: files were written")
  endif()
endfunction()

refused("a type that is not known" "int32_t grad_mode; " "int16_t grad_mode; "
  "faulty.h:[0-9]+: field of int16_t")
refused("a pointer to such a type" "const yl_layer *layers;" "const yl_level *layers;"
  "faulty.h:[0-9]+: pointer to yl_level")
refused("two fields in one declaration" "double xy;" "double xy, xz;" "faulty.h:[0-9]+: not a field")
refused("a bit field" "int32_t batch; " "int32_t batch : 8; " "faulty.h:[0-9]+: not a field")
refused("a second field of a name" "double wh;" "double xy;"
  "faulty.h:[0-9]+: yl_parts has a second field xy")
refused("padding within a struct" "int32_t grad_mode; " "" "faulty.h:[0-9]+: yl_call.normaliser_value begins at")
refused("padding at the end of a struct" "float value;    /* the" "double value;  /* the"
  "yl_finding.value begins at 36")
refused("a field without a default" "double grad_scale; " "double grad_scale; \n  int64_t more; "
  "YL_CALL_INIT has 13 values, yl_call has 14")
set(boxes_init "{ sizeof(yl_boxes), 0, 0, 0, 0 }")
refused("a default without a field" "${boxes_init}" "{ sizeof(yl_boxes), 0, 0, 0, 0, 0 }"
  "YL_BOXES_INIT has 6 values")
refused("a default that is no number" "${boxes_init}" "{ sizeof(yl_boxes), 0, 0, 0, x }" "the value x for weights")
refused("no defaults" "#define YL_BOXES_INIT" "#define YL_BOXES_START" "yl_boxes begins with struct_size but has no")
refused("an enumerator without a value" "YL_GRAD_REFRESH = 1," "YL_GRAD_REFRESH,"
  "faulty.h:[0-9]+: not an enumerator")
refused("a constant twice" "YL_GRAD_REFRESH = 1," "YL_GRAD_OVERWRITE = 1," "YL_GRAD_OVERWRITE is defined twice")
refused("a declaration of another form" "typedef struct yl_plan yl_plan;" "typedef union yl_plan yl_plan;"
  "not a declaration")
refused("a struct without an end" "} yl_parts;" "" "faulty.h:[0-9]+: not a field")
