# The CUDA kernels for a machine without a GPU: the same sources compiled as C++ against the emulator
# (native/test/emulator), as a plugin that the addon can open (Release/fovea_cuda.so) and as a program of tests.
fovea_sources(emulated_sources cuda)
file(GLOB emulator_sources CONFIGURE_DEPENDS native/test/emulator/*.cc)
set(emulator_tests ${emulator_sources})
list(FILTER emulator_tests INCLUDE REGEX "_test\\.cc$")
list(FILTER emulator_sources EXCLUDE REGEX "_test\\.cc$")
set(emulator_harness ${emulator_sources})
list(FILTER emulator_harness INCLUDE REGEX "/harness_[a-z]+\\.cc$")
list(FILTER emulator_sources EXCLUDE REGEX "/harness_[a-z]+\\.cc$")
set_source_files_properties(${emulated_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++;-Wno-unknown-pragmas")
fovea_sources(emulated_exact exactCuda)
set_property(SOURCE ${emulated_exact} APPEND PROPERTY COMPILE_OPTIONS ${exact_flags})

add_library(fovea_emulated OBJECT ${emulated_sources} ${emulator_sources})
fovea_configure(fovea_emulated)
target_include_directories(fovea_emulated BEFORE PRIVATE ${PROJECT_SOURCE_DIR}/native/test/emulator)
# Thousands of fibres: optimised for the time of compiling more than for that of running.
target_compile_options(fovea_emulated PRIVATE -O1 -fno-strict-aliasing)

add_library(fovea_cuda_emulated SHARED $<TARGET_OBJECTS:fovea_emulated>)
fovea_configure(fovea_cuda_emulated)
set_target_properties(fovea_cuda_emulated PROPERTIES PREFIX "" SUFFIX ".so" OUTPUT_NAME fovea_cuda
                                                     LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/Release)

enable_testing()
add_executable(fovea_emulator_tests ${emulator_tests} ${emulator_harness} native/test/main.cc
                                    $<TARGET_OBJECTS:fovea_emulated> $<TARGET_OBJECTS:fovea_once>
                                    ${FOVEA_KERNEL_OBJECTS})
fovea_configure(fovea_emulator_tests)
target_include_directories(fovea_emulator_tests BEFORE PRIVATE ${PROJECT_SOURCE_DIR}/native/test/emulator)
target_compile_definitions(fovea_emulator_tests PRIVATE ${FOVEA_HAVE})
fovea_add_tests(fovea_emulator_tests)
