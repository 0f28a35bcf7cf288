// How a reduction over the last axis is cut on the device, the same for every fold of cuda_folds.h.
//
// Where the reduced axis is dense, a group of threads walks along a row, 16 bytes at a time. Where another axis is
// denser (column sums), neighbouring threads walk down neighbouring columns, 16 bytes of them each, and a block reads
// several rows at a time. With few results and much to reduce, each is folded in pieces of the reduced axis, which
// leave their states in the workspace and are merged by a second kernel. All of this depends on the shape and the
// device only.
#pragma once
#include <cstring>

#include "cuda/block.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTogether = 4;                                   // loads of a thread under way, of most folds
constexpr int64_t kMostPieces = 1024, kMostOfPiece = 1 << 30;  // elements, counted in 32 bits
constexpr size_t kMostStateBytes = 32;

struct Plan {
  Layout<2> results;  // where each begins in x and in the dense results; without the columns, where these are folded
  int64_t outputs = 1, n, stride;
  int64_t columns = 0, column_stride, column_results;  // results folded together, their steps in x and in the results
  int pack;                                            // elements to move at once, if their address allows it
  int64_t pieces = 1, piece;
  int threads, rows_together;  // a block's along the dense axis, and across

  size_t workspace() const { return pieces > 1 ? size_t(pieces * outputs) * kMostStateBytes : 0; }
};

inline int power_of_two(int64_t wanted, int64_t most) {
  int power = 1;
  while (power < most && power < wanted) power *= 2;
  return power;
}

inline void cut_in_pieces(Plan& plan, int64_t threads, int64_t least, const DeviceLimits& device) {
  const int64_t enough = int64_t(device.multiprocessors) * 2048;
  const int64_t wanted = min_of(min_of(ceil_div(enough, max_of(1, threads)), plan.n / least), kMostPieces);
  plan.piece = round_up(ceil_div(plan.n, max_of(1, wanted)), plan.columns ? 1 : kThreads);
  plan.piece = min_of(plan.piece, kMostOfPiece);
  plan.pieces = max_of(1, ceil_div(plan.n, max_of(1, plan.piece)));
}

// Takes the axis with the smallest step out of `results`, where that beats the step of the reduced axis.
inline void choose_columns(Plan& plan) {
  Layout<2>& r = plan.results;
  int best = -1;
  for (int i = 0; i < r.rank; i++)
    if (r.strides[0][i] > 0 && (best < 0 || r.strides[0][i] < r.strides[0][best])) best = i;
  if (best < 0 || r.size == 0 || plan.n < 2 || plan.stride == 1 ||
      (plan.stride > 0 && plan.stride < r.strides[0][best]))
    return;
  plan.columns = r.shape[best], plan.column_stride = r.strides[0][best], plan.column_results = r.strides[1][best];
  r.size /= plan.columns, r.rank--;
  for (int i = best; i < r.rank; i++) {
    r.shape[i] = r.shape[i + 1];
    for (auto& strides : r.strides) strides[i] = strides[i + 1];
  }
}

inline void plan_columns(Plan& plan, const DeviceLimits& device) {
  bool packs = plan.column_stride == 1 && plan.columns % plan.pack == 0 && plan.stride % plan.pack == 0;
  for (int i = 0; i < plan.results.rank; i++) packs = packs && plan.results.strides[0][i] % plan.pack == 0;
  if (!packs) plan.pack = 1;
  const int64_t wanted = ceil_div(plan.columns, plan.pack), rows = max_of(1, plan.n / kTogether);
  plan.threads = power_of_two(wanted, 32);
  plan.rows_together = power_of_two(rows / 2 + 1, kThreads / plan.threads);
  plan.threads = power_of_two(wanted, kThreads / plan.rows_together);
  const int64_t blocks = plan.results.size * ceil_div(wanted, plan.threads);
  cut_in_pieces(plan, blocks * kThreads, int64_t(plan.rows_together) * kTogether, device);
}

inline void plan_rows(Plan& plan, const DeviceLimits& device) {
  if (plan.stride != 1 || plan.n < 2 * plan.pack) plan.pack = 1;
  const int64_t enough = int64_t(device.multiprocessors) * 2048, at_once = int64_t(kTogether) * plan.pack;
  plan.threads = power_of_two(ceil_div(plan.n, 2 * plan.pack), 32);
  while (plan.threads < kThreads && plan.threads * at_once < plan.n &&
         (plan.outputs * plan.threads < enough || plan.threads * at_once * 4 < plan.n))
    plan.threads *= 2;
  plan.rows_together = plan.threads < 32 ? kThreads / plan.threads : plan.threads == 32 ? 4 : 1;
  cut_in_pieces(plan, plan.outputs * plan.threads, kThreads * at_once, device);
}

// kRowsOnly: for those that walk along the rows in any case.
template <bool kRowsOnly = false>
Plan plan_of(const View& x, const DeviceLimits& device) {
  View leading = x;
  leading.rank--;
  View results = leading;
  results.make_contiguous_strides();
  Plan plan;
  plan.results = layout_of(leading, results), plan.outputs = plan.results.size;
  plan.n = x.dim(-1), plan.stride = plan.n > 1 ? x.stride(-1) : 1;
  plan.pack = int(min_of(8, 16 / int64_t(kDtypeBytes[int(x.dtype)])));
  if (!kRowsOnly) {
    Plan by_columns = plan;
    choose_columns(by_columns);
    if (by_columns.columns) plan_columns(by_columns, device);
    // A few columns of a few elements would make tiny blocks.
    if (by_columns.columns && by_columns.threads * by_columns.rows_together >= 64) return by_columns;
  }
  plan_rows(plan, device);
  return plan;
}

// What is known before any element of a row that begins at x.
template <class Fold>
__device__ typename Fold::State nothing_of(const Fold& fold, const typename Fold::T* x, int64_t n) {
  using A = typename Fold::A;
  if constexpr (Fold::kNeedsFirst) return fold.identity(n > 0 ? A(widen(*x)) : A(0));
  else return fold.identity();
}

// ---- rows

template <class State>
__device__ State of_lane(const State& state, int apart) {
  static_assert(sizeof(State) % sizeof(unsigned) == 0);
  unsigned words[sizeof(State) / sizeof(unsigned)];
  memcpy(words, &state, sizeof state);
#pragma unroll
  for (unsigned& word : words) word = __shfl_xor_sync(~0u, word, apart);
  State other;
  memcpy(&other, words, sizeof other);
  return other;
}
// The merged states of the threads that share threadIdx.y, on the first of them. Groups of more than a warp are alone.
template <class Fold, class State = typename Fold::State>
__device__ State merge_group(const Fold& fold, State state) {
  const int threads = int(blockDim.x), width = threads < 32 ? threads : 32;
  for (int apart = width / 2; apart > 0; apart /= 2) state = fold.merge(state, of_lane(state, apart));
  if (threads <= 32) return state;
  State* of_warps = shared_memory_as<State>();
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = state;
  __syncthreads();
  if (threadIdx.x > 0) return state;
  for (int warp = 1; warp < threads / 32; warp++) state = fold.merge(state, of_warps[warp]);
  return state;
}

// Adds the packs number p, p + threads, ... of K elements each, M packs; with K = 1, elements are `stride` apart.
template <int M, int K, class Fold>
__device__ void add_packs(const Fold& fold, typename Fold::State& state, const typename Fold::T* from, int64_t stride,
                          int p, int64_t first_index) {
  using A = typename Fold::A;
  using P = Pack<typename Fold::T, K>;
  P packs[M];
  A values[M * K];
  const int step = int(blockDim.x);
#pragma unroll
  for (int j = 0; j < M; j++) {
    if constexpr (K == 1) packs[j].value[0] = from[(p + j * step) * stride];
    else packs[j] = reinterpret_cast<const P*>(from)[p + j * step];
  }
#pragma unroll
  for (int i = 0; i < M * K; i++) values[i] = A(widen(packs[i / K].value[i % K]));
  fold.add(state, values, [&](int i) { return first_index + int64_t(p + i / K * step) * K + i % K; });
}

// grid: groups of threads, pieces. `partial`: [pieces][outputs], or nullptr where there is one piece.
template <class Fold, int K>
__global__ void __launch_bounds__(kThreads, 1)
    fold_rows(Fold fold, Plan plan, const typename Fold::T* x, typename Fold::State* partial) {
  using T = typename Fold::T;
  constexpr int kLoads = Fold::kLoads;
  const GroupRow group(plan.outputs);
  int64_t at[2];
  plan.results.offsets(group.row, at);
  typename Fold::State state = nothing_of(fold, x + at[0], plan.n);
  const int64_t begin = blockIdx.y * plan.piece;
  const int n = int(min_of(plan.piece, plan.n - begin)), step = int(blockDim.x);
  const T* from = x + at[0] + begin * plan.stride;
  // What lies before the first and after the last whole pack is added element by element.
  int head = 0;
  if (K > 1) head = int(min_of(n, int64_t(-reinterpret_cast<uintptr_t>(from) % (K * sizeof(T)) / sizeof(T))));
  const int packs = (n - head) / K, apart = packs * K;
  if (K > 1)
    for (int i = int(threadIdx.x); i < n - apart; i += step)
      add_packs<1, 1>(fold, state, from + (i < head ? i : i + apart), 0, 0, begin + (i < head ? i : i + apart));
  typename Fold::State whole = nothing_of(fold, x + at[0], plan.n);
  int p = int(threadIdx.x);
  for (; p + (kLoads - 1) * step < packs; p += kLoads * step)
    add_packs<kLoads, K>(fold, whole, from + head, plan.stride, p, begin + head);
  if constexpr (kLoads > 1)
    for (; p < packs; p += step) add_packs<1, K>(fold, whole, from + head, plan.stride, p, begin + head);
  state = merge_group(fold, K > 1 ? fold.merge(state, whole) : whole);
  if (!group.live || threadIdx.x > 0) return;
  if (partial) partial[blockIdx.y * plan.outputs + group.row] = state;
  else fold.put(group.row, state);
}

// ---- columns

// Adds K columns of rows i, i + blockDim.y, ...: M of them.
template <int M, class Fold, int K>
__device__ void add_rows(const Fold& fold, typename Fold::State (&states)[K], const typename Fold::T* from,
                         int64_t stride, int i, int64_t first_index) {
  Pack<typename Fold::T, K> rows[M];
  const int step = int(blockDim.y);
#pragma unroll
  for (int m = 0; m < M; m++)
    rows[m] = *reinterpret_cast<const Pack<typename Fold::T, K>*>(from + (i + m * step) * stride);
#pragma unroll
  for (int k = 0; k < K; k++) {
    typename Fold::A values[M];
    for (int m = 0; m < M; m++) values[m] = typename Fold::A(widen(rows[m].value[k]));
    fold.add(states[k], values, [&](int m) { return first_index + i + m * step; });
  }
}

// grid: blockDim.x * K columns each, pieces
template <class Fold, int K>
__global__ void __launch_bounds__(kThreads, 1)
    fold_columns(Fold fold, Plan plan, const typename Fold::T* x, typename Fold::State* partial) {
  using State = typename Fold::State;
  const int width = int(blockDim.x) * K;
  const int64_t strips = (plan.columns + width - 1) / width, outer = blockIdx.x / strips;
  const int64_t first = (blockIdx.x - outer * strips) * width, column = first + int64_t(threadIdx.x) * K;
  int64_t at[2];
  plan.results.offsets(outer, at);
  // Threads past the last column take it again, but do not write.
  const typename Fold::T* from = x + at[0] + min_of(column, plan.columns - K) * plan.column_stride;
  State states[K];
#pragma unroll
  for (int k = 0; k < K; k++) states[k] = nothing_of(fold, from + k, plan.n);
  constexpr int kLoads = Fold::kLoads;
  const int64_t begin = blockIdx.y * plan.piece;
  const int rows = int(min_of(plan.piece, plan.n - begin)), step = int(blockDim.y);
  from += begin * plan.stride;
  int i = int(threadIdx.y);
  for (; i + (kLoads - 1) * step < rows; i += kLoads * step)
    add_rows<kLoads>(fold, states, from, plan.stride, i, begin);
  if constexpr (kLoads > 1)
    for (; i < rows; i += step) add_rows<1>(fold, states, from, plan.stride, i, begin);
  State* of_rows = shared_memory_as<State>();
  for (int k = 0; k < K; k++) of_rows[threadIdx.y * width + threadIdx.x * K + k] = states[k];
  __syncthreads();
  for (int mine = int(threadIdx.y * blockDim.x + threadIdx.x); mine < width; mine += int(blockDim.x * blockDim.y)) {
    if (first + mine >= plan.columns) break;
    State state = of_rows[mine];
    for (int y = 1; y < int(blockDim.y); y++) state = fold.merge(state, of_rows[y * width + mine]);
    const int64_t output = at[1] + (first + mine) * plan.column_results;
    if (partial) partial[blockIdx.y * plan.outputs + output] = state;
    else fold.put(output, state);
  }
}

// ---- pieces

// At least as many pieces as blockDim.y.
template <class Fold>
__global__ void __launch_bounds__(kThreads, 1)
    merge_pieces(Fold fold, const typename Fold::State* partial, int64_t outputs, int64_t pieces) {
  using State = typename Fold::State;
  const int64_t output = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t mine = min_of(output, outputs - 1);
  State state = partial[threadIdx.y * outputs + mine];
  for (int64_t piece = threadIdx.y + blockDim.y; piece < pieces; piece += blockDim.y)
    state = fold.merge(state, partial[piece * outputs + mine]);
  State* all = shared_memory_as<State>();
  all[threadIdx.y * blockDim.x + threadIdx.x] = state;
  __syncthreads();
  if (threadIdx.y > 0 || output >= outputs) return;
  for (unsigned y = 1; y < blockDim.y; y++) state = fold.merge(state, all[y * blockDim.x + threadIdx.x]);
  fold.put(output, state);
}

// ---- launches

// The states of all pieces go to `partial`, or the results to where the fold puts them.
template <bool kRowsOnly = false, class Fold>
void fold_pieces(const CudaCall& call, const Plan& plan, const Fold& fold, const View& x,
                 typename Fold::State* partial) {
  using T = typename Fold::T;
  constexpr int kPack = int(min_of(16 / sizeof(T), Fold::kMostPack));
  const bool aligned = reinterpret_cast<uintptr_t>(x.data) % (kPack * sizeof(T)) == 0;
  const int pack = plan.pack == 1 || (plan.columns && !aligned) ? 1 : kPack;
  Config config{
      {}, dim3(unsigned(plan.threads), unsigned(plan.rows_together)), kThreads * sizeof(typename Fold::State)};
  config.grid.y = unsigned(plan.pieces);
  if constexpr (!kRowsOnly)
    if (plan.columns) {
      config.grid.x = unsigned(plan.results.size * ceil_div(plan.columns, plan.threads * pack)), config.shared *= pack;
      return call.launch(pack > 1 ? fold_columns<Fold, kPack> : fold_columns<Fold, 1>, config, fold, plan, x.as<T>(),
                         partial);
    }
  config.grid.x = unsigned(ceil_div(plan.outputs, plan.rows_together));
  call.launch(pack > 1 ? fold_rows<Fold, kPack> : fold_rows<Fold, 1>, config, fold, plan, x.as<T>(), partial);
}

template <class Fold>
void run_fold(const CudaCall& call, const Fold& fold) {
  using State = typename Fold::State;
  static_assert(sizeof(State) <= kMostStateBytes);
  const Plan plan = plan_of(call.in[0], call.device);
  if (plan.pieces == 1) return fold_pieces(call, plan, fold, call.in[0], static_cast<State*>(nullptr));
  State* partial = call.scratch<State>();
  fold_pieces(call, plan, fold, call.in[0], partial);
  const int width = power_of_two(plan.outputs, 32);
  const Config config{dim3(unsigned(ceil_div(plan.outputs, width))),
                      dim3(unsigned(width), unsigned(power_of_two(plan.pieces / 2 + 1, kThreads / width))),
                      kThreads * sizeof(State)};
  call.launch(merge_pieces<Fold>, config, fold, static_cast<const State*>(partial), plan.outputs, plan.pieces);
}

}  // namespace
}  // namespace fovea::cuda
