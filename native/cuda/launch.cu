#include <cstdarg>
#include <cstdio>

#include "core/check.h"
#include "cuda/kernel.h"

namespace fovea::cuda {

void CudaCall::fail(const char* code, const char* format, ...) const {
  char text[512];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof text, format, list);
  va_end(list);
  throw Error(code, text);
}

void CudaCall::fill_zero(void* at, size_t bytes) const {
  if (bytes == 0) return;
  if (cudaError_t status = cudaMemsetAsync(at, 0, bytes, stream); status != cudaSuccess)
    fail("FOVEA_KERNEL_FAILED", "the device refused to clear memory: %s", cudaGetErrorString(status));
}

#if defined(__CUDACC__)
void CudaCall::launch_compiled(const void* kernel, const Config& config, void** arguments) const {
  constexpr size_t kAlways = 48u << 10;  // more has to be asked for, per kernel
  cudaError_t status = cudaSuccess;
  if (config.shared > kAlways)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(config.shared));
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {unsigned(config.cluster), 1, 1};
  cudaLaunchConfig_t launch = {};
  launch.gridDim = config.grid, launch.blockDim = config.block, launch.dynamicSmemBytes = config.shared;
  launch.stream = stream, launch.attrs = &cluster, launch.numAttrs = config.cluster > 1 ? 1 : 0;
  if (status == cudaSuccess) status = cudaLaunchKernelExC(&launch, kernel, arguments);
  if (status != cudaSuccess)
    fail("FOVEA_KERNEL_FAILED", "the device refused the launch: %s", cudaGetErrorString(status));
}
#endif

}  // namespace fovea::cuda
