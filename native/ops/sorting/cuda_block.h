// What the threads of one block do together: prefix sums, and sorts in shared memory. The block has whole warps.
#pragma once
#include "ops/sorting/cuda_order.h"

namespace fovea::cuda {
namespace {

// The sum of `value` over the threads before this one; `total` becomes that over all. `warp_sums`: shared, one per
// warp.
template <class T>
__device__ T exclusive_sum(T value, T* warp_sums, T& total) {
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, warps = int(blockDim.x) / 32;
  T sum = value;
  for (int apart = 1; apart < 32; apart *= 2) {
    T other = __shfl_up_sync(~0u, sum, unsigned(apart));
    if (lane >= apart) sum += other;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  T before = 0;
  total = 0;
  for (int w = 0; w < warps; w++) {
    if (w == warp) before = total;
    total += warp_sums[w];
  }
  __syncthreads();  // the next sum may use the same memory
  return before + sum - value;
}

// Bitonic sort of `count` items in shared memory, each `width` of them by themselves; width is a power of two that
// divides count. A warp compares what lies in 64 items that only it touches while pairs are at most 32 apart, and so
// needs to wait for nobody else.
template <class Item>
__device__ void bitonic_sort(Item* items, int count, int width) {
  constexpr int kOwn = 32;
  __syncthreads();
  for (int size = 2; size <= width; size *= 2)
    for (int apart = size / 2; apart > 0; apart /= 2) {
      for (int pair = int(threadIdx.x); pair < count / 2; pair += int(blockDim.x)) {
        const int low = 2 * pair - (pair & (apart - 1)), high = low + apart;
        const bool ascending = (low & (width - 1) & size) == 0;
        const Item a = items[low], b = items[high];
        if ((b < a) == ascending) items[low] = b, items[high] = a;
      }
      const int next = apart > 1 ? apart / 2 : size;
      if (apart > kOwn || next > kOwn) __syncthreads();
      else __syncwarp();
    }
  __syncthreads();
}

// ---- rows short enough to be sorted in shared memory, several to a block

constexpr int64_t kShortRow = 2048;
constexpr int kShortThreads = 512, kShortItems = 1024;

template <class Raw>
__global__ void __launch_bounds__(kShortThreads)
    sort_short_rows(SortInput<Raw> in, SortOutput<Raw> out, SortOrder<Raw> order, int64_t rows, int width,
                    int rows_per_block) {
  SortItem<Raw>* items = shared_memory_as<SortItem<Raw>>();
  const int64_t first = int64_t(blockIdx.x) * rows_per_block;
  const int here = int(min_of(rows_per_block, rows - first)), threads = int(blockDim.x), n = int(in.n);
  for (int i = int(threadIdx.x); i < here * width; i += threads) {
    const int place = i & (width - 1);
    Raw key = SortOrder<Raw>::kLast;  // of what fills up the row
    if (place < n) key = order.key(in.row(first + i / width)[place * in.stride]);
    items[i] = item_of(key, uint32_t(place));
  }
  bitonic_sort(items, here * width, width);
  const int count = int(out.count);
  for (int i = int(threadIdx.x); i < here * count; i += threads) {
    const int row = i / count;
    const uint32_t place = uint32_t(items[row * width + i % count]);
    out.items[first * count + i] = in.row(first + row)[place * in.stride];
    out.positions[first * count + i] = in.position(first + row, place);
  }
}
template <class Raw>
void launch_short_sort(const CudaCall& call, const SortInput<Raw>& in, const SortOutput<Raw>& out,
                       const SortOrder<Raw>& order, int64_t rows) {
  int width = 1;
  while (width < in.n) width *= 2;
  const int rows_per_block = int(min_of(rows, max_of(1, kShortItems / width))), items = rows_per_block * width;
  const Config config{.grid = dim3(unsigned(ceil_div(rows, rows_per_block))),
                      .block = dim3(unsigned(clamp_to(round_up(items / 2, 32), 32, kShortThreads))),
                      .shared = size_t(items) * sizeof(SortItem<Raw>)};
  call.launch(sort_short_rows<Raw>, config, in, out, order, rows, width, rows_per_block);
}

}  // namespace
}  // namespace fovea::cuda
