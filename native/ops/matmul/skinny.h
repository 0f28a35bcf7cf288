// c[m][n] for up to eight rows of A, as in decoding: bound by the memory that holds B, which is streamed once, in the
// order in which it lies, and never packed.
//
//   dot_columns    k has stride 1 in B (the weight of a linear layer, seen transposed): dot products, several at once
//   sweep_columns  columns have stride 1: several vectors of columns are summed in registers while k runs
//
// Sums over k are kept per block of kSumDepth, so that the rounding error of long sums stays that of a short one; of
// those that streamed.h may sum as well, per block of its tasks, so that both give the same bits.
#pragma once
#include <utility>

#include "ops/matmul/output.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kSumDepth = 4096;
constexpr int kRegisters = kTileRows * kTileVectors > 16 ? 32 : 16;
constexpr int kSweepVectors = 8;          // of columns at once, fewer where registers are short
constexpr int64_t kPrefetchBytes = 2048;  // ahead in each stream of B
constexpr int64_t kPrefetchRows = 4;      // ahead in each of them in sweeps

// What dot products of B's storage type are made of: x, a row of A, in the type that is multiplied.
template <class S>
struct Dot {
  using X = Compute<S>;
  using T = Compute<S>;
  static constexpr int kStep = kLanes<T>;  // elements that are multiplied at once
  FOVEA_INLINE static Vec<T> load_x(const X* x) { return load(x); }
  FOVEA_INLINE static Vec<T> load_y(const S* y) { return load_compute(y); }
  FOVEA_INLINE static Vec<T> multiply_add(Vec<T> sum, Vec<T> x, Vec<T> y) { return sum + x * y; }
};
#if defined(__AVX512BF16__)
// Pairs of neighbours, as in gemm_bf16.h: nothing is converted.
template <>
struct Dot<Bfloat16> {
  using X = Bfloat16;
  static constexpr int kStep = 2 * kLanes<float>;
  FOVEA_INLINE static Vec<uint32_t> load_x(const X* x) { return load_y(x); }
  FOVEA_INLINE static Vec<uint32_t> load_y(const Bfloat16* y) {
    Vec<uint32_t> pairs;
    __builtin_memcpy(&pairs, y, sizeof pairs);
    return pairs;
  }
  FOVEA_INLINE static Vec<float> multiply_add(Vec<float> sum, Vec<uint32_t> x, Vec<uint32_t> y) {
    return PackedType<Pair>::multiply_add(sum, x, y);
  }
};
#endif

// The part of a dot product that does not fill a vector.
template <class S>
__attribute__((noinline)) Compute<S> dot_rest(const typename Dot<S>::X* x, const S* y, int64_t begin, int64_t end) {
  Compute<S> sum(0);
  for (int64_t p = begin; p < end; p++) sum += to_compute(x[p]) * to_compute(y[p]);
  return sum;
}

// Sums of neighbours: those of a, then those of b.
template <class T, size_t... I>
FOVEA_INLINE Vec<T> add_neighbours(Vec<T> a, Vec<T> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, int(2 * I)...) + __builtin_shufflevector(a, b, int(2 * I + 1)...);
}
// sums[j] = the sum of v[j]'s lanes; Count is a power of two. v is overwritten.
template <class T, int Count>
FOVEA_INLINE void sum_each(Vec<T> (&v)[Count], T* sums) {
  constexpr int L = kLanes<T>, kTogether = Count < L ? Count : L;
  constexpr auto kEach = std::make_index_sequence<size_t(L)>();
#pragma GCC unroll 8
  for (int first = 0; first < Count; first += kTogether) {
#pragma GCC unroll 4
    for (int left = kTogether / 2; left > 0; left /= 2)
#pragma GCC unroll 8
      for (int j = 0; j < left; j++) v[first + j] = add_neighbours<T>(v[first + 2 * j], v[first + 2 * j + 1], kEach);
#pragma GCC unroll 4
    for (int lanes = L / kTogether; lanes > 1; lanes /= 2) v[first] = add_neighbours<T>(v[first], v[first], kEach);
    T all[L];
    store(all, v[first]);
    for (int j = 0; j < kTogether; j++) sums[first + j] = all[j];
  }
}

// sums[i][j] = x[i] . b[j] for Columns columns, b_column elements apart; x is [Rows][k] at x_row.
template <class S, int Rows, int Columns>
FOVEA_INLINE void dot_tile(const typename Dot<S>::X* x, int64_t x_row, int64_t k, const S* b, int64_t b_column,
                           Compute<S>* sums, int64_t pitch) {
  using T = Compute<S>;
  using D = Dot<S>;
  T total[Rows][Columns] = {};
  for (int64_t k0 = 0; k0 < k; k0 += kSumDepth) {
    int64_t end = min_of(k, k0 + kSumDepth), p = k0;
    Vec<T> sum[Rows][Columns];
#pragma GCC unroll 4
    for (int i = 0; i < Rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < Columns; j++) sum[i][j] = Vec<T>{};
#pragma GCC unroll 1
    for (; p + D::kStep <= end; p += D::kStep) {
      decltype(D::load_y(b)) y[Columns];
#pragma GCC unroll 8
      for (int j = 0; j < Columns; j++) {
        y[j] = D::load_y(b + j * b_column + p);
        __builtin_prefetch(reinterpret_cast<const char*>(b + j * b_column + p) + kPrefetchBytes);
      }
#pragma GCC unroll 4
      for (int i = 0; i < Rows; i++) {
        auto v = D::load_x(x + i * x_row + p);
#pragma GCC unroll 8
        for (int j = 0; j < Columns; j++) sum[i][j] = D::multiply_add(sum[i][j], v, y[j]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < Rows; i++) {
      T whole[Columns];
      sum_each<T>(sum[i], whole);
      for (int j = 0; j < Columns; j++) total[i][j] += whole[j];
    }
    if (p == end) continue;
#pragma GCC unroll 1
    for (int i = 0; i < Rows; i++)
#pragma GCC unroll 1
      for (int j = 0; j < Columns; j++) total[i][j] += dot_rest(x + i * x_row, b + j * b_column, p, end);
  }
  for (int i = 0; i < Rows; i++)
    for (int j = 0; j < Columns; j++) sums[i * pitch + j] = total[i][j];
}

// Columns that are multiplied together lie far apart, each the first of an equal part of all: parts are long streams,
// which hardware foresees, and memory gives more in several streams than in one.
template <class S, int Rows>
void dot_columns(const typename Dot<S>::X* x, int64_t x_row, int64_t k, const S* b, int64_t b_column, int64_t columns,
                 Compute<S>* sums, int64_t pitch) {
  constexpr int kStreams = kRegisters == 32 ? (Rows == 1 ? 8 : 4) : (Rows > 2 ? 2 : 4);
  const int64_t part = columns / kStreams;
  for (int64_t j = 0; j < part; j++) {
    Compute<S> found[Rows][kStreams];
    dot_tile<S, Rows, kStreams>(x, x_row, k, b + j * b_column, part * b_column, found[0], kStreams);
    for (int i = 0; i < Rows; i++)
      for (int s = 0; s < kStreams; s++) sums[i * pitch + s * part + j] = found[i][s];
  }
  for (int64_t j = part * kStreams; j < columns; j++)
    dot_tile<S, Rows, 1>(x, x_row, k, b + j * b_column, b_column, sums + j, pitch);
}

// Rows of B that take turns in sums over k: the first of each of so many equal parts, then the second, for the reason
// that dot_columns has. What is left comes last. body(k) in this order, for k in [begin, end).
constexpr int kKStreams = 4;
template <class Body>
FOVEA_INLINE void in_streams(int64_t begin, int64_t end, Body&& body) {
  const int64_t part = (end - begin) / kKStreams;
#pragma GCC unroll 1
  for (int64_t p = begin; p < begin + part; p++)
#pragma GCC unroll 4
    for (int s = 0; s < kKStreams; s++) body(p + s * part);
#pragma GCC unroll 1
  for (int64_t p = begin + kKStreams * part; p < end; p++) body(p);
}

// sums[i][0 .. Vectors x lanes) = sum over k of x[i][k] b[k][...].
template <class S, int Rows, int Vectors>
FOVEA_INLINE void sweep_tile(const Compute<S>* x, int64_t x_row, int64_t k, int64_t depth, const S* b, int64_t b_k,
                             Compute<S>* sums, int64_t pitch) {
  using T = Compute<S>;
  constexpr int L = kLanes<T>;
  for (int64_t k0 = 0; k0 < k; k0 += depth) {
    int64_t end = min_of(k, k0 + depth);
    Vec<T> sum[Rows][Vectors];
#pragma GCC unroll 4
    for (int i = 0; i < Rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; j++) sum[i][j] = Vec<T>{};
    in_streams(
        k0, end, [&](int64_t p) __attribute__((always_inline)) {
          Vec<T> y[Vectors];
#pragma GCC unroll 8
          for (int j = 0; j < Vectors; j++) {
            y[j] = load_compute(b + p * b_k + j * L);
            if (j * L * int(sizeof(S)) % 64 == 0) __builtin_prefetch(b + (p + kPrefetchRows) * b_k + j * L);
          }
#pragma GCC unroll 4
          for (int i = 0; i < Rows; i++) {
            Vec<T> v = splat(x[i * x_row + p]);
#pragma GCC unroll 8
            for (int j = 0; j < Vectors; j++) sum[i][j] += v * y[j];
          }
        });
#pragma GCC unroll 4
    for (int i = 0; i < Rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; j++) {
        T* to = sums + i * pitch + j * L;
        store(to, k0 > 0 ? load(to) + sum[i][j] : sum[i][j]);
      }
  }
}

// A column that does not fill a vector.
template <class S>
__attribute__((noinline)) Compute<S> sweep_one(const Compute<S>* x, int64_t k, int64_t depth, const S* b, int64_t b_k) {
  Compute<S> total(0);
  for (int64_t k0 = 0; k0 < k; k0 += depth) {
    Compute<S> sum(0);
    in_streams(k0, min_of(k, k0 + depth), [&](int64_t p) { sum += x[p] * to_compute(b[p * b_k]); });
    total += sum;
  }
  return total;
}

template <class S, int Rows>
void sweep_columns(const Compute<S>* x, int64_t x_row, int64_t k, int64_t depth, const S* b, int64_t b_k,
                   int64_t columns, Compute<S>* sums, int64_t pitch) {
  using T = Compute<S>;
  constexpr int L = kLanes<T>, kAtOnce = kSweepVectors / (Rows * 8 > kRegisters ? (Rows * 4 > kRegisters ? 4 : 2) : 1);
  int64_t j = 0;
  for (; j + kAtOnce * L <= columns; j += kAtOnce * L)
    sweep_tile<S, Rows, kAtOnce>(x, x_row, k, depth, b + j, b_k, sums + j, pitch);
  if constexpr (kAtOnce > 4)
    for (; j + 4 * L <= columns; j += 4 * L) sweep_tile<S, Rows, 4>(x, x_row, k, depth, b + j, b_k, sums + j, pitch);
  for (; j + L <= columns; j += L) sweep_tile<S, Rows, 1>(x, x_row, k, depth, b + j, b_k, sums + j, pitch);
  for (; j < columns; j++)
    for (int i = 0; i < Rows; i++) sums[i * pitch + j] = sweep_one(x + i * x_row, k, depth, b + j, b_k);
}

// X: Dot<S>::X where k has stride 1 in B, else Compute<S>.
template <class S, int Rows, class X>
void skinny_rows(const Product<S>& product, const X* x, int64_t x_row, int64_t row, int64_t column, int64_t columns) {
  const MatmulProblem& p = product.shape;
  alignas(64) Compute<S> sums[Rows * kMaxFinished];
  const S* b = product.b + column * p.b_column;
  if constexpr (std::is_same_v<X, typename Dot<S>::X>)
    if (p.b_k == 1) dot_columns<S, Rows>(x, x_row, p.k, b, p.b_column, columns, sums, kMaxFinished);
  if constexpr (std::is_same_v<X, Compute<S>>)
    if (p.b_k != 1)
      sweep_columns<S, Rows>(x, x_row, p.k, streams_b_rows(p) ? p.streamed_depth() : kSumDepth, b, p.b_k, columns, sums,
                             kMaxFinished);
  finish(product, p, sums, kMaxFinished, row, column, Rows, columns);
}

template <class S>
void gather_row(const S* from, int64_t stride, Compute<S>* to, int64_t n) {
  if (stride == 1) return to_compute_row(from, to, n);
  for (int64_t i = 0; i < n; i++) to[i] = to_compute(from[i * stride]);
}
FOVEA_INLINE void gather_row(const Bfloat16* from, int64_t stride, Bfloat16* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i * stride];
}

// Columns for one unit of work, in multiples of what the kernels take at once: about 128 KB of B across k; along it an
// eighth of B, between 64 KB and 1 MB, so that reading begins anew seldom.
template <class S>
FOVEA_INLINE int64_t skinny_columns(const MatmulProblem& p) {
  constexpr int64_t kBytes = int64_t(1) << 17;
  const bool along = p.b_k == 1;
  const int64_t step = along ? 16 : kSweepVectors * kLanes<Compute<S>>, column = p.k * int64_t(sizeof(S));
  const int64_t columns = (along ? clamp_to(p.n * column / 8, kBytes / 2, 8 * kBytes) : kBytes) / column;
  return max_of(step, min_of(columns, kMaxFinished) / step * step);
}

// body<kRows>() for the first up to four of `rows` rows: as many as are held in registers.
template <class Body>
FOVEA_INLINE void with_rows(int64_t rows, Body&& body) {
  switch (min_of(4, rows)) {
    case 1: return body.template operator()<1>();
    case 2: return body.template operator()<2>();
    case 3: return body.template operator()<3>();
    default: return body.template operator()<4>();
  }
}

template <class S, class X>
void multiply_skinny_rows(const Product<S>& product, int64_t column, int64_t columns, X* x_copy, bool copied) {
  const MatmulProblem& p = product.shape;
  const X* x = x_copy;
  int64_t x_row = p.k;
  if constexpr (std::is_same_v<S, X>)
    if (p.a_k == 1) x = product.a, x_row = p.a_row, copied = true;
  for (int64_t i = 0; !copied && i < p.m; i++) gather_row(product.a + i * p.a_row, p.a_k, x_copy + i * p.k, p.k);
  for (int64_t row = 0; row < p.m; row += 4, x += 4 * x_row)
    with_rows(p.m - row, [&]<int kRows>() { skinny_rows<S, kRows>(product, x, x_row, row, column, columns); });
}
// Columns [column, column + columns), at most kMaxFinished; x_copy has room for A if it must be converted or gathered.
// More than four rows take turns: the second group finds these columns of B in the cache.
template <class S>
void multiply_skinny(const Product<S>& product, int64_t column, int64_t columns, Compute<S>* x_copy, bool copied) {
  using X = typename Dot<S>::X;
  if constexpr (!std::is_same_v<X, Compute<S>>)
    if (product.shape.b_k == 1)
      return multiply_skinny_rows(product, column, columns, reinterpret_cast<X*>(x_copy), copied);
  multiply_skinny_rows(product, column, columns, x_copy, copied);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
