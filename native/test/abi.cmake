# cmake -DGENERATE=generate.cmake -DOUTPUT=FOLDER -P abi.cmake
#
# Checks that the generator of native/abi refuses a header with a fault, names the file and the line, and writes
# nothing. Each fault is planted into the header below, which has every form that yololoss.h uses.
cmake_minimum_required(VERSION 3.25)

set(text [[
/* A comment; with [brackets]
   over two lines. */
#ifndef YL_TEST_H
#define YL_TEST_H
#define YL_ABI_VERSION 3
#define YL_SUM(n) (6 + 360 * (n))
typedef enum yl_status { /* a named enum */
  YL_OK = 0,
  YL_FAILED = 1 /* the last */
} yl_status;
enum {
  YL_GRAD_OVERWRITE = 0,
  YL_GRAD_REFRESH = 1 /* over
                         two lines */
};
typedef struct yl_plan yl_plan;
typedef struct yl_parts {
  double xy;
  double wh;
  int64_t objects;
} yl_parts;
typedef struct yl_call {
  size_t struct_size;
  const float *const *feats;
  yl_parts *rows;
  yl_parts all;
  int32_t batch;
  int32_t grad_mode;
  double grad_scale;
} yl_call;
#define YL_CALL_INIT \
  { sizeof(yl_call), 0, 0, 0, 1, 0, 1.0 }
YL_API yl_status yl_loss(yl_plan *plan, const yl_call *call,
                         const yl_parts *parts);
typedef struct yl_finding {
  int32_t row;
  float value;
} yl_finding;
#endif
]])

# Runs the generator on a header; sets failed and error.
function(generate header folder)
  file(REMOVE_RECURSE ${OUTPUT}/${folder})
  file(WRITE ${OUTPUT}/${folder}.h "${header}")
  execute_process(COMMAND ${CMAKE_COMMAND} -DHEADERS=${OUTPUT}/${folder}.h -DOUTPUT=${OUTPUT}/${folder} -P ${GENERATE}
    RESULT_VARIABLE failed ERROR_VARIABLE error OUTPUT_QUIET)
  string(REGEX REPLACE "[ \n]+" " " error "${error}")
  set(failed ${failed} PARENT_SCOPE)
  set(error "${error}" PARENT_SCOPE)
endfunction()

generate("${text}" sound)
if(failed)
  message(FATAL_ERROR "the header without a fault is refused: ${error}")
endif()
file(READ ${OUTPUT}/sound/abi.h made)
if(NOT made MATCHES "FIELD.yl_call, const float .const ., feats, 8."
    OR NOT made MATCHES "FIELD.yl_call, double, grad_scale, 56.")
  message(FATAL_ERROR "abi.h has other fields: ${made}")
endif()

# Replaces the text, which must be there; the generator must fail with the sentence.
function(refused what old new sentence)
  string(FIND "${text}" "${old}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${what}: the header has no ${old}")
  endif()
  string(REPLACE "${old}" "${new}" faulty "${text}")
  generate("${faulty}" faulty)
  if(NOT failed OR NOT error MATCHES "${sentence}")
    message(FATAL_ERROR "${what}: a failure with '${sentence}' is expected, got ${failed}: ${error}")
  endif()
  if(EXISTS ${OUTPUT}/faulty/abi.h)
    message(FATAL_ERROR "${what}: files were written")
  endif()
endfunction()

refused("a type that is not known" "int32_t grad_mode;" "int16_t grad_mode;" "faulty.h:28: field of int16_t")
refused("a pointer to such a type" "yl_parts *rows;" "yl_rows *rows;" "faulty.h:25: pointer to yl_rows")
refused("two fields in one declaration" "double xy;" "double xy, xz;" "faulty.h:18: not a field")
refused("a bit field" "int32_t batch;" "int32_t batch : 8;" "faulty.h:27: not a field")
refused("a second field of a name" "double wh;" "double xy;" "faulty.h:19: yl_parts has a second field xy")
refused("padding within a struct" "  int32_t grad_mode;\n" "" "faulty.h:28: yl_call.grad_scale begins at 52")
refused("padding at the end of a struct" "int32_t row;" "double row;" "faulty.h:38: yl_finding has 12 bytes")
refused("a field without a default" "double grad_scale;" "double grad_scale;\n  double more;"
  "YL_CALL_INIT has 7 values, yl_call has 8")
refused("a default without a field" "1, 0, 1.0 }" "1, 0, 1.0, 0 }" "YL_CALL_INIT has 8 values, yl_call has 7")
refused("a default that is no number" "1, 0, 1.0 }" "1, x, 1.0 }" "the value x for grad_mode")
refused("no defaults" "YL_CALL_INIT" "YL_CALL_START" "yl_call begins with struct_size but has no")
refused("an enumerator without a value" "YL_OK = 0," "YL_OK," "faulty.h:8: not an enumerator")
refused("a constant twice" "YL_FAILED = 1" "YL_OK = 1" "faulty.h:9: YL_OK is defined twice")
refused("a declaration of another form" "typedef struct yl_plan" "typedef union yl_plan"
  "faulty.h:16: not a declaration")
refused("a struct without an end" "} yl_parts;" "" "faulty.h:22: not a field")
