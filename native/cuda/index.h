// From the number of an element to its place in a strided view, for kernels that take views of any strides.
#pragma once
#include "core/view.h"
#include "cuda/kernel.h"

namespace fovea::cuda {

// The layout of up to `kViews` views of one shape, with axes merged where all of them allow it. Passed by value.
template <int kViews>
struct Layout {
  int rank = 0;
  int64_t size = 1;
  int64_t shape[kMaxRank];
  int64_t strides[kViews][kMaxRank];  // in elements

  // Where element `i`, counted row-major, lies in each view.
  __device__ void offsets(int64_t i, int64_t (&at)[kViews]) const {
    for (int v = 0; v < kViews; v++) at[v] = 0;
    for (int d = rank - 1; d > 0; d--) {
      int64_t rest = i / shape[d], index = i - rest * shape[d];
      for (int v = 0; v < kViews; v++) at[v] += index * strides[v][d];
      i = rest;
    }
    if (rank > 0)
      for (int v = 0; v < kViews; v++) at[v] += i * strides[v][0];
  }
  // Whether every view is one dense row.
  bool dense() const {
    if (rank > 1) return false;
    for (int v = 0; v < kViews; v++)
      if (rank == 1 && strides[v][0] != 1) return false;
    return true;
  }
};

// All views have the shape of the first. Axes of one element go, and neighbours merge where every view steps evenly.
template <class... Others>
Layout<1 + int(sizeof...(Others))> layout_of(const View& first, const Others&... others) {
  constexpr int views = 1 + int(sizeof...(Others));
  const View* all[] = {&first, &others...};
  Layout<views> layout;
  for (int d = 0; d < first.rank; d++) {
    layout.size *= first.shape[d];
    if (first.shape[d] == 1) continue;
    int last = layout.rank - 1;
    bool merges = last >= 0;
    for (int v = 0; v < views && merges; v++) merges = layout.strides[v][last] == all[v]->strides[d] * first.shape[d];
    if (!merges) last = layout.rank++, layout.shape[last] = 1;
    layout.shape[last] *= first.shape[d];
    for (int v = 0; v < views; v++) layout.strides[v][last] = all[v]->strides[d];
  }
  return layout;
}

// Blocks for a kernel whose threads loop over n items, `per_thread` at a time.
inline unsigned blocks_for(int64_t n, int threads, const DeviceLimits& device, int64_t per_thread = 1) {
  int64_t wanted = ceil_div(n, threads * per_thread), most = int64_t(device.multiprocessors) * 16;
  return unsigned(min_of(wanted, most));
}
// The first item and the step of such a loop.
__device__ inline int64_t first_item() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t item_step() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace fovea::cuda
