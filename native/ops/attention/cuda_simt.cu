// Attention and its gradients with plain arithmetic, in tiles of 64 x 64 scores and memory linear in n and m
// (FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691). It takes every dtype, width, stride, bias, mask and
// dropout: float32 and float64, and what the tensor-core kernels leave of the 16-bit types.
//
//   p = 2^(s2 - log2(e) lse)   f = dropout factor   delta_i = sum_c dO_ic o_ic
//   dv = (p f)^T dO            ds = p (f dO v^T - delta)
//   dq = scale ds k            dk = scale ds^T q    dbias = ds
//
// A block owns 64 rows of an output and up to kWidth of its columns, so every sum has one owner and one order. What is
// wider is cut into slices, and each slice computes its scores again.
#include "cuda/index.h"
#include "ops/attention/cuda_kernels.h"
#include "ops/attention/cuda_tile.h"

namespace fovea::cuda {
namespace {

template <class A>
using ScoreTile = A[kTileRows][kTileColumns];
template <class A, int kWidth>
using SumTile = A[kTileRows][kWidth / kTileLanes];

// What the half warp that shares a row has in common.
template <class A, class Combine>
__device__ A across_row(A x, Combine combine) {
#pragma unroll
  for (int i = 1; i < kTileLanes; i *= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, i));
  return x;
}

// Slices of `width` columns, one at least, so that there is a block that writes lse.
template <int kWidth>
FOVEA_INLINE int64_t slices_of(int64_t width) {
  return max_of(1, ceil_div(width, kWidth));
}

// ---- forward

struct ForwardOperands {
  bool q_vectors, k_vectors, v_vectors;
  void *o, *lse;
};

// s2 of a tile of scores, from products: scaled, with bias, -inf where hidden.
template <class T, class A = Compute<T>>
__device__ void edit_tile(const AttentionProblem& p, int64_t bi, int64_t hi, int64_t i0, int64_t j0, ScoreTile<A>& s) {
  const A scale = A(p.scale * kLog2e);
  const bool edits = p.bias.data || p.mask.data;
#pragma unroll
  for (int r = 0; r < kTileRows; r++) {
    const int64_t i = i0 + tile_row() + r, j = j0 + tile_column();
    const int visible = i < p.n ? int(clamp_to(p.visible_keys(i) - j, 0, kTileColumns)) : 0;
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) {
      s[r][c] *= scale;
      if (c >= visible) s[r][c] = -kInfinity<A>;
      else if (edits) s[r][c] = edited<T>(p, bi, hi, i, j + c, s[r][c]);
    }
  }
}
// Turns s2 into 2^(s2 - top), where top is the highest so far, and scales what was summed with an older top. `total` is
// of this thread's columns only.
template <int kEach, class A>
__device__ void soften(ScoreTile<A>& s, A (&top)[kTileRows], A (&total)[kTileRows], A (&o)[kTileRows][kEach]) {
#pragma unroll
  for (int r = 0; r < kTileRows; r++) {
    A highest = top[r];
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) highest = max(highest, s[r][c]);
    highest = across_row(highest, [](A a, A b) { return max(a, b); });
    const A base = highest == -kInfinity<A> ? A(0) : highest;  // -inf - -inf would be NaN
    const A shrink = top[r] == highest ? A(1) : exp2_of(top[r] - base);
    top[r] = highest, total[r] *= shrink;
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) s[r][c] = exp2_of(s[r][c] - base), total[r] += s[r][c];
#pragma unroll
    for (int c = 0; c < kEach; c++) o[r][c] *= shrink;
  }
}
template <class A>
__device__ void drop_keys(const AttentionProblem& p, int64_t bi, int64_t hi, int64_t i0, int64_t j0, ScoreTile<A>& s) {
#pragma unroll
  for (int r = 0; r < kTileRows; r++) {
    A factors[kTileColumns];
    dropout_factors(p, p.element(bi, hi, i0 + tile_row() + r, j0 + tile_column()), factors);
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) s[r][c] *= factors[c];
  }
}
// Row tile_row() + r of the block's sums, times factor(r).
template <int kWidth, class T, class A, class Factor>
__device__ void write_sums(const SumTile<A, kWidth>& sums, T* out, int64_t rows, int64_t width, int64_t column,
                           Factor factor) {
#pragma unroll
  for (int r = 0; r < kTileRows; r++) {
    const A scale = factor(r);
    if (tile_row() + r >= rows) continue;
#pragma unroll
    for (int c = 0; c < kWidth / kTileLanes; c++)
      if (column + o_column(c) < width)
        out[(tile_row() + r) * width + column + o_column(c)] = narrow<T>(sums[r][c] * scale);
  }
}

// Blocks that a multiprocessor must have room for: two of wide rows of 16 bits, since the compiler goes for three and
// spills; 0 leaves it to the compiler.
template <class T, int kWidth>
constexpr int kForwardBlocks = sizeof(T) == 2 && kWidth > 64 ? 2 : 0;

template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads, (kForwardBlocks<T, kWidth>))
    forward(AttentionProblem p, ForwardOperands operands) {
  using A = Compute<T>;
  const int64_t blocks = ceil_div(p.n, kTileSide), slices = slices_of<kWidth>(p.e);
  // Backwards: with causality the last queries have the most work, which is best begun first.
  const int64_t head = blockIdx.x / blocks / slices, column = blockIdx.x / blocks % slices * kWidth,
                first = (blocks - 1 - blockIdx.x % blocks) * kTileSide, bi = head / p.h, hi = head % p.h;
  const Matrix<T> q{p.q.at<T>(bi, hi), p.q.row, p.n, p.d, operands.q_vectors},
      k{p.k.at<T>(bi, hi / p.group), p.k.row, p.m, p.d, operands.k_vectors},
      v{p.v.at<T>(bi, hi / p.group), p.v.row, p.m, p.e, operands.v_vectors};
  A top[kTileRows], total[kTileRows] = {};
  SumTile<A, kWidth> o = {};
#pragma unroll
  for (int r = 0; r < kTileRows; r++) top[r] = -kInfinity<A>;
  const int64_t end = p.visible_keys(min_of(first + kTileSide, p.n) - 1);
  for (int64_t j0 = 0; j0 < end; j0 += kTileSide) {
    ScoreTile<A> s;
    score_tile(q, first, k, j0, s);
    edit_tile<T>(p, bi, hi, first, j0, s);
    soften(s, top, total, o);
    if (p.threshold) drop_keys(p, bi, hi, first, j0, s);
    share_weights(s);
    add_product<kWidth>(v, j0, column, p.hides(), o);
  }
#pragma unroll
  for (int r = 0; r < kTileRows; r++) total[r] = across_row(total[r], [](A a, A b) { return a + b; });
  const int64_t row = head * p.n + first, rows = p.n - first;
  write_sums<kWidth>(o, static_cast<T*>(operands.o) + row * p.e, rows, p.e, column,
                     [&](int r) { return total[r] == 0 ? A(0) : 1 / total[r]; });
  if (column > 0 || threadIdx.x % kTileLanes) return;
#pragma unroll
  for (int r = 0; r < kTileRows; r++)
    if (tile_row() + r < rows) static_cast<A*>(operands.lse)[row + tile_row() + r] = log_total(top[r], total[r]);
}

// ---- gradients

// One warp per query.
template <class T>
__global__ void row_statistics(BackwardProblem p) {
  using A = Compute<T>;
  const int lane = int(threadIdx.x) % 32;
  const int64_t row = first_item() / 32, head = row / p.n, bi = head / p.h, hi = head % p.h, i = row % p.n;
  if (row >= p.b * p.h * p.n) return;
  const T *o = p.o.at<T>(bi, hi, i), *d_o = p.d_o.at<T>(bi, hi, i);
  A delta = 0;
  for (int64_t c = lane; c < p.e; c += 32) delta += A(widen(o[c])) * A(widen(d_o[c]));
  for (int step = 1; step < 32; step *= 2) delta += __shfl_xor_sync(0xffffffffu, delta, step);
  if (lane) return;
  const A lse = p.lse.at<A>(bi, hi, i)[0];
  static_cast<A*>(p.row_lse)[row] = lse == -kInfinity<A> ? kInfinity<A> : A(kLog2e) * lse;
  static_cast<A*>(p.row_delta)[row] = delta;
}

// What a block's sums are. Rows of dk and dv are keys, rows of the others queries; the columns of its tiles are the
// other ones.
enum class Gradient { q, k, v, bias };
constexpr bool rows_are_keys(Gradient kind) { return kind == Gradient::k || kind == Gradient::v; }

// A head's rows and columns: scores are x u^T, their slopes y w^T.
template <class T>
struct GradientTiles {
  Matrix<T> x, y, u, w;
};
struct GradientOperands {
  bool q_vectors, k_vectors, v_vectors, d_o_vectors;
  void* out;
};
template <bool kRowsAreKeys, class T>
__device__ GradientTiles<T> gradient_tiles(const BackwardProblem& p, const GradientOperands& operands, int64_t bi,
                                           int64_t hi) {
  const int64_t gi = hi / p.group;
  Matrix<T> q{p.q.at<T>(bi, hi), p.q.row, p.n, p.d, operands.q_vectors},
      d_o{p.d_o.at<T>(bi, hi), p.d_o.row, p.n, p.e, operands.d_o_vectors},
      k{p.k.at<T>(bi, gi), p.k.row, p.m, p.d, operands.k_vectors},
      v{p.v.at<T>(bi, gi), p.v.row, p.m, p.e, operands.v_vectors};
  if (kRowsAreKeys) return {k, v, q, d_o};
  return {q, d_o, k, v};
}

// Registers are short for two tiles of float64 and the sums: there, the scores wait in shared memory for the slopes.
template <Gradient kKind, class A>
constexpr bool kPutsAside = kSame<A, double> && kKind != Gradient::v;

// Scores -> p f for dv, ds for the others, with `slopes` = dO v^T; 0 where hidden. (row, column): the thread's first.
template <Gradient kKind, class T, class A = Compute<T>>
__device__ void slope_tile(const BackwardProblem& p, int64_t bi, int64_t hi, int64_t row, int64_t column,
                           const ScoreTile<A>& slopes, ScoreTile<A>& s) {
  constexpr bool kRowsAreKeys = rows_are_keys(kKind);
  constexpr int kQueries = kRowsAreKeys ? kTileColumns : kTileRows, kKeys = kRowsAreKeys ? kTileRows : kTileColumns;
  const A scale = A(p.scale * kLog2e);
  const int64_t i0 = kRowsAreKeys ? column : row, j0 = kRowsAreKeys ? row : column, at = (bi * p.h + hi) * p.n + i0;
#pragma unroll
  for (int query = 0; query < kQueries; query++) {
    const int64_t i = i0 + query;
    const int visible = i < p.n ? int(clamp_to(p.visible_keys(i) - j0, 0, kKeys)) : 0;
    const A lse = visible ? static_cast<const A*>(p.row_lse)[at + query] : A(0),
            delta = visible ? static_cast<const A*>(p.row_delta)[at + query] : A(0);
    A factors[kKeys];
    if (p.threshold) dropout_factors(p, p.element(bi, hi, i, j0), factors);
#pragma unroll
    for (int key = 0; key < kKeys; key++) {
      const int r = kRowsAreKeys ? key : query, c = kRowsAreKeys ? query : key;
      A score = (kPutsAside<kKind, A> ? own_weight<A>(r, c) : s[r][c]) * scale, weight = 0;
      if (key < visible) score = edited<T>(p, bi, hi, i, j0 + key, score);
      if (key < visible && score != -kInfinity<A>) {
        const A factor = p.threshold ? factors[key] : A(1);
        weight = exp2_of(score - lse) * (kKind == Gradient::v ? factor : factor * slopes[r][c] - delta);
      }
      s[r][c] = weight;
    }
  }
}
template <class T, class A = Compute<T>>
__device__ void write_slopes(const AttentionProblem& p, int64_t head, int64_t i0, int64_t j0, const ScoreTile<A>& s,
                             T* out) {
#pragma unroll
  for (int r = 0; r < kTileRows; r++)
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) {
      const int64_t i = i0 + tile_row() + r, j = j0 + tile_column() + c;
      if (i < p.n && j < p.m) out[(head * p.n + i) * p.m + j] = narrow<T>(s[r][c]);
    }
}

// The block's rows, from `first` on, against all columns of query head hi. sums += weights of the tile times its
// columns (u for dq and dk, w for dv), or `out` is ds itself.
template <Gradient kKind, int kWidth, class T, class A = Compute<T>>
__device__ void add_gradients(const BackwardProblem& p, const GradientOperands& operands, int64_t bi, int64_t hi,
                              int64_t first, int64_t slice, SumTile<A, kWidth>& sums) {
  constexpr bool kRowsAreKeys = rows_are_keys(kKind);
  const GradientTiles<T> tiles = gradient_tiles<kRowsAreKeys, T>(p, operands, bi, hi);
  const int64_t seen = p.visible_keys(min_of(first + kTileSide, p.n) - 1);
  const int64_t begin = kRowsAreKeys ? p.first_query(first) / kTileSide * kTileSide : 0;
  const int64_t end = kRowsAreKeys ? p.n : kKind == Gradient::bias ? p.m : seen;
  for (int64_t column = begin; column < end; column += kTileSide) {
    ScoreTile<A> s = {}, slopes = {};
    if (kRowsAreKeys || column < seen) {
      score_tile(tiles.x, first, tiles.u, column, s);
      if constexpr (kKind != Gradient::v) {
        if constexpr (kPutsAside<kKind, A>) share_weights(s);
        score_tile(tiles.y, first, tiles.w, column, slopes);
      }
    }
    slope_tile<kKind, T>(p, bi, hi, first + tile_row(), column + tile_column(), slopes, s);
    if constexpr (kKind == Gradient::bias) {
      write_slopes(p, bi * p.h + hi, first, column, s, static_cast<T*>(operands.out));
    } else {
      share_weights(s);
      add_product<kWidth>(kKind == Gradient::v ? tiles.w : tiles.u, column, slice, false, sums);
    }
  }
}

template <class T, Gradient kKind, int kWidth>
__global__ void __launch_bounds__(kTileThreads) backward(BackwardProblem p, GradientOperands operands) {
  using A = Compute<T>;
  constexpr bool kRowsAreKeys = rows_are_keys(kKind);
  const int64_t rows = kRowsAreKeys ? p.m : p.n, heads = kRowsAreKeys ? p.g : p.h;
  const int64_t width = kKind == Gradient::bias ? 0 : kKind == Gradient::v ? p.e : p.d;
  const int64_t blocks = ceil_div(rows, kTileSide), slices = slices_of<kWidth>(width);
  const int64_t block = blockIdx.x % blocks, slice = blockIdx.x / blocks % slices * kWidth,
                at = blockIdx.x / blocks / slices, bi = at / heads;
  // The longest first, with causality: the last queries, the first keys.
  const int64_t first = (kRowsAreKeys ? block : blocks - 1 - block) * kTileSide;
  SumTile<A, kWidth> sums = {};
  if constexpr (kRowsAreKeys) {
    for (int64_t hi = at % p.g * p.group; hi < (at % p.g + 1) * p.group; hi++)
      add_gradients<kKind, kWidth, T>(p, operands, bi, hi, first, slice, sums);
  } else {
    add_gradients<kKind, kWidth, T>(p, operands, bi, at % p.h, first, slice, sums);
  }
  if constexpr (kKind != Gradient::bias)
    write_sums<kWidth>(sums, static_cast<T*>(operands.out) + (at * rows + first) * width, rows - first, width, slice,
                       [&](int) { return kKind == Gradient::v ? A(1) : A(p.scale); });
}

// ---- launching

template <class T>
bool vectors(const Heads& x) {
  return x.aligned(min_of(sizeof(T) * 4, 16), sizeof(T));
}
template <class T, int kWidth>
Config tiles(int64_t heads, int64_t rows, int64_t width) {
  const int64_t blocks = heads * slices_of<kWidth>(width) * ceil_div(rows, kTileSide);
  return {.grid = dim3(unsigned(blocks)), .block = dim3(kTileThreads), .shared = kTileBytes<Compute<T>>};
}
// Calls body with the width of a slice as a type: wide ones for wide outputs, which then need fewer.
template <class T, class Body>
void choose_width(int64_t width, Body&& body) {
  constexpr int kWide = kSame<T, double> ? 64 : 128;  // registers are short for float64
  if (width > 64) body(std::integral_constant<int, kWide>{});
  else body(std::integral_constant<int, 64>{});
}
template <class T, Gradient kKind>
void launch_gradient(const CudaCall& call, const BackwardProblem& p, const View& out) {
  const GradientOperands operands{vectors<T>(p.q), vectors<T>(p.k), vectors<T>(p.v), vectors<T>(p.d_o), out.data};
  const int64_t width = kKind == Gradient::bias ? 0 : out.shape[3];
  if (kKind != Gradient::bias && width == 0) return;
  choose_width<T>(width, [&](auto chosen) {
    constexpr int kWidth = kKind == Gradient::bias ? 64 : decltype(chosen)::value;
    const bool keys = rows_are_keys(kKind);
    call.launch(backward<T, kKind, kWidth>, tiles<T, kWidth>(p.b * (keys ? p.g : p.h), keys ? p.m : p.n, width), p,
                operands);
  });
}

}  // namespace

template <class T>
void attention_simt(const CudaCall& call, const AttentionProblem& p) {
  const ForwardOperands operands{vectors<T>(p.q), vectors<T>(p.k), vectors<T>(p.v), call.out[0].data, call.out[1].data};
  choose_width<T>(p.e, [&](auto chosen) {
    constexpr int kWidth = decltype(chosen)::value;
    call.launch(forward<T, kWidth>, tiles<T, kWidth>(p.b * p.h, p.n, p.e), p, operands);
  });
}
template <class T>
void attention_row_statistics(const CudaCall& call, const BackwardProblem& p) {
  constexpr int kThreads = 256;
  const int64_t blocks = ceil_div(p.b * p.h * p.n * 32, kThreads);
  call.launch(row_statistics<T>, {.grid = dim3(unsigned(blocks)), .block = dim3(kThreads)}, p);
}
template <class T>
void attention_backward_simt(const CudaCall& call, const BackwardProblem& p) {
  launch_gradient<T, Gradient::q>(call, p, call.out[0]);
  launch_gradient<T, Gradient::k>(call, p, call.out[1]);
  launch_gradient<T, Gradient::v>(call, p, call.out[2]);
}
template <class T>
void attention_bias_backward_simt(const CudaCall& call, const BackwardProblem& p) {
  launch_gradient<T, Gradient::bias>(call, p, call.out[0]);
}

#define FOVEA_ATTENTION_SIMT(T)                                                       \
  template void attention_simt<T>(const CudaCall&, const AttentionProblem&);          \
  template void attention_row_statistics<T>(const CudaCall&, const BackwardProblem&); \
  template void attention_backward_simt<T>(const CudaCall&, const BackwardProblem&);  \
  template void attention_bias_backward_simt<T>(const CudaCall&, const BackwardProblem&);
FOVEA_ATTENTION_SIMT(float)
FOVEA_ATTENTION_SIMT(double)
FOVEA_ATTENTION_SIMT(Half)
FOVEA_ATTENTION_SIMT(Bfloat16)
#undef FOVEA_ATTENTION_SIMT

}  // namespace fovea::cuda
