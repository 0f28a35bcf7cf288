// Running sums along the last axis, into a dense tensor: a group of threads to a row, which takes a tile of K elements
// to a thread after the other. Few long rows are cut in pieces, of which the sums are computed first; then every piece
// begins with the sum of those before it.
#pragma once
#include "ops/reduce/cuda_fold.h"
#include "ops/reduce/cuda_folds.h"

namespace fovea::cuda {
namespace {

constexpr int kScanned = 4;  // elements of a thread in a tile

// A running sum has no pairwise form, so float32 is summed in float64.
template <class T>
using RunningSum = std::conditional_t<kSame<SumOf<T>, float>, double, SumOf<T>>;

// The sum of `mine` over the threads before this one in the group; and of all of them, which comes last.
template <class A>
__device__ A sum_before(A mine, A& total) {
  const int threads = int(blockDim.x), width = threads < 32 ? threads : 32, lane = int(threadIdx.x) % width;
  A through = mine;
  for (int apart = 1; apart < width; apart *= 2) {
    const A other = __shfl_up_sync(~0u, through, unsigned(apart), width);
    if (lane >= apart) through += other;
  }
  A before = __shfl_up_sync(~0u, through, 1u, width);
  if (lane == 0) before = 0;
  total = __shfl_sync(~0u, through, width - 1, width);
  if (threads <= 32) return before;
  A* of_warps = shared_memory_as<A>();
  const int warp = int(threadIdx.x) / 32;
  if (lane == 0) of_warps[warp] = total;
  __syncthreads();
  A of_earlier = 0;
  total = 0;
  for (int w = 0; w < threads / 32; w++) {
    if (w == warp) of_earlier = total;
    total += of_warps[w];
  }
  __syncthreads();
  return of_earlier + before;
}

// grid: groups of threads, pieces
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    scan_rows(Plan plan, const T* x, T* y, const RunningSum<T>* sums, bool packs) {
  using A = RunningSum<T>;
  using P = Pack<T, kScanned>;
  const GroupRow group(plan.outputs);
  int64_t at[2];
  plan.results.offsets(group.row, at);
  A before = 0;
  if (sums) {
    for (int64_t piece = threadIdx.x; piece < blockIdx.y; piece += blockDim.x)
      before += sums[piece * plan.outputs + group.row];
    before = reduce_group(before, Add());
  }
  const int64_t begin = blockIdx.y * plan.piece, end = min_of(begin + plan.piece, plan.n);
  for (int64_t tile = begin; tile < end; tile += int64_t(blockDim.x) * kScanned) {
    const int64_t first = tile + int64_t(threadIdx.x) * kScanned;
    P pack;
    A through[kScanned], sum = 0, total;
    if (packs && first < end) pack = *reinterpret_cast<const P*>(x + at[0] + first);
    for (int k = 0; k < kScanned; k++) {
      if (!packs && first + k < end) pack.value[k] = x[at[0] + (first + k) * plan.stride];
      if (first + k < end) sum += A(widen(pack.value[k]));
      through[k] = sum;
    }
    const A shift = before + sum_before(sum, total);
    before += total;
    if (!group.live || first >= end) continue;
    T* to = y + group.row * plan.n + first;
    for (int k = 0; k < kScanned; k++) {
      pack.value[k] = to_storage<T>(shift + through[k]);
      if (!packs && first + k < end) to[k] = pack.value[k];
    }
    if (packs) *reinterpret_cast<P*>(to) = pack;
  }
}

template <class T>
void scan(const CudaCall& call) {
  using A = RunningSum<T>;
  const View &x = call.in[0], &y = call.out[0];
  const Plan plan = plan_of<true>(x, call.device);
  A* sums = plan.pieces > 1 ? call.scratch<A>() : nullptr;
  if (sums) fold_pieces<true>(call, plan, Sum<T, A>(nullptr), x, sums);
  auto fits = [](const View& v) {
    bool fit = v.stride(-1) == 1 && v.dim(-1) % kScanned == 0;
    for (int i = 0; i < v.rank - 1; i++) fit = fit && (v.shape[i] == 1 || v.strides[i] % kScanned == 0);
    return fit && reinterpret_cast<uintptr_t>(v.data) % sizeof(Pack<T, kScanned>) == 0;
  };
  const int threads = power_of_two(ceil_div(plan.n, kScanned), kThreads), groups = kThreads / threads;
  const Config config{dim3(unsigned(ceil_div(plan.outputs, threads > 32 ? 1 : groups)), unsigned(plan.pieces)),
                      dim3(unsigned(threads), unsigned(threads > 32 ? 1 : groups)), kReduceBytes};
  call.launch(scan_rows<T>, config, plan, x.as<T>(), y.as<T>(), static_cast<const A*>(sums), fits(x) && fits(y));
}

}  // namespace
}  // namespace fovea::cuda
