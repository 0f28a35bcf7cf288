// Stable radix sort of rows of any length, eight bits of the key at a time from the lowest.
//
// A row is cut into tiles of kTile items, a block each. For every digit: count_digits() counts the digits of each tile,
// scan_digits() turns the counts of one digit into where each tile's items of that digit start among all of that digit,
// and place_items() orders the tile in shared memory, so that what goes to neighbouring places is written together.
// Items travel as their bits and positions; the key is formed again whenever it is needed.
#pragma once
#include "ops/sorting/cuda_block.h"

namespace fovea::cuda {
namespace {

constexpr int kDigits = 256, kRadixThreads = 256, kRadixWarps = kRadixThreads / 32, kPerThread = 8;
constexpr int kTile = kRadixThreads * kPerThread;

template <class Raw>
struct RadixPass {
  SortInput<Raw> in;
  SortOutput<Raw> out;
  SortOrder<Raw> order;
  int64_t tiles;    // of a row
  int shift;        // to the digit
  int64_t* counts;  // [row][digit][tile]
  int64_t* totals;  // [row][digit]

  __device__ int digit(Raw bits) const { return int(order.key(bits) >> shift) & (kDigits - 1); }
};

template <class Raw>
__global__ void __launch_bounds__(kRadixThreads) count_digits(RadixPass<Raw> pass) {
  unsigned* counts = shared_memory_as<unsigned>();
  counts[threadIdx.x] = 0;
  __syncthreads();
  const int64_t row = blockIdx.x / pass.tiles, tile = blockIdx.x % pass.tiles, first = tile * kTile;
  const Raw* from = pass.in.row(row);
#pragma unroll
  for (int i = 0; i < kPerThread; i++) {
    const int64_t place = first + i * kRadixThreads + threadIdx.x;
    if (place < pass.in.n) atomicAdd(&counts[pass.digit(from[place * pass.in.stride])], 1u);
  }
  __syncthreads();
  pass.counts[(row * kDigits + threadIdx.x) * pass.tiles + tile] = counts[threadIdx.x];
}

// A warp for each digit of each row.
__global__ void __launch_bounds__(kRadixThreads) scan_digits(int64_t* counts, int64_t* totals, int64_t tiles) {
  const int lane = int(threadIdx.x) % 32;
  const int64_t list = int64_t(blockIdx.x) * kRadixWarps + threadIdx.x / 32;
  int64_t* of_list = counts + list * tiles;
  int64_t before = 0;
  for (int64_t first = 0; first < tiles; first += 32) {
    const int64_t count = first + lane < tiles ? of_list[first + lane] : 0;
    int64_t sum = count;
    for (int apart = 1; apart < 32; apart *= 2) {
      const int64_t other = __shfl_up_sync(~0u, sum, unsigned(apart));
      if (lane >= apart) sum += other;
    }
    if (first + lane < tiles) of_list[first + lane] = before + sum - count;
    before += __shfl_sync(~0u, sum, 31);
  }
  if (lane == 0) totals[list] = before;
}

// Shared memory of place_items.
template <class Raw>
struct PlaceShared {
  int64_t positions[kTile];
  Raw items[kTile];
  int64_t away[kDigits];  // from the place in the tile to that in the row
  unsigned starts[kRadixWarps][kDigits];
  int64_t sums[kRadixWarps];
  unsigned tile_sums[kRadixWarps];
};

// The number of each of the thread's items among those of its warp with the same digit. Warps own consecutive items,
// lanes every 32nd of those; counts: the warp's, per digit.
template <class Raw>
__device__ void rank_in_warp(const RadixPass<Raw>& pass, const Raw* items, int64_t left, unsigned* counts,
                             unsigned* ranks) {
  const int lane = int(threadIdx.x) % 32;
  for (int i = 0; i < kPerThread; i++) {
    const bool there = i * 32 + lane < left;
    const int digit = there ? pass.digit(items[i]) : kDigits;
    const unsigned same = __match_any_sync(~0u, digit), before = same & ((1u << lane) - 1);
    if (there) ranks[i] = counts[digit] + unsigned(__popc(before));
    __syncwarp();
    if (there && before == 0) counts[digit] += unsigned(__popc(same));
    __syncwarp();
  }
}

template <class Raw>
__global__ void __launch_bounds__(kRadixThreads) place_items(RadixPass<Raw> pass) {
  PlaceShared<Raw>& shared = *shared_memory_as<PlaceShared<Raw>>();
  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32, own = warp * 32 * kPerThread;
  const int64_t row = blockIdx.x / pass.tiles, tile = blockIdx.x % pass.tiles, first = tile * kTile,
                left = pass.in.n - first - own;
  const Raw* from = pass.in.row(row) + (first + own) * pass.in.stride;
  Raw items[kPerThread];
  unsigned ranks[kPerThread];
#pragma unroll
  for (int i = 0; i < kPerThread; i++)
    items[i] = i * 32 + lane < left ? from[(i * 32 + lane) * pass.in.stride] : Raw(0);
  for (int d = lane; d < kDigits; d += 32) shared.starts[warp][d] = 0;
  __syncwarp();
  rank_in_warp(pass, items, left, shared.starts[warp], ranks);
  __syncthreads();
  // Each thread looks after one digit: where it starts in the tile, and in the row.
  unsigned in_tile = 0, tile_total;
  for (int w = 0; w < kRadixWarps; w++) in_tile += shared.starts[w][thread];
  int64_t row_total;
  unsigned start = exclusive_sum(in_tile, shared.tile_sums, tile_total);
  const int64_t list = row * kDigits + thread, row_start = exclusive_sum(pass.totals[list], shared.sums, row_total);
  shared.away[thread] = row_start + pass.counts[list * pass.tiles + tile] - start;
  for (int w = 0; w < kRadixWarps; w++) {
    const unsigned count = shared.starts[w][thread];
    shared.starts[w][thread] = start;
    start += count;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kPerThread; i++) {
    if (i * 32 + lane >= left) break;
    const unsigned at = shared.starts[warp][pass.digit(items[i])] + ranks[i];
    shared.items[at] = items[i];
    shared.positions[at] = pass.in.position(row, first + own + i * 32 + lane);
  }
  __syncthreads();
  for (int i = thread; i < int(tile_total); i += kRadixThreads) {
    const int64_t place = shared.away[pass.digit(shared.items[i])] + i;
    if (place >= pass.out.count) continue;
    pass.out.items[row * pass.out.count + place] = shared.items[i];
    pass.out.positions[row * pass.out.count + place] = shared.positions[i];
  }
}

// ---- rows of any length

// As many passes as `bits` of the key take; none for rows that are sorted in shared memory.
inline int radix_passes(int64_t n, int bits) { return n <= kShortRow ? 0 : int(ceil_div(bits, 8)); }

// `reuse`: all of the sorted rows are wanted, so that their memory serves the passes before the last, too.
template <class Raw>
SortScratch<Raw> carve_sort(Carver& carver, int64_t rows, int64_t n, int bits, const SortOutput<Raw>* reuse) {
  SortScratch<Raw> scratch;
  const int passes = radix_passes(n, bits);
  if (passes == 0) return scratch;
  if (passes > 1) scratch.odd = {carver.take<Raw>(rows * n), carver.take<int64_t>(rows * n), n};
  if (reuse) scratch.even = *reuse;
  else if (passes > 2) scratch.even = {carver.take<Raw>(rows * n), carver.take<int64_t>(rows * n), n};
  scratch.counts = carver.take<int64_t>(rows * kDigits * ceil_div(n, kTile));
  scratch.totals = carver.take<int64_t>(rows * kDigits);
  return scratch;
}

// The input may lie where the scratch memory is that the first pass does not write.
template <class Raw>
void sort_rows(const CudaCall& call, SortInput<Raw> in, const SortOutput<Raw>& out, const SortOrder<Raw>& order,
               int64_t rows, int bits, const SortScratch<Raw>& scratch) {
  const int passes = radix_passes(in.n, bits);
  if (passes == 0) return launch_short_sort(call, in, out, order, rows);
  const int64_t tiles = ceil_div(in.n, kTile);
  for (int i = 0; i < passes; i++) {
    const int to_come = passes - 1 - i;
    const SortOutput<Raw>& to = to_come == 0 ? out : to_come % 2 ? scratch.odd : scratch.even;
    const RadixPass<Raw> pass{in, to, order, tiles, 8 * i, scratch.counts, scratch.totals};
    Config config{.grid = dim3(unsigned(rows * tiles)), .block = dim3(kRadixThreads)};
    config.shared = kDigits * sizeof(unsigned);
    call.launch(count_digits<Raw>, config, pass);
    call.launch(scan_digits, {.grid = dim3(unsigned(rows * kDigits / kRadixWarps)), .block = dim3(kRadixThreads)},
                scratch.counts, scratch.totals, tiles);
    config.shared = sizeof(PlaceShared<Raw>);
    call.launch(place_items<Raw>, config, pass);
    in = dense_rows<Raw>(to.items, to.positions, rows, in.n);
  }
}

}  // namespace
}  // namespace fovea::cuda
