# Emits Abi.java: layouts, offsets and accessors of the structs, and the values of the enums, for java.lang.foreign.
#
# Offsets are literals and accessors are static, so that a call looks nothing up and creates no object. The class is
# public for the library's own packages; its package is not exported.

# yl_box_counts -> BoxCounts, grad_mode -> GradMode, class_ -> Class
function(camel_case name result)
  string(REGEX REPLACE "^yl_" "" name ${name})
  string(REGEX MATCHALL "[a-z0-9]+" words ${name})
  set(camel "")
  foreach(word IN LISTS words)
    string(SUBSTRING ${word} 0 1 first)
    string(SUBSTRING ${word} 1 -1 rest)
    string(TOUPPER ${first} first)
    string(APPEND camel ${first}${rest})
  endforeach()
  set(${result} ${camel} PARENT_SCOPE)
endfunction()

set(java_type_of_size_t long)
set(java_type_of_int64_t long)
set(java_type_of_int32_t int)
set(java_type_of_float float)
set(java_type_of_double double)
set(java_type_of_char byte)

# The accessors of a field; sets text.
macro(emit_java_accessors)
  if(type STREQUAL "struct")
    string(APPEND text "
    public static MemorySegment get${camel}(MemorySegment struct) {
      return struct.asSlice(${constant}_OFFSET, ${base_camel}.LAYOUT);
    }
")
  elseif(NOT count STREQUAL "")
    string(APPEND text "
    public static String get${camel}(MemorySegment struct) {
      return struct.getString(${constant}_OFFSET);
    }
")
  else()
    string(APPEND text "
    public static ${type} get${camel}(MemorySegment struct) {
      return struct.get(${layout}, ${constant}_OFFSET);
    }

    public static ${type} get${camel}(MemorySegment array, long index) {
      return array.get(${layout}, index * SIZE + ${constant}_OFFSET);
    }

    public static void set${camel}(MemorySegment struct, ${type} value) {
      struct.set(${layout}, ${constant}_OFFSET, value);
    }

    public static void set${camel}(MemorySegment array, long index, ${type} value) {
      array.set(${layout}, index * SIZE + ${constant}_OFFSET, value);
    }
")
  endif()
endmacro()

# The lists of a struct that consists of sums (double) and counts (int64_t), for loops over its fields.
macro(emit_java_lists)
  foreach(kind IN ITEMS SUMS COUNTS)
    if(${kind})
      list(JOIN ${kind} "\", \"" names)
      string(APPEND text "
    /** The fields of type ${type_of_${kind}}, in the order of the header. */
    public static final List<String> ${kind} = List.of(\"${names}\");
")
    endif()
  endforeach()
  set(reads "")
  set(writes "")
  foreach(kind IN ITEMS SUMS COUNTS)
    string(TOLOWER ${kind} array)
    set(i 0)
    foreach(field IN LISTS ${kind})
      camel_case(${field} camel)
      string(APPEND reads "      ${array}[${i}] = get${camel}(structs, index);\n")
      string(APPEND writes "      set${camel}(structs, index, ${array}[${i}]);\n")
      math(EXPR i "${i} + 1")
    endforeach()
  endforeach()
  if(SUMS AND COUNTS)
    string(APPEND text "
    /** Reads the struct of an index into arrays in the order of the two lists. */
    public static void read(MemorySegment structs, long index, double[] sums, long[] counts) {
${reads}    }

    /** Writes the struct of an index from such arrays. */
    public static void write(MemorySegment structs, long index, double[] sums, long[] counts) {
${writes}    }
")
  endif()
endmacro()

macro(emit_java_struct)
  camel_case(${struct} class)
  set(members "")
  set(offsets "")
  set(defaults "")
  set(SUMS "")
  set(COUNTS "")
  set(has_others FALSE)
  foreach(field IN LISTS ${struct}_fields)
    set(base ${${struct}_${field}_base})
    set(count "${${struct}_${field}_count}")
    set(type "${java_type_of_${base}}")
    string(TOUPPER "JAVA_${type}" layout)
    if(NOT "${${struct}_${field}_pointer}" STREQUAL "")
      set(type MemorySegment)
      set(layout ADDRESS)
    elseif(base IN_LIST structs)
      camel_case(${base} base_camel)
      set(type struct)
      set(layout ${base_camel}.LAYOUT)
    endif()
    if(${struct}_${field}_ctype STREQUAL "double")
      list(APPEND SUMS ${field})
    elseif(${struct}_${field}_ctype STREQUAL "int64_t")
      list(APPEND COUNTS ${field})
    else()
      set(has_others TRUE)
    endif()
    set(member "${layout}")
    if(NOT count STREQUAL "")
      set(member "MemoryLayout.sequenceLayout(${count}, ${layout})")
    endif()
    list(APPEND members "                ${member}.withName(\"${field}\")")
    string(REGEX REPLACE "_$" "" constant ${field})
    string(TOUPPER ${constant} constant)
    string(APPEND offsets "    public static final long ${constant}_OFFSET = ${${struct}_${field}_offset};\n")
    set(default "${${struct}_${field}_default}")
    if(field STREQUAL "struct_size")
      string(APPEND defaults "      struct.set(${layout}, ${constant}_OFFSET, SIZE);\n")
    elseif(default AND NOT default MATCHES "^[0.]+$")
      if(base STREQUAL "float")
        string(APPEND default f)
      endif()
      string(APPEND defaults "      struct.set(${layout}, ${constant}_OFFSET, ${default});\n")
    endif()
  endforeach()
  list(JOIN members ",\n" members)
  string(APPEND text "
  /** {@code ${struct}}. */
  public static final class ${class} {
    public static final StructLayout LAYOUT =
        MemoryLayout.structLayout(
${members})
            .withName(\"${struct}\");
    public static final long SIZE = ${${struct}_size};
${offsets}
    private ${class}() {}
")
  if(defaults)
    string(APPEND text "
    /** Allocates the struct with the values of its {@code _INIT} macro. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
      MemorySegment struct = allocator.allocate(LAYOUT);
${defaults}      return struct;
    }
")
  endif()
  foreach(field IN LISTS ${struct}_fields)
    set(base ${${struct}_${field}_base})
    set(count "${${struct}_${field}_count}")
    set(type "${java_type_of_${base}}")
    string(TOUPPER "JAVA_${type}" layout)
    if(NOT "${${struct}_${field}_pointer}" STREQUAL "")
      set(type MemorySegment)
      set(layout ADDRESS)
    elseif(base IN_LIST structs)
      camel_case(${base} base_camel)
      set(type struct)
    endif()
    camel_case(${field} camel)
    string(REGEX REPLACE "_$" "" constant ${field})
    string(TOUPPER ${constant} constant)
    emit_java_accessors()
  endforeach()
  if(NOT has_others)
    emit_java_lists()
  endif()
  string(APPEND text "  }\n")
endmacro()

function(emit_java output)
  set(type_of_SUMS double)
  set(type_of_COUNTS int64_t)
  set(text "// Generated by native/abi/generate.cmake from the headers in native/include; changes here are lost.
package io.github.yololoss.internal;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.foreign.StructLayout;
import java.util.List;

/** The structs and constants of {@code yololoss.h} and {@code yololoss_dlpack.h}. */
public final class Abi {
")
  foreach(constant IN LISTS constants)
    string(APPEND text "  public static final int ${constant} = ${${constant}_value};\n")
  endforeach()
  set(layouts "")
  foreach(struct IN LISTS structs)
    camel_case(${struct} class)
    list(APPEND layouts ${class}.LAYOUT)
  endforeach()
  list(JOIN layouts ", " layouts)
  string(APPEND text "
  private Abi() {}

  /** All structs, for the test that compares them with the library that is loaded. */
  public static List<StructLayout> layouts() {
    return List.of(${layouts});
  }
")
  foreach(struct IN LISTS structs)
    emit_java_struct()
  endforeach()
  write_if_changed(${output}/java/io/github/yololoss/internal/Abi.java "${text}}\n")
endfunction()
