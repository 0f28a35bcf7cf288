// Sums over sources that share a target, in an order that does not depend on timing: targets are sorted, stably, with
// the positions of their sources, and whoever holds the first of equal targets adds them up. Kernels in cuda_sorted.cu.
#pragma once
#include "ops/indexing/cuda_kernels.h"
#include "ops/sorting/cuda_order.h"

namespace fovea::cuda {

// ---- sorted targets

// Rows of sorted targets and the positions of their sources, both [rows, length]. Targets of `none` and above have no
// place: their index was out of range, or nothing is wanted there.
struct SortedTargets {
  const uint64_t* targets;
  const int64_t* positions;
  int64_t length;
  uint64_t none;
};
// A run of equal targets that is longer than this is shared by several warps or lanes.
constexpr int64_t kLongRun = 32;

// Rows of indices to sort.
struct TargetRows {
  CheckedIndices index;
  Layout<1> rows;
  int64_t first, count;  // the rows that are wanted
  int64_t length, step;
  int64_t unwanted;  // this target is as good as out of range
};
struct TargetScratch {
  SortScratch<uint64_t> sort;
  SortOutput<uint64_t> sorted;
  uint64_t* unsorted;
};
// `size`: of the axis that is indexed.
TargetScratch carve_targets(Carver& carver, int64_t rows, int64_t length, int64_t size);
SortedTargets sort_targets(const CudaCall& call, const TargetRows& rows, const TargetScratch& scratch);

// ---- adding element by element: y[row, target] += the sum of src[row, position]

template <class T>
struct ElementRuns {
  SortedTargets sorted;
  int64_t sorted_step;  // from one row's sorted targets to the next; 0: all rows share them
  T* y;
  const T* src;
  Layout<2> rows;        // of y and src
  int64_t first, count;  // the rows that are wanted
  int64_t y_step, src_step;
};
template <class T>
void add_elements(const CudaCall& call, const ElementRuns<T>& runs);

// ---- types that can be added: integers as unsigned, so that overflow wraps

template <class Body>
void dispatch_add(Dtype dtype, Body&& body) {
  switch (dtype) {
    case Dtype::i32: return body(uint32_t{});
    case Dtype::i64: return body(uint64_t{});
    case Dtype::u8:
    case Dtype::i8: return body(uint8_t{});
    default: return dispatch_float(dtype, body);
  }
}
// Integers with atomic instructions need no order.
inline bool adds_atomically(Dtype dtype) { return dtype == Dtype::i32 || dtype == Dtype::i64; }
__device__ inline void add_atomically(uint32_t* to, uint32_t value) { atomicAdd(to, value); }
__device__ inline void add_atomically(uint64_t* to, uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

}  // namespace fovea::cuda
