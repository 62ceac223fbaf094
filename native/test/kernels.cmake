# Checks what no run on the host can show about the CUDA kernels: that each uses no more registers and local memory than
# kernels.txt allows, on every architecture that is built; that the gradient is written by 16-byte stores; that floats
# are not approximated; and that the assembler, which comes after the PTX, finds no product and sum to fuse.
#
#   OBJECTS         the kernels' objects; native/ptxas-report.sh has stored the compiler's report next to each
#   ARCHITECTURES   CMAKE_CUDA_ARCHITECTURES
#   PTX             the kernels as PTX
#   CXXFILT         program

# ---- Registers and local memory --------------------------------------------------------------------------------------

set(report "")
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${CXXFILT} INPUT_FILE ${object}.report OUTPUT_VARIABLE demangled COMMAND_ERROR_IS_FATAL ANY)
  string(APPEND report "${demangled}")
endforeach()

file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/kernels.txt rows REGEX "^ *[0-9]")

set(faults "")
set(architectures "")
string(CONCAT entry "Compiling entry function '([^'\n]*)' for '([^'\n]*)'\n[^\n]*Function properties for [^\n]*\n"
  " *([0-9]+) bytes stack[^\n]*\n[^\n]*Used ([0-9]+) registers")
string(REGEX MATCHALL "${entry}" kernels "${report}")
foreach(kernel IN LISTS kernels)
  string(REGEX MATCH "${entry}" kernel "${kernel}")
  set(function "${CMAKE_MATCH_1}")
  set(arch ${CMAKE_MATCH_2})
  set(local ${CMAKE_MATCH_3})
  set(registers ${CMAKE_MATCH_4})
  string(REGEX MATCH "([a-z_]+_kernel(<.*>)?)\\(" name "${function}")
  set(name "${CMAKE_MATCH_1}")
  message(STATUS "${arch} ${name}: ${registers} registers, ${local} bytes of local memory")
  list(APPEND architectures ${arch})

  set(matches 0)
  foreach(row IN LISTS rows)
    string(REGEX MATCH "^ *([0-9]+) +([0-9]+|-) +([0-9]+|-) +(.*)$" row "${row}")
    set(most_registers ${CMAKE_MATCH_2})
    set(most_local ${CMAKE_MATCH_3})
    set(pattern "${CMAKE_MATCH_4}")
    if(name MATCHES "^${pattern}$")
      math(EXPR matches "${matches} + 1")
      math(EXPR "instances_${arch}_${pattern}" "0${instances_${arch}_${pattern}} + 1")
      if(NOT most_registers STREQUAL "-" AND registers GREATER most_registers)
        string(APPEND faults "${arch} ${name} uses ${registers} registers, kernels.txt allows ${most_registers}\n")
      endif()
      if(NOT most_local STREQUAL "-" AND local GREATER most_local)
        string(APPEND faults "${arch} ${name} uses ${local} bytes of local memory, kernels.txt allows ${most_local}\n")
      endif()
    endif()
  endforeach()
  if(NOT matches EQUAL 1)
    string(APPEND faults "${arch} ${function} matches ${matches} lines of kernels.txt, expected 1\n")
  endif()
endforeach()

# 90 and 90-real are compiled to machine code and reported; 90-virtual is not.
foreach(arch IN LISTS ARCHITECTURES)
  if(arch MATCHES "^([0-9]+[af]?)(-real)?$")
    list(APPEND architectures sm_${CMAKE_MATCH_1})
  endif()
endforeach()
list(REMOVE_DUPLICATES architectures)
if(NOT architectures)
  string(APPEND faults "the reports next to ${OBJECTS} have no kernels\n")
endif()
foreach(arch IN LISTS architectures)
  foreach(row IN LISTS rows)
    string(REGEX MATCH "^ *([0-9]+) +[^ ]+ +[^ ]+ +(.*)$" row "${row}")
    set(found "0${instances_${arch}_${CMAKE_MATCH_2}}")
    if(NOT found EQUAL CMAKE_MATCH_1)
      math(EXPR found "${found}")
      string(APPEND faults "${arch} has ${found} kernels ${CMAKE_MATCH_2}, kernels.txt expects ${CMAKE_MATCH_1}\n")
    endif()
  endforeach()
endforeach()
if(faults)
  message(FATAL_ERROR "${faults}")
endif()

# ---- PTX -------------------------------------------------------------------------------------------------------------

foreach(ptx IN LISTS PTX)
  if(ptx MATCHES "/cells_")
    file(READ ${ptx} text)
    string(REGEX MATCHALL "st\\.global\\.v4\\.u32" wide "${text}")
    list(LENGTH wide stores)
    if(stores LESS 90)  # nine in each of ten kernels for rows
      message(FATAL_ERROR "${ptx} has ${stores} stores of 16 bytes, by which gradients are written; expected 90")
    endif()
  endif()
  # Floats need no approximation, so that their bits are the same on every GPU.
  file(STRINGS ${ptx} approximate REGEX "approx[a-z.]*\\.f32")
  if(approximate)
    list(GET approximate 0 first)
    message(FATAL_ERROR "${ptx} has approximations of float (see elementary.h), as in: ${first}")
  endif()
  # ptxas fuses mul.f32 and add.f32, but neither mul.rn.f32 nor add.rn.f32. Whether it does depends on the kernel.
  file(STRINGS ${ptx} fusible REGEX "(mul|add|sub)\\.(ftz\\.)?f(32|64)")
  if(fusible)
    list(GET fusible 0 first)
    message(FATAL_ERROR "${ptx} has sums or products that may be fused (compile with -fmad=false), as in: ${first}")
  endif()
endforeach()
