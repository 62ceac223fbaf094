# Checks that no code compiled for a wider instruction set can run on a processor without it.
#
# If two objects define the same inline function or template instance, the linker keeps one copy for both. If that were
# the copy compiled for AVX-512, other processors would stop with SIGILL. So each symbol that an object of one
# instruction set defines for the linker must belong to that set: the namespace yl::<isa> is its scope or occurs in a
# template argument. The one exception is the object's entry, an ordinary function. It is defined once, or the link
# would fail, and it is called only if cpu/isa.cpp has found the instruction set usable.
#
#   NM       program
#   ISAS     names of the instruction sets
#   CELLS    the object compiled for each of them, in the same order
#   OTHERS   the other objects of the library

# Sets the variable to the symbols that the object defines for the linker, each as TYPE:NAME. The types are nm's:
# lower case is local, except for u (unique), v and w (weak).
function(linked_symbols variable object)
  execute_process(COMMAND ${NM} --defined-only --format=posix ${object}
    OUTPUT_VARIABLE lines COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n ]+ [A-Zuvw] " found "${lines}")
  list(TRANSFORM found REPLACE "^(.*) (.) $" "\\2:\\1")
  set(${variable} ${found} PARENT_SCOPE)
endfunction()

set(faults "")
foreach(object IN LISTS OTHERS)
  cmake_path(GET object FILENAME file)
  linked_symbols(symbols ${object})
  foreach(symbol IN LISTS symbols)
    string(SUBSTRING ${symbol} 2 -1 symbol)
    set(owner_${symbol} ${file})
  endforeach()
endforeach()
foreach(isa object IN ZIP_LISTS ISAS CELLS)
  cmake_path(GET object FILENAME file)
  linked_symbols(symbols ${object})
  string(LENGTH ${isa} length)  # a mangled name is preceded by its length
  set(entries "")
  foreach(symbol IN LISTS symbols)
    string(SUBSTRING ${symbol} 0 1 type)
    string(SUBSTRING ${symbol} 2 -1 symbol)
    if(DEFINED owner_${symbol})
      string(APPEND faults "${symbol} is defined in ${file} and in ${owner_${symbol}}\n")
    endif()
    set(owner_${symbol} ${file})
    if(symbol MATCHES "[^0-9]${length}${isa}")
      continue()
    elseif(type STREQUAL "T")
      list(APPEND entries ${symbol})
    else()
      string(APPEND faults "${symbol} (${type}) in ${file} does not belong to namespace yl::${isa}\n")
    endif()
  endforeach()
  list(LENGTH entries count)
  if(NOT count EQUAL 1)
    string(APPEND faults "${file} defines ${count} functions outside of yl::${isa}, 1 is expected: ${entries}\n")
  endif()
  list(LENGTH symbols count)
  message(STATUS "${isa}: ${count} symbols, entry ${entries}")
endforeach()
if(faults)
  message(FATAL_ERROR "${faults}Move these functions into the inline namespace YL_ISA, or give them internal linkage.")
endif()
