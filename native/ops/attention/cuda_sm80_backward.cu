// Gradients of attention of 16-bit floats on tensor cores, mma.sync m16n8k16 with sums in float32, with the
// probabilities recomputed from lse (FlashAttention-2, Dao 2023, algorithm 2). See cuda_simt.cu for the formulas.
//
// Two kernels of one shape, so that every sum has one owner and one order: blocks of 64 keys own their dk and dv and
// walk over the queries of all heads that share them; blocks of 64 queries own their dq and walk over the keys. Scores
// and their slopes stay in registers, from where they are the left operand of the products that follow.
#include "ops/attention/cuda_dropout.h"
#include "ops/attention/cuda_fragments.h"
#include "ops/attention/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32, kRows = kWarps * 16;
// Rows of the other kind that a block meets at a time; two such tiles are in shared memory at once.
template <int kD, bool kEdits>
constexpr int kStep = kD > 96 && kEdits     ? 16
                      : kD <= 64 && !kEdits ? 64
                                            : 32;  // by the registers there are

// Shared memory: the block's rows x and y, two pairs of tiles u and w, and what is known of two tiles of queries.
template <int kD, int kStep>
struct Places {
  static constexpr int kOwn = kFragmentTileBytes<kRows, kD>, kOther = kFragmentTileBytes<kStep, kD>;
  static constexpr int kX = 0, kY = kOwn, kU = 2 * kOwn, kW = kU + 2 * kOther, kStatistics = kW + 2 * kOther;
  static constexpr int kBytes = kStatistics + 2 * 2 * kStep * 4;
};

// Rows and columns of a head's scores: s = x u^T, slopes = y w^T.
template <class T>
struct Side {
  const T *x, *y;
  int x_stride, y_stride, count;
};
template <class T>
__device__ Side<T> keys_of(const BackwardProblem& p, int bi, int gi) {
  return {p.k.at<T>(bi, gi), p.v.at<T>(bi, gi), int(p.k.row), int(p.v.row), int(p.m)};
}
template <class T>
__device__ Side<T> queries_of(const BackwardProblem& p, int bi, int hi) {
  return {p.q.at<T>(bi, hi), p.d_o.at<T>(bi, hi), int(p.q.row), int(p.d_o.row), int(p.n)};
}

// Columns of one query head.
struct Cursor {
  int hi, column;
};
// The fragment of a warp: its row lane / 4 is number `row` of the block's side, its first column number `column` of the
// other one.
struct Corner {
  int bi, hi, row, column;
};
// The columns from `column` on that meet row `row`: those from first to below end, counted from `column`.
struct Range {
  int first, end;
};
template <bool kRowsAreKeys>
__device__ __forceinline__ Range seen_range(const AttentionProblem& p, int row, int column) {
  if (!kRowsAreKeys) return {0, row < int(p.n) ? visible_columns(p, row, column) : 0};
  if (row >= int(p.m)) return {0, 0};
  return {p.causal ? row - int(p.last_key) - column : 0, int(p.n) - column};
}

// Scores -> p f, slopes -> ds, both 0 where hidden. lse and delta are those of rows lane / 4 and lane / 4 + 8 or, if
// rows are keys, of the columns from this thread's first on.
template <class T, bool kRowsAreKeys, bool kEdits, int kGroups>
__device__ __forceinline__ void weigh(const BackwardProblem& p, const Corner& at, bool edge, const float* lse,
                                      const float* delta, float (&s)[kGroups][4], float (&slopes)[kGroups][4]) {
  const int lane = int(threadIdx.x) % 32;
  const float scale = float(p.scale * kLog2e);
  const HeadEdits<T> edits(p, at.bi, at.hi);
  const int row0 = at.row + lane / 4, column0 = at.column + lane % 4 * 2;
  const Range ranges[2] = {seen_range<kRowsAreKeys>(p, row0, column0), seen_range<kRowsAreKeys>(p, row0 + 8, column0)};
#pragma unroll
  for (int pair = 0; pair < kGroups; pair += 2) {
    float factors[2][4];
    if (kEdits && p.threshold) fragment_factors<kRowsAreKeys>(p, at.bi, at.hi, at.row, at.column + pair * 8, factors);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int j = pair + i / 4, e = i % 4;
      const int c = j * 8 + e % 2, known = kRowsAreKeys ? c : e / 2;
      float score = s[j][e] * scale;
      bool hidden = edge && (c < ranges[e / 2].first || c >= ranges[e / 2].end);
      if (kEdits && !hidden) {
        const int row = row0 + e / 2 * 8, column = column0 + c;
        score = kRowsAreKeys ? edits.apply(column, row, score) : edits.apply(row, column, score);
        hidden = score == -kInfinity<float>;
      }
      const float weight = hidden ? 0 : exp2_fast(score - lse[known]);
      const float factor = kEdits && p.threshold ? factors[i / 4][e] : 1;
      slopes[j][e] = hidden ? 0 : weight * (factor * slopes[j][e] - delta[known]);
      s[j][e] = weight * factor;
    }
  }
}

// lse and delta of queries [first, first + kCount) into shared memory.
template <int kCount>
__device__ __forceinline__ void ask_statistics(const BackwardProblem& p, int head, int first, uint32_t to) {
  const int i = int(threadIdx.x) % kCount, which = int(threadIdx.x) / kCount;
  if (which >= 2) return;
  const float* from = static_cast<const float*>(which ? p.row_delta : p.row_lse) + int64_t(head) * p.n;
  const bool valid = first + i < int(p.n);
  cp_async_4(to + uint32_t(which * kCount + i) * 4, from + first + i, valid);
}

template <class T, int kD, bool kRowsAreKeys, bool kEdits>
__global__ void __launch_bounds__(kThreads, 2) backward(BackwardProblem p, T* dx_out, T* dy_out) {
  constexpr int kColumns = kStep<kD, kEdits>;
  using At = Places<kD, kColumns>;
  const int rows = int(kRowsAreKeys ? p.m : p.n), heads = int(kRowsAreKeys ? p.g : p.h), d = int(p.d), e = int(p.e);
  const int blocks = (rows + kRows - 1) / kRows, head = int(blockIdx.x) / blocks, bi = head / heads;
  // The longest first, with causality: the last queries, the first keys.
  const int block = int(blockIdx.x) % blocks, first = (kRowsAreKeys ? block : blocks - 1 - block) * kRows;
  const int last = min(first + kRows, rows) - 1, warp_row = int(threadIdx.x) / 32 * 16, lane = int(threadIdx.x) % 32;
  // Query heads [hi0, hi0 + members), of each columns [begin, end); up to `full` (from it on, if rows are keys) all
  // rows see all columns.
  const int members = kRowsAreKeys ? int(p.group) : 1, hi0 = head % heads * members;
  const int begin = kRowsAreKeys ? int(p.first_query(first)) / kColumns * kColumns : 0;
  const int end = int(kRowsAreKeys ? p.n : p.visible_keys(last));
  const int full = int(kRowsAreKeys ? p.first_query(last) : p.visible_keys(first));
  int left = begin < end ? (end - begin + kColumns - 1) / kColumns * members : 0;
  const uint32_t shared = shared_address(shared_memory());

  const auto own = kRowsAreKeys ? keys_of<T>(p, bi, head % heads) : queries_of<T>(p, bi, hi0);
  ask_tile<kRows, kD, kThreads>(shared + At::kX, own.x, own.x_stride, first, rows, d);
  ask_tile<kRows, kD, kThreads>(shared + At::kY, own.y, own.y_stride, first, rows, e);
  auto fetch = [&](const Cursor& at, int stage) {
    const auto other = kRowsAreKeys ? queries_of<T>(p, bi, at.hi) : keys_of<T>(p, bi, at.hi / int(p.group));
    const uint32_t to = shared + uint32_t(stage * At::kOther);
    ask_tile<kColumns, kD, kThreads>(to + At::kU, other.x, other.x_stride, at.column, other.count, d);
    ask_tile<kColumns, kD, kThreads>(to + At::kW, other.y, other.y_stride, at.column, other.count, e);
    if (kRowsAreKeys)
      ask_statistics<kColumns>(p, bi * int(p.h) + at.hi, at.column,
                               shared + uint32_t(At::kStatistics + stage * 2 * kColumns * 4));
  };
  float row_lse[2], row_delta[2];
  if (!kRowsAreKeys)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64_t i = int64_t(head) * p.n + min(first + warp_row + lane / 4 + half * 8, last);
      row_lse[half] = static_cast<const float*>(p.row_lse)[i],
      row_delta[half] = static_cast<const float*>(p.row_delta)[i];
    }
  Cursor now{hi0, begin};
  if (left > 0) fetch(now, left % 2);
  cp_async_commit();
  Fragment<kD> dx[1] = {}, dy[1] = {};
  for (; left > 0; left--) {
    cp_async_wait<0>();
    __syncthreads();
    const Cursor next = now.column + kColumns < end ? Cursor{now.hi, now.column + kColumns} : Cursor{now.hi + 1, begin};
    const int stage = left % 2;
    if (left > 1) fetch(next, stage ^ 1);
    cp_async_commit();
    const uint32_t u = shared + uint32_t(At::kU + stage * At::kOther), w = u + uint32_t(At::kW - At::kU);
    Fragment<kColumns> s[1], slopes[1];
    multiply_rows<T, kD, kRows, kColumns>(shared + At::kX, warp_row, u, s);
    multiply_rows<T, kD, kRows, kColumns>(shared + At::kY, warp_row, w, slopes);
    const bool edge =
        (kRowsAreKeys ? now.column < full || now.column + kColumns > end : now.column + kColumns > full) ||
        (kEdits && first + kRows > rows);
    const float* known = shared_memory_as<float>(At::kStatistics) + stage * 2 * kColumns + lane % 4 * 2;
    weigh<T, kRowsAreKeys, kEdits>(p, {bi, now.hi, first + warp_row, now.column}, edge, kRowsAreKeys ? known : row_lse,
                                   kRowsAreKeys ? known + kColumns : row_delta, s[0], slopes[0]);
    Weights<kColumns> weights[1], slope_weights[1];
    if (kRowsAreKeys) round_weights<T, kColumns>(s[0], weights[0]);
    round_weights<T, kColumns>(slopes[0], slope_weights[0]);
    if (kRowsAreKeys) add_weighted_rows<T, kD, kColumns>(weights, w, dy);
    add_weighted_rows<T, kD, kColumns>(slope_weights, u, dx);
    now = next;
  }
  const float scale = float(p.scale);
  write_rows<T, kD>(dx[0], {scale, scale}, dx_out + int64_t(head) * rows * d, first + warp_row, rows, d);
  if constexpr (kRowsAreKeys)
    write_rows<T, kD>(dy[0], {1, 1}, dy_out + int64_t(head) * rows * e, first + warp_row, rows, e);
}

template <class T, int kD, bool kRowsAreKeys, bool kEdits>
void launch(const CudaCall& call, const BackwardProblem& p, const View& dx, const View& dy) {
  const int64_t blocks = dx.shape[0] * dx.shape[1] * ceil_div(dx.shape[2], kRows);
  call.launch(
      backward<T, kD, kRowsAreKeys, kEdits>,
      {.grid = dim3(unsigned(blocks)), .block = dim3(kThreads), .shared = Places<kD, kStep<kD, kEdits>>::kBytes}, p,
      dx.as<T>(), dy.as<T>());
}
template <class T, int kD, bool kEdits>
void launch(const CudaCall& call, const BackwardProblem& p) {
  launch<T, kD, false, kEdits>(call, p, call.out[0], call.out[0]);
  launch<T, kD, true, kEdits>(call, p, call.out[1], call.out[2]);
}
template <class T, int kD>
void launch(const CudaCall& call, const BackwardProblem& p) {
  if (p.edits_scores()) launch<T, kD, true>(call, p);
  else launch<T, kD, false>(call, p);
}

}  // namespace

template <class T>
void attention_backward_sm80(const CudaCall& call, const BackwardProblem& p) {
  const int64_t width = max_of(p.d, p.e);
  if (width <= 64) launch<T, 64>(call, p);
  else if (width <= 96) launch<T, 96>(call, p);
  else launch<T, 128>(call, p);
}
template void attention_backward_sm80<Half>(const CudaCall&, const BackwardProblem&);
template void attention_backward_sm80<Bfloat16>(const CudaCall&, const BackwardProblem&);

}  // namespace fovea::cuda
