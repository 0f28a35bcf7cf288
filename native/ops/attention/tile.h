// Register tiles for attention: packing of operands, one matrix product and 2^x. Included by per-instruction-set
// files only.
//
// Every product of attention has the form C[rows, P] (+)= A[rows, k] B[k, P] with up to kRows rows and P = two vectors
// of columns. Products<T> has them for operands of type T: here in the type that is computed in, in tile_pairs.h in
// pairs. By vectors, kRows rows fill the registers with sums; A is either packed, element (r, i) at i kRows + r, or a
// tile of scores, element (r, i) at r kTilePitch + i; a row of B is P adjacent elements.
#pragma once
#include "cpu/gemm.h"
#include "cpu/math_coarse.h"
#include "ops/attention/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorRows = 14;  // 28 sums, 2 vectors of B and 1 of A in 32 registers
#elif defined(__aarch64__)
constexpr int kVectorRows = 8;
#else
constexpr int kVectorRows = 6;  // 16 registers
#endif
constexpr int kFewRows = kVectorRows / 2 + 1;  // what a shorter strip is multiplied by: 64 rows are four strips and 8
constexpr int64_t kColumns = kAttentionColumns;
template <class A>
constexpr int kPanel = 2 * kLanes<A>;

// ---- shuffles

template <int kShift, class V, int... I>
FOVEA_INLINE V rotate_lanes(V v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, ((I + kShift) % int(sizeof...(I)))...);
}
// Folds the upper half of the lanes onto the lower, until one is left.
template <class A, class Op>
FOVEA_INLINE A fold_lanes(Vec<A> v, Op op) {
  using All = std::make_integer_sequence<int, kLanes<A>>;
  if constexpr (kLanes<A> >= 16) v = op(v, rotate_lanes<8>(v, All{}));
  if constexpr (kLanes<A> >= 8) v = op(v, rotate_lanes<4>(v, All{}));
  if constexpr (kLanes<A> >= 4) v = op(v, rotate_lanes<2>(v, All{}));
  return op(v, rotate_lanes<1>(v, All{}))[0];
}
template <class A>
FOVEA_INLINE A total_of(Vec<A> v) {
  return fold_lanes<A>(v, [](Vec<A> a, Vec<A> b) { return a + b; });
}
// NaN may win or be ignored.
template <class A>
FOVEA_INLINE A highest_of(Vec<A> v) {
  return fold_lanes<A>(v, [](Vec<A> a, Vec<A> b) { return max(a, b); });
}

// ---- 2^x for x <= 0 or a little above; 0 below the smallest normal number, or nearly; NaN stays NaN
// Minimax polynomials of 2^f, on [0, 1] or on [-1/2, 1/2]: relative error 2e-9 and 3.1e-18 before rounding.

FOVEA_INLINE Vec<double> exp2_polynomial(Vec<double> f) {
  Vec<double> p = splat(4.435282706957277e-10);
  p = p * f + 7.074105613508143e-09, p = p * f + 1.0178198021671931e-07, p = p * f + 1.32154330896764e-06;
  p = p * f + 1.5252733489988525e-05, p = p * f + 1.5403530462514432e-4, p = p * f + 1.3333558146789923e-3;
  p = p * f + 9.618129107588335e-3, p = p * f + 5.5504108664819925e-2, p = p * f + 2.4022650695910155e-1;
  p = p * f + 6.931471805599453e-1;
  return p * f + 1.0;
}
#if defined(__AVX512F__)
FOVEA_INLINE Vec<float> exp2_of(Vec<float> x) {
  constexpr float c[] = {6.931470633e-1f, 2.402293086e-1f, 5.548528209e-2f,
                         9.675451554e-3f, 1.246784581e-3f, 2.161291632e-4f};
  const Vec<float> f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // of infinities, 0
  return _mm512_scalef_ps(1.f + f * polynomial(f, c), x);                               // by the floor of x
}
FOVEA_INLINE Vec<double> exp2_of(Vec<double> x) {
  x = max(splat(-2000.0), x);  // below, x - n would be NaN for -inf
  __m512d n = _mm512_roundscale_pd(__m512d(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return Vec<double>(_mm512_scalef_pd(__m512d(exp2_polynomial(x - Vec<double>(n))), n));
}
#else
// Adding 1.5 2^23 leaves the nearest integer in the low bits of the mantissa, from where it moves into the exponent;
// unsigned, since below the range of the exponent, where the result is not taken, it overflows.
FOVEA_INLINE Vec<float> exp2_of(Vec<float> x) {
  constexpr float c[] = {6.9314721e-1f, 2.4022647e-1f, 5.5503288e-2f, 9.6184890e-3f, 1.3399931e-3f, 1.5345811e-4f};
  Vec<float> shifted = x + 0x1.8p23f;
  Vec<float> power = Vec<float>((Vec<uint32_t>(shifted) << 23) + 0x3f800000u);
  const Vec<float> f = x - (shifted - 0x1.8p23f);
  return select(x < -126.0f, Vec<float>{}, (1.f + f * polynomial(f, c)) * power);
}
FOVEA_INLINE Vec<double> exp2_of(Vec<double> x) {
  Vec<double> shifted = x + 0x1.8p52;
  Vec<double> power = Vec<double>((Vec<uint64_t>(shifted) << 52) + 0x3ff0000000000000u);
  Vec<double> result = exp2_polynomial(x - (shifted - 0x1.8p52)) * power;
  return select(x < -1022.0, Vec<double>{}, result);
}
#endif
// For weights of values of type T: those of 16 bits do not need more.
template <class T, class V>
FOVEA_INLINE V weight_of(V x) {
  if constexpr (kIs16Bit<T>) return coarse_exp2(x);
  else return exp2_of(x);
}
template <class A>
FOVEA_INLINE A exp2_of(A x) {
  return exp2_of(splat(x))[0];
}
FOVEA_INLINE float log_of(float x) { return __builtin_logf(x); }
FOVEA_INLINE double log_of(double x) { return __builtin_log(x); }

// ---- packing

template <class A, class T>
FOVEA_INLINE A value_of(T x) {
  A value;
  convert_row(&x, &value, 1);
  return value;
}
// `count` elements as A: the row itself where that is what it holds, else a copy in `buffer`.
template <class A, class T>
FOVEA_INLINE const A* row_as(const T* x, int64_t step, int64_t count, A* buffer) {
  if constexpr (kSame<A, T>) {
    if (step == 1) return x;
  }
  if (step == 1) {
    convert_row(x, buffer, count);
  } else {
    for (int64_t i = 0; i < count; i++) buffer[i] = value_of<A>(x[i * step]);
  }
  return buffer;
}

// One vector from and to storage: gcc would turn a loop that copies a few floats into `rep movs`, slow to start.
template <class A, class T>
FOVEA_INLINE Vec<A> load_as(const T* x) {
  A buffer[kLanes<A>];
  return load(row_as<A>(x, 1, kLanes<A>, buffer));
}
template <class A, class T>
FOVEA_INLINE void store_as(T* x, Vec<A> v) {
  if constexpr (kSame<A, T>) {
    store(x, v);
  } else {
    A buffer[kLanes<A>];
    store(buffer, v);
    convert_row(buffer, x, kLanes<A>);
  }
}
// Rows [0, rows) of an L x L block as columns, the others as 0.
template <class A, class T>
FOVEA_INLINE void load_transposed(const T* in, int64_t stride, int64_t rows, A factor, Vec<A> (&v)[kLanes<A>]) {
  constexpr int L = kLanes<A>;
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) v[i] = (i < rows ? load_as<A>(in + i * stride) : Vec<A>{}) * factor;
  transpose<A>(v);
}
// out[c kStep + r] = factor in[r stride + c] for r < rows <= kWidth and c < width; 0 for the other r. Up to a vector
// behind the last of them is overwritten.
template <int kWidth, int kStep = kWidth, class A, class T>
__attribute__((noinline)) void pack_columns(const T* in, int64_t stride, int64_t rows, int64_t width, A factor,
                                            A* out) {
  constexpr int L = kLanes<A>;
  const int64_t vectors = width / L * L;
  // Columns are stored in ascending order, so that what a store spills into the next column is written over. Blocks of
  // L rows can follow one another, except where the last of several spills into the first.
  constexpr bool kSpills = kWidth > L && kWidth % L != 0;
  constexpr int kBlocks = (kWidth + L - 1) / L, kTogether = kSpills ? kBlocks : 1;
  for (int first = 0; first < kBlocks; first += kTogether)
    for (int64_t c = 0; c < vectors; c += L) {
      Vec<A> v[kTogether][L];
#pragma GCC unroll 3
      for (int b = 0; b < kTogether; b++)
        load_transposed(in + (first + b) * L * stride + c, stride, rows - (first + b) * L, factor, v[b]);
#pragma GCC unroll 16
      for (int i = 0; i < L; i++)
#pragma GCC unroll 3
        for (int b = 0; b < kTogether; b++) store(out + (c + i) * kStep + (first + b) * L, v[b][i]);
    }
  for (int64_t c = vectors; c < width; c++)
    for (int64_t r = 0; r < kWidth; r++)
      out[c * kStep + r] = r < rows ? factor * value_of<A>(in[r * stride + c]) : A(0);
}

// A matrix whose rows are read P elements at a time: columns [p P, p P + P) of row r start at data + r row + p panel.
template <class A>
struct RowOperand {
  const A* data;
  int64_t row, panel;
};
template <class A, class T>
FOVEA_INLINE bool rows_in_place(const View& x) {
  return kSame<A, T> && attention_in_place(x, kPanel<A>);
}
// The packed form: panels of all `total` rows. Writes `rows` of them, padding their width with 0.
template <class A, class T>
void pack_row_panels(const T* in, int64_t stride, int64_t rows, int64_t width, int64_t total, A* out) {
  constexpr int L = kLanes<A>, P = kPanel<A>;
  for (int64_t c = 0; c < width; c += P, out += total * P) {
    int64_t count = min_of(P, width - c);
    for (int64_t r = 0; r < rows; r++) {
      const T* from = in + r * stride + c;
      A* to = out + r * P;
      if (count == P) {
        store(to, load_as<A>(from)), store(to + L, load_as<A>(from + L));
      } else {
        for (int64_t i = 0; i < P; i++) to[i] = i < count ? value_of<A>(from[i]) : A(0);
      }
    }
  }
}
// Row r of sums in panels [panel][kRows][P] -> factor times it.
template <int kRows, class A, class T>
FOVEA_INLINE void unpack_row(const A* panels, int64_t r, int64_t width, A factor, T* out) {
  constexpr int L = kLanes<A>, P = kPanel<A>;
  for (int64_t c = 0; c < width; c += P, panels += kRows * P) {
    Vec<A> low = load(panels + r * P) * factor, high = load(panels + r * P + L) * factor;
    if (c + P <= width) {
      store_as<A>(out + c, low), store_as<A>(out + c + L, high);
    } else {
      A row[P];
      store(row, low), store(row + L, high);
      convert_row(row, out + c, width - c);
    }
  }
}
template <class A>
FOVEA_INLINE void fill_zero(A* out, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = 0;
}

// ---- the products

// Element (r, i) of A: packed, of a tile, or of a tile that is read across, whose rows are summed over.
enum class Left { packed, tile, across };

// Elements of a row of a tile: a pair is two of its columns.
template <class E>
constexpr int64_t kTilePitch = kColumns / (kSame<E, Sum<E>> ? 1 : 2);

// c[r kCStep + j] = (kAdd ? c : 0) + sum over i < k of a(r, i) b[i b_step + j], for kRows rows r and kVectors vectors
// of columns j. A sum starts from 0, so that adding block after block keeps rounding errors small.
template <class E, Left kLeft, int kCStep, bool kAdd, int kVectors = 2, int kRows = kVectorRows>
__attribute__((noinline)) void multiply(int64_t k, const E* a, const E* b, int64_t b_step, Sum<E>* c) {
  using A = Sum<E>;
  using Type = PackedType<E>;
  constexpr int L = kLanes<A>;
  constexpr int64_t row = kLeft == Left::tile ? kTilePitch<E> : 1;
  constexpr int64_t next = kLeft == Left::packed ? kVectorRows : kLeft == Left::tile ? 1 : kColumns;
  Vec<A> sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; j++) sum[r][j] = Vec<A>{};
#pragma GCC unroll 1
  for (int64_t i = 0; i < k; i++) {
    decltype(Type::load_vector(b)) column[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; j++) column[j] = Type::load_vector(b + j * L);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; r++) {
      const auto x = Type::splat_value(a + r * row);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; j++) sum[r][j] = Type::multiply_add(sum[r][j], x, column[j]);
    }
    a += next, b += b_step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; j++) {
      A* to = c + r * kCStep + j * L;
      store(to, kAdd ? load(to) + sum[r][j] : sum[r][j]);
    }
}
// The same for a strip, of which only `rows` rows count.
template <class E, Left kLeft, int kCStep, bool kAdd, int kVectors = 2>
FOVEA_INLINE void multiply_strip(int64_t rows, int64_t k, const E* a, const E* b, int64_t b_step, Sum<E>* c) {
  if (rows <= kFewRows) multiply<E, kLeft, kCStep, kAdd, kVectors, kFewRows>(k, a, b, b_step, c);
  else multiply<E, kLeft, kCStep, kAdd, kVectors>(k, a, b, b_step, c);
}
// Columns [begin, end) of a tile, multiples of a vector, in panels of two: whole(j) for whole panels, half(j) for what
// is left at either end.
template <class A, class Whole, class Half>
FOVEA_INLINE void for_panels(int64_t begin, int64_t end, Whole&& whole, Half&& half) {
  constexpr int64_t L = kLanes<A>, P = kPanel<A>;
  int64_t j = begin;
  if (j % P != 0 && j < end) half(j), j += L;
  for (; j + P <= end; j += P) whole(j);
  if (j < end) half(j);
}

// The rows of a tile read across are its columns, as many at a time as cut them evenly; the last may reach behind them.
constexpr int kAcross = int(ceil_div(kColumns, ceil_div(kColumns, kVectorRows)));
constexpr int kAcrossRows = int(round_up(kColumns, kAcross));

// Operands of type T, packed and multiplied as A. Rows that stay (a strip) are packed once, with a factor; what they
// meet is packed transposed, in panels of P, and as rows.
template <class T>
struct Products {
  using A = Compute<T>;
  static constexpr int kRows = kVectorRows;
  static constexpr int64_t P = kPanel<A>;
  static constexpr int64_t kStep = kLanes<A>;  // tiles of scores begin and end at multiples of it
  static constexpr bool kScalesStrips = true;  // else the factor is left for the scores
  static constexpr bool kReadsAcross = true;
  struct Use {};  // what a thread holds meanwhile

  // Elements that are packed of a row of `width`.
  FOVEA_INLINE static int64_t depth(int64_t width) { return width; }
  static void pack_strip(const T* in, int64_t stride, int64_t rows, int64_t width, A factor, A* out) {
    pack_columns<kRows>(in, stride, rows, width, factor, out);
  }
  static void pack_panel(const T* in, int64_t stride, int64_t rows, int64_t width, A* out) {
    pack_columns<P>(in, stride, rows, width, A(1), out);
  }
  // Rows [first, first + rows) of `total`, where `out` is for all.
  static void pack_rows(const T* in, int64_t stride, int64_t first, int64_t rows, int64_t width, int64_t total,
                        A* out) {
    pack_row_panels(in, stride, rows, width, total, out + first * P);
  }
  FOVEA_INLINE static RowOperand<A> packed_rows(const A* packed, int64_t total) { return {packed, P, total * P}; }

  // tile[rows][columns from `begin` to `end`, multiples of kStep] = a b, b in panels of P columns [panel][width][P]
  FOVEA_INLINE static void score_tile(int64_t rows, int64_t width, const A* a, const A* panels, int64_t begin,
                                      int64_t end, A* tile) {
    constexpr int kStep = int(kColumns);
    const auto panel = [&](int64_t j) { return panels + j / P * P * width + j % P; };
    for_panels<A>(
        begin, end,
        [&](int64_t j) { multiply_strip<A, Left::packed, kStep, false>(rows, width, a, panel(j), P, tile + j); },
        [&](int64_t j) { multiply_strip<A, Left::packed, kStep, false, 1>(rows, width, a, panel(j), P, tile + j); });
  }
  // c, in panels [panel][kRows][P], += tile[rows][count of kColumns] b[count][width]
  FOVEA_INLINE static void add_product(int64_t rows, int64_t count, const A* tile, const RowOperand<A>& b,
                                       int64_t first_row, int64_t width, A* c) {
    for (int64_t p = 0; p * P < width; p++)
      multiply_strip<A, Left::tile, P, true>(rows, count, tile, b.data + first_row * b.row + p * b.panel, b.row,
                                             c + p * kRows * P);
  }
  // A tile of `rows` rows as it is read across: itself, or what is made of it in a buffer of half the size.
  FOVEA_INLINE static const A* across(int64_t, const A* tile, A*) { return tile; }
  // Rows [column, column + kAcross) of c, in panels [panel][kAcrossRows][P], += sum over rows [first, last) of these
  // columns of the tile times as many rows of b, from first_row on.
  FOVEA_INLINE static void add_across(const A* tile, int64_t first, int64_t last, int64_t column,
                                      const RowOperand<A>& b, int64_t first_row, int64_t width, A* c) {
    for (int64_t p = 0; p * P < width; p++)
      multiply<A, Left::across, P, true, 2, kAcross>(last - first, tile + first * kColumns + column,
                                                     b.data + first_row * b.row + p * b.panel, b.row,
                                                     c + (p * kAcrossRows + column) * P);
  }
  // The same where what is infinite or NaN in b stays out wherever the tile is 0. The sums are those of add_product.
  static void add_visible(int64_t rows, int64_t count, const A* tile, const RowOperand<A>& b, int64_t first_row,
                          int64_t width, A* c) {
    constexpr int L = kLanes<A>;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t p = 0; p * P < width; p++) {
        Vec<A> sum0{}, sum1{};
        for (int64_t j = 0; j < count; j++) {
          A weight = tile[r * kColumns + j];
          if (weight == 0) continue;
          const A* row = b.data + (first_row + j) * b.row + p * b.panel;
          sum0 += load(row) * weight, sum1 += load(row + L) * weight;
        }
        A* to = c + (p * kRows + r) * P;
        store(to, load(to) + sum0), store(to + L, load(to + L) + sum1);
      }
  }
};

// ---- chunks

// Tiny problems stay on the calling thread.
template <class Body>
FOVEA_INLINE void for_chunks(Call& call, bool small, int64_t count, Body&& body) {
  if (small || count <= 1) {
    for (int64_t chunk = 0; chunk < count; chunk++) body(chunk, 0);
  } else {
    call.parallel.for_each(count, body);
  }
}
// Rows cut into strips of kRows, and those into nearly equal blocks that share one pass over the columns. Where rows
// that see the same come in squares, no strip is of two of them.
template <class T>
struct StripBlocks {
  static constexpr int64_t kRows = Products<T>::kRows, kStrips = kAttentionRows / kRows;
  int64_t rows_each, count;
  FOVEA_INLINE explicit StripBlocks(int64_t rows, int64_t square = 0) {
    int64_t strips = ceil_div(rows, kRows), blocks = max_of(1, ceil_div(strips, kStrips));
    rows_each = max_of(1, ceil_div(strips, blocks)) * kRows;
    if (square >= 2 * kRows && square <= kStrips * kRows) rows_each = square;
    count = ceil_div(rows, rows_each);
  }
};

}  // namespace
}  // namespace fovea::FOVEA_ISA
