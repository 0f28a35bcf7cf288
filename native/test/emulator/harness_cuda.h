// Runs the CUDA kernel of an op on the emulator: test/harness.h for device kernels.
//
//   Tensor x = Tensor::random(Dtype::f16, {3, 17}, 1), y(Dtype::f16, {3, 17});
//   run_cuda("softmax", SoftmaxAttrs{}, {&x}, {&y});
//   FOVEA_CHECK(code_of([&] { run_cuda("gather", GatherAttrs{}, {&x, &bad}, {&y}); }) == "FOVEA_INDEX", "accepted");
#pragma once
#include "test/harness.h"

namespace fovea::test {

// nullptr stands for an optional input that is not given. `capability`: 80, 86, 90, ...; 0 is what
// FOVEA_EMULATOR_CAPABILITY says, 90 by default. `multiprocessors`: what the launcher is told. Throws the Error of a
// launcher that refuses and that of a fault that the kernel raised, as "<op>: <message>". Checks red zones of all
// tensors and of the workspace.
void run_cuda_kernel(const char* name, const void* attrs, const std::vector<Tensor*>& in,
                     const std::vector<Tensor*>& out, int capability, int multiprocessors);
template <class Attrs>
void run_cuda(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in, const std::vector<Tensor*>& out,
              int capability = 0, int multiprocessors = 4) {
  run_cuda_kernel(name, &attrs, in, out, capability, multiprocessors);
}
// RunOn of test/harness.h for a device.
struct RunCuda {
  int capability = 0;
  template <class Attrs>
  void operator()(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    run_cuda(name, attrs, in, out, capability);
  }
  std::string where() const { return capability ? "sm_" + std::to_string(capability) : "the emulator"; }
};

}  // namespace fovea::test
