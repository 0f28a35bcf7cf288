// The best k of a slice of a long row, for k that is small next to a block's threads.
//
// Every thread finds the best of its own elements. The k-th best of those bounds what can be among the best k, and lets
// little else pass, so that the second reading keeps a short list of candidates, which is sorted. Data that defeats
// this (the best elements all belong to few threads) makes the list too long; the bound is then bisected.
#pragma once
#include "ops/sorting/cuda_block.h"

namespace fovea::cuda {
namespace {

constexpr int kSelectThreads = 512, kCandidates = 2048;
constexpr int64_t kMostSelected = kSelectThreads / 2, kSliceLength = 8192;

// Into how many slices rows are cut for selection; 0: sort them instead.
inline int64_t topk_slices(int64_t rows, int64_t n, int64_t k, const DeviceLimits& device) {
  if (k > kMostSelected || n > int64_t(UINT32_MAX)) return 0;
  const int64_t per_row = ceil_div(4 * int64_t(device.multiprocessors), max_of(rows, 1));
  return clamp_to(n / kSliceLength, 1, min_of(per_row, kCandidates / k));
}

template <class Raw>
struct Slice {
  const Raw* x;
  int64_t stride;
  uint32_t length;
  SortOrder<Raw> order;

  // body(item) for the elements of this thread.
  template <class Body>
  __device__ void each(Body body) const {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < length; i += kSelectThreads) body(item_of(order.key(x[i * stride]), uint32_t(i)));
  }
  // How many items are up to `limit`. `sums`: shared, one per warp.
  __device__ int64_t count(SortItem<Raw> limit, int64_t* sums) const {
    int64_t mine = 0, total;
    each([&](SortItem<Raw> item) { mine += item <= limit; });
    exclusive_sum(mine, sums, total);
    return total;
  }
  // Some limit that between k and kCandidates items are up to; at least k are up to `high`.
  __device__ SortItem<Raw> bisect(SortItem<Raw> high, int64_t k, int64_t* sums) const {
    SortItem<Raw> low = 0;
    while (low < high) {
      const SortItem<Raw> middle = low + ((high - low) >> 1);
      const int64_t up_to = count(middle, sums);
      if (up_to < k) low = middle + 1;
      else high = middle;
      if (up_to >= k && up_to <= kCandidates) break;
    }
    return high;
  }
};

template <class Raw>
struct SelectShared {
  SortItem<Raw> items[kCandidates];
  int64_t sums[kSelectThreads / 32];
  unsigned count;
};
// Fills the shared items with those up to `limit`, and returns how many there are, be it too many.
template <class Raw>
__device__ unsigned collect(const Slice<Raw>& slice, SortItem<Raw> limit, SelectShared<Raw>& shared) {
  __syncthreads();
  if (threadIdx.x == 0) shared.count = 0;
  __syncthreads();
  slice.each([&](SortItem<Raw> item) {
    if (item > limit) return;
    const unsigned at = atomicAdd(&shared.count, 1u);
    if (at < kCandidates) shared.items[at] = item;
  });
  __syncthreads();
  return shared.count;
}

template <class Raw>
__global__ void __launch_bounds__(kSelectThreads, 2)
    select_best(SortInput<Raw> in, SortOutput<Raw> out, SortOrder<Raw> order, int64_t slices) {
  SelectShared<Raw>& shared = *shared_memory_as<SelectShared<Raw>>();
  const int64_t row = blockIdx.x / slices, number = blockIdx.x % slices, first = in.n * number / slices,
                length = in.n * (number + 1) / slices - first;
  const Slice<Raw> slice{in.row(row) + first * in.stride, in.stride, uint32_t(length), order};
  const SortItem<Raw> none = item_of(SortOrder<Raw>::kLast, UINT32_MAX);
  SortItem<Raw> best = none;
  slice.each([&](SortItem<Raw> item) { best = item < best ? item : best; });
  shared.items[threadIdx.x] = best;
  bitonic_sort(shared.items, kSelectThreads, kSelectThreads);
  SortItem<Raw> limit = shared.items[out.count - 1];
  unsigned count = collect(slice, limit, shared);
  if (count > kCandidates) {
    limit = slice.bisect(limit, out.count, shared.sums);
    count = collect(slice, limit, shared);
  }
  int width = 1;
  while (width < int(count)) width *= 2;
  for (int i = int(count) + int(threadIdx.x); i < width; i += kSelectThreads) shared.items[i] = none;
  bitonic_sort(shared.items, width, width);
  for (int i = int(threadIdx.x); i < int(out.count); i += kSelectThreads) {
    const int64_t at = int64_t(blockIdx.x) * out.count + i, place = uint32_t(shared.items[i]);
    out.items[at] = slice.x[place * slice.stride];
    out.positions[at] = first + place;
  }
}
template <class Raw>
void launch_select(const CudaCall& call, const SortInput<Raw>& in, const SortOutput<Raw>& out,
                   const SortOrder<Raw>& order, int64_t rows, int64_t slices) {
  const Config config{
      .grid = dim3(unsigned(rows * slices)), .block = dim3(kSelectThreads), .shared = sizeof(SelectShared<Raw>)};
  call.launch(select_best<Raw>, config, in, out, order, slices);
}

}  // namespace
}  // namespace fovea::cuda
