// Descriptions of tiled tensors for the copy engine of sm_90 (TMA), made on the host.
//
// A kernel takes one as `const __grid_constant__ TensorMap map` and hands its address to tma_load_2d() and the like
// (cuda/ptx.h). https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TENSOR__MEMORY.html
#pragma once
#include <initializer_list>

#include "core/dtype.h"
#include "cuda/kernel.h"
#if defined(__CUDACC__)
#include <cuda.h>
#endif

namespace fovea::cuda {

constexpr int kTensorMapRank = 4;
// A row of a tile spans exactly the 128 bytes over which the swizzle permutes 16-byte chunks.
constexpr uint32_t kSwizzleBytes = 128;

struct alignas(128) TensorMap {
#if defined(__CUDACC__)
  CUtensorMap map;
#else
  std::byte* base;
  int rank;
  uint32_t element_bytes;
  uint64_t sizes[kTensorMapRank], strides[kTensorMapRank];  // strides in bytes, innermost first
  uint32_t box[kTensorMapRank];
#endif
};

// A tensor of up to 4 axes, innermost first, whose innermost elements are adjacent. `strides_in_bytes` are those of the
// other axes: multiples of 16. `base` is 16-byte aligned, too. `box` is the tile that one instruction moves: its
// innermost axis spans 128 bytes, the others at most 256 elements each. In shared memory tiles are swizzled (128 bytes)
// and 1024-byte aligned. Loads beyond the tensor give zeros, stores there are dropped. call.fail() for what the device
// refuses.
TensorMap tensor_map(const CudaCall& call, Dtype dtype, const void* base, std::initializer_list<uint64_t> sizes,
                     std::initializer_list<uint64_t> strides_in_bytes, std::initializer_list<uint32_t> box);

}  // namespace fovea::cuda
