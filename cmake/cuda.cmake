# The plugin with the CUDA kernels, fovea_cuda.so beside the addon. It links the CUDA runtime statically and nothing of
# NVIDIA's else, so that it loads on a machine without a driver.
#
#   FOVEA_CUDA               AUTO: where nvcc is found; ON: fail without it; OFF
#   FOVEA_CUDA_ARCHITECTURES what the kernels are compiled for (default: the GPU that is here, else sm_80 with PTX);
#                            files named *_sm90.cu are always for sm_90a alone
include(CheckLanguage)

if(FOVEA_CUDA STREQUAL "OFF" OR FOVEA_SANITIZE)
  return()
endif()
# The GPU that is here, or else what every newer one can run, too (sm_80 and its PTX). Set before the language is
# enabled, since enabling it compiles a test for these.
set(architectures ${FOVEA_CUDA_ARCHITECTURES})
if(NOT architectures)
  execute_process(COMMAND nvidia-smi -L OUTPUT_VARIABLE gpus ERROR_QUIET RESULT_VARIABLE status)
  if(status EQUAL 0 AND gpus MATCHES "GPU")
    set(architectures native)
  else()
    set(architectures 80)
  endif()
endif()
set(CMAKE_CUDA_ARCHITECTURES ${architectures})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(FOVEA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "fovea: FOVEA_CUDA is ON, but there is no nvcc; install the CUDA toolkit (12.5 or newer) or set CUDACXX")
  endif()
  message(STATUS "fovea: no nvcc, so no CUDA kernels")
  return()
endif()
enable_language(CUDA)
# CMake 3.25 does not know that nvcc takes it.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)

fovea_sources(cuda_sources cuda)
# Those that must give the same bits as the CPU do not fuse multiply and add either.
fovea_sources(exact_cuda_sources exactCuda)
fovea_json_list(exact_cuda_flags exactCudaFlags)
set_source_files_properties(${exact_cuda_sources} PROPERTIES COMPILE_OPTIONS "${exact_cuda_flags}")
set(sm90_sources ${cuda_sources})
list(FILTER sm90_sources INCLUDE REGEX "_sm90\\.cu$")
list(FILTER cuda_sources EXCLUDE REGEX "_sm90\\.cu$")

function(fovea_configure_cuda target)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden
                                             CUDA_STANDARD 20 CUDA_EXTENSIONS OFF)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/native)
  target_compile_definitions(${target} PRIVATE FOVEA_VERSION="${FOVEA_VERSION}")
  target_compile_options(${target} PRIVATE -O3 --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra
                                           ${FOVEA_CUDA_FLAGS})
endfunction()

add_library(fovea_cuda SHARED ${cuda_sources})
fovea_configure_cuda(fovea_cuda)
if(sm90_sources)
  add_library(fovea_cuda_sm90 OBJECT ${sm90_sources})
  fovea_configure_cuda(fovea_cuda_sm90)
  set_target_properties(fovea_cuda_sm90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
  target_sources(fovea_cuda PRIVATE $<TARGET_OBJECTS:fovea_cuda_sm90>)
endif()
set_target_properties(fovea_cuda PROPERTIES PREFIX "" SUFFIX ".so")
if(CMAKE_LIBRARY_OUTPUT_DIRECTORY)
  set_target_properties(fovea_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
else()
  set_target_properties(fovea_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/Release)
endif()
target_link_options(fovea_cuda PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -s)
