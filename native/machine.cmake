# Answers questions about the machine: whether it has a GPU, the widest instruction set of its processor, and the name
# that Java has for the platform of the library. CMakeLists.txt asks them when it configures a build.

# Sets the variable to ON if this machine has an NVIDIA GPU and its driver. /dev/dxg is what Windows gives its Linux
# subsystem for any GPU, so there, and on other systems, nvidia-smi decides.
function(yololoss_find_gpu variable)
  set(found OFF)
  if(EXISTS /proc/driver/nvidia/version OR EXISTS /dev/nvidia0)
    set(found ON)
  else()
    find_program(YOLOLOSS_NVIDIA_SMI nvidia-smi)
    mark_as_advanced(YOLOLOSS_NVIDIA_SMI)
    if(YOLOLOSS_NVIDIA_SMI)
      execute_process(COMMAND ${YOLOLOSS_NVIDIA_SMI} -L OUTPUT_VARIABLE gpus ERROR_QUIET)
      if(gpus MATCHES "GPU [0-9]+:")
        set(found ON)
      endif()
    endif()
  endif()
  set(${variable} ${found} PARENT_SCOPE)
endfunction()

# Sets the variable to the widest instruction set that code of this library has for this machine's processor.
function(yololoss_find_widest_isa variable)
  if(CMAKE_CROSSCOMPILING)
    message(FATAL_ERROR "YOLOLOSS_ISAS is NATIVE, but this build is for another machine; ALL is expected")
  endif()
  try_run(status compiled ${PROJECT_BINARY_DIR}/widest_isa ${PROJECT_SOURCE_DIR}/native/widest_isa.cpp
    CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}/native/src"
    COMPILE_OUTPUT_VARIABLE messages RUN_OUTPUT_VARIABLE isa)
  if(NOT compiled OR NOT status EQUAL 0)
    message(FATAL_ERROR
      "native/widest_isa.cpp did not compile or run; YOLOLOSS_ISAS=ALL does without\n${messages}${isa}")
  endif()
  set(${variable} ${isa} PARENT_SCOPE)
endfunction()

# Sets the variable to the platform that the library is built for, as NativeLibrary.java computes it from os.name and
# os.arch: linux-x86_64, linux-aarch64.
function(yololoss_platform variable)
  string(TOLOWER "${CMAKE_SYSTEM_NAME}" os)
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" arch)
  if(arch STREQUAL "amd64")
    set(arch x86_64)
  elseif(arch STREQUAL "arm64")
    set(arch aarch64)
  endif()
  set(${variable} ${os}-${arch} PARENT_SCOPE)
endfunction()
