// What the kernels of this family share on the device: checked indices, threads over rows, and the launchers of the ops
// by file.
#pragma once
#include "core/ragged.h"
#include "cuda/convert.h"
#include "cuda/index.h"
#include "ops/indexing/attrs.h"

namespace fovea::cuda {

// cuda_scatter.cu
void scatter(const CudaCall& call, const NoAttrs&);
void scatter_add(const CudaCall& call, const NoAttrs&);
size_t scatter_workspace(Views in, Views out, const void* attrs, const DeviceLimits& device);
size_t scatter_add_workspace(Views in, Views out, const void* attrs, const DeviceLimits& device);
// cuda_add.cu
void embedding_backward(const CudaCall& call, const RowsAttrs& attrs);
void index_add(const CudaCall& call, const NoAttrs&);
size_t embedding_backward_workspace(Views in, Views out, const void* attrs, const DeviceLimits& device);
size_t index_add_workspace(Views in, Views out, const void* attrs, const DeviceLimits& device);
// cuda_nonzero.cu
void count_nonzero(const CudaCall& call, const NoAttrs&);
void nonzero(const CudaCall& call, const NonzeroAttrs& attrs);
size_t nonzero_workspace(Views in, Views out, const void* attrs, const DeviceLimits& device);

// Reads and checks indices of any integer type.
struct CheckedIndices {
  const std::byte* data;
  Dtype dtype;
  int64_t size;  // of the axis
  Fault* fault;

  // At an element offset. An index outside of its axis is reported, and -1 here.
  __device__ int64_t operator()(int64_t offset) const {
    const int64_t index = integer_at(data, dtype, offset);
    if (uint64_t(index) < uint64_t(size)) return index;
    raise(fault, index, size);
    return -1;
  }
};

namespace {

inline CheckedIndices ids_of(const CudaCall& call, const View& ids, int64_t rows) {
  constexpr auto* kMessage = "ids holds %lld, out of range for an axis of %lld; indices run from 0 to size - 1";
  return {ids.data, ids.dtype, rows, call.may_fail("FOVEA_INDEX", kMessage)};
}
inline CheckedIndices index_of(const CudaCall& call, const View& index, int64_t size) {
  constexpr auto* kMessage = "index holds %lld, out of range for an axis of %lld; indices run from 0 to size - 1";
  return {index.data, index.dtype, size, call.may_fail("FOVEA_INDEX", kMessage)};
}

// What only moves is taken as integers as wide as an element.
template <class Body>
void dispatch_width(Dtype dtype, Body&& body) {
  switch (kDtypeBytes[int(dtype)]) {
    case 1: return body(uint8_t{});
    case 2: return body(uint16_t{});
    case 4: return body(uint32_t{});
    default: return body(uint64_t{});
  }
}

// v without one of its axes, the last by default.
inline View without_axis(const View& v, int axis = -1) {
  View rest = v;
  rest.rank = 0;
  for (int d = 0; d < v.rank; d++)
    if (d != (axis + v.rank) % v.rank) rest.shape[rest.rank] = v.shape[d], rest.strides[rest.rank++] = v.strides[d];
  return rest;
}

// ---- threads for rows: x along a row, kPerRowThread of its elements each, y beside each other

constexpr int kRowThreads = 256, kPerRowThread = 4;

inline Config rows_config(int64_t rows, int64_t length) {
  int along = 1;
  while (along < kRowThreads && along * kPerRowThread < length) along *= 2;
  const int beside = kRowThreads / along;
  constexpr int64_t kMostX = 0x7fffffff, kMostY = 65535;
  return {.grid = dim3(unsigned(min_of(ceil_div(rows, beside), kMostX)),
                       unsigned(min_of(ceil_div(length, along * kPerRowThread), kMostY))),
          .block = dim3(unsigned(along), unsigned(beside))};
}
__device__ inline int64_t first_row() { return int64_t(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ inline int64_t row_step() { return int64_t(gridDim.x) * blockDim.y; }
// The thread's elements are first, first + blockDim.x, ..., kPerRowThread of them, then again `along_step()` later.
__device__ inline int64_t first_along() { return int64_t(blockIdx.y) * blockDim.x * kPerRowThread + threadIdx.x; }
__device__ inline int64_t along_step() { return int64_t(gridDim.y) * blockDim.x * kPerRowThread; }

}  // namespace
}  // namespace fovea::cuda
