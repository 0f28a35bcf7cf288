// What the launcher of a CUDA kernel gets, and how a file of kernels offers them.
//
// A launcher is host code: it checks what the CPU kernel of the op checks (same codes, same words), picks a grid and
// calls launch(). It never waits, never allocates and never touches the data; what the kernel itself finds wrong in the
// data it reports through a Fault. The same sources compile with nvcc and, on a machine without a GPU, against the
// emulator (native/test/emulator), which runs every CUDA thread as a fibre. Hence three rules for kernels:
//   - shared memory is dynamic only and comes from shared_memory(), its bytes named in Config::shared;
//   - instructions beyond CUDA C++ (ldmatrix, mma, cp.async, TMA, wgmma) are called through cuda/ptx.h;
//   - nothing depends on the order in which threads or blocks run, except through barriers and atomics.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "core/arithmetic.h"
#include "core/attrs.h"
#include "core/gpu.h"
#include "core/kernel.h"

namespace fovea::cuda {

// What a launcher may ask of the device it launches on.
struct DeviceLimits {
  int capability;       // 80 for sm_80, 90 for sm_90, ...
  int multiprocessors;  // for the size of grids that loop
  size_t shared_bytes;  // dynamic shared memory that one block may ask for
  size_t l2_bytes;
};

// Reads of what the op computed then reject with the message that may_fail() was given.
__device__ inline void raise(Fault* fault, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
  fault->value[0] = a;
  fault->value[1] = b;
  fault->value[2] = c;
  fault->raised = 1;
}

struct Config {
  dim3 grid, block;
  size_t shared = 0;  // bytes of dynamic shared memory
  int cluster = 1;    // blocks per cluster along x, sm_90 only
};

struct CudaCall {
  Views in, out;
  std::byte* workspace;  // as many bytes as the entry's `workspace` asked for, 64-byte aligned, not initialised
  const char* op;        // its name, for messages
  const DeviceLimits& device;
  cudaStream_t stream;
  Fault* fault;             // of this call, not raised
  const char** fault_code;  // what may_fail() sets
  const char** fault_message;

  // The launcher refuses the call: the op's outputs are poisoned with "<op>: <message>". printf-style.
  [[noreturn]] void fail(const char* code, const char* format, ...) const __attribute__((format(printf, 3, 4)));
  // Names the failure that the kernel may raise; `format` has at most three %lld, filled with what raise() was given.
  Fault* may_fail(const char* code, const char* format) const {
    *fault_code = code, *fault_message = format;
    return fault;
  }
  template <class T>
  T* scratch(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(workspace + byte_offset);
  }
  // kernel<<<config>>>(arguments...) on the call's stream. A grid without blocks launches nothing.
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), const Config& config, Arguments... arguments) const {
    if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return;
#if defined(__CUDACC__)
    std::tuple<std::decay_t<Parameters>...> values(static_cast<std::decay_t<Parameters>>(arguments)...);
    std::apply(
        [&](auto&... value) {
          void* pointers[] = {static_cast<void*>(&value)..., nullptr};
          launch_compiled(reinterpret_cast<const void*>(kernel), config, pointers);
        },
        values);
#else
    emulator::launch(config.grid, config.block, config.shared, config.cluster, [=] { kernel(arguments...); });
#endif
  }
  void fill_zero(void* at, size_t bytes) const;  // on the stream

 private:
  void launch_compiled(const void* kernel, const Config& config, void** arguments) const;
};

// What a family offers for one op. `workspace`: bytes from the checked views, nullptr for none.
struct CudaEntry {
  const char* name;
  void (*launch)(const CudaCall&, const void* attrs);
  size_t (*workspace)(Views in, Views out, const void* attrs, const DeviceLimits&);
};

// A family's cuda.cu ends, outside of its anonymous namespace but inside fovea::cuda, with
//   FOVEA_CUDA_KERNELS(norm, FOVEA_CUDA_KERNEL("rmsNorm", rms_norm, LayerNormAttrs),
//                      FOVEA_CUDA_KERNEL_WITH("rmsNormBackward", rms_norm_backward, NoAttrs, norm_workspace))
// where rms_norm is void(const CudaCall&, const LayerNormAttrs&) and
// norm_workspace is size_t(Views in, Views out, const void* attrs, const DeviceLimits&).
#define FOVEA_CUDA_KERNEL_WITH(name, function, Attrs, workspace)     \
  ::fovea::cuda::CudaEntry {                                         \
    name,                                                            \
        [](const ::fovea::cuda::CudaCall& call, const void* attrs) { \
          function(call, *static_cast<const Attrs*>(attrs));         \
        },                                                           \
        workspace                                                    \
  }
#define FOVEA_CUDA_KERNEL(name, function, Attrs) FOVEA_CUDA_KERNEL_WITH(name, function, Attrs, nullptr)
#define FOVEA_CUDA_KERNELS(family, ...)                          \
  extern const ::fovea::cuda::CudaEntry family##_cuda_kernels[]; \
  const ::fovea::cuda::CudaEntry family##_cuda_kernels[] = {__VA_ARGS__, {nullptr, nullptr, nullptr}};

// The block's dynamic shared memory, 1024-byte aligned.
__device__ inline std::byte* shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) std::byte fovea_shared[];
  return fovea_shared;
#else
  return emulator::shared_memory();
#endif
}
template <class T>
__device__ inline T* shared_memory_as(size_t byte_offset = 0) {
  return reinterpret_cast<T*>(shared_memory() + byte_offset);
}

}  // namespace fovea::cuda
