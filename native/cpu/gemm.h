// The pieces of a matrix product, for kernels that are one (matmul) or contain one.
//
//   micro_kernel     a tile of C, Rows x Vectors registers, summed over k in registers
//   pack_panel       what it reads: [k][lanes], contiguous, in the type that is computed in
//   load_compute     a vector of storage type in the type that is computed in
//   Engine<S>        how operands of storage type S are packed and multiplied: as above, or as cpu/gemm_bf16.h says
//
// The tile is as high as the register file allows, because each step of k costs Rows broadcasts and Vectors loads for
// Rows x Vectors multiply-adds (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008).
#pragma once
#include <type_traits>
#include <utility>

#include "cpu/simd.h"
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fovea::FOVEA_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVectors = 2;  // 28 sums + 2 of B + 1 of A of 32 registers; 15 rows spill
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 + 2 + 1 of 16
#elif defined(__aarch64__)
constexpr int kTileRows = 5, kTileVectors = 4;  // 20 + 4 + 5 of 32, as gcc loads all of A's first; 6 rows spill
#else
constexpr int kTileRows = 4, kTileVectors = 2;  // 8 + 2 + 1 + a product of 16: no fused multiply-add
#endif
template <class T>
constexpr int kTileColumns = kLanes<T> * kTileVectors;

// The i-th line of a tile of C, which will be written: one at a time, for the reason that Ahead gives.
template <class T, int Rows, int Vectors>
FOVEA_INLINE void prefetch_line(const T* c, int64_t c_stride, int64_t i) {
  constexpr int kLines = Vectors * sizeof(Vec<T>) > 64 ? 2 : 1;
  if (i < kLines * Rows)
    __builtin_prefetch(reinterpret_cast<const char*>(c + i / kLines * c_stride) + i % kLines * 64, 1);
}

// Packed operands in registers: what their product is summed in, and one step of it.
template <class P>
struct PackedType {
  using Sum = P;
  FOVEA_INLINE static Vec<P> load_vector(const P* p) { return load(p); }
  FOVEA_INLINE static Vec<P> splat_value(const P* p) { return splat(*p); }
  FOVEA_INLINE static Vec<P> multiply_add(Vec<P> sum, Vec<P> a, Vec<P> b) { return sum + a * b; }
};
template <class P>
using Sum = typename PackedType<P>::Sum;

// What is fetched into L2 while a tile is multiplied, for what is packed or multiplied next: runs of 2^fold cache
// lines, `jump` bytes apart, from line `first` on. Few at a time, since each line under way takes a buffer that loads
// need, too: `rate` lines along with every kRows packed rows of the tile, which are more where a row takes few
// instructions.
struct Ahead {
  static constexpr int64_t kRows = kTileRows * kTileVectors > 20 ? 4 : 8;
  const char* from = nullptr;
  int64_t jump = 0, first = 0, rate = 0;
  int fold = 0;
  // Along with packed rows [row, row + rows), both multiples of kRows.
  FOVEA_INLINE void fetch(int64_t row, int64_t rows = kRows) const {
    for (int64_t line = first + row / kRows * rate, end = line + rows / kRows * rate; line < end; line++)
      __builtin_prefetch(from + (line & ((int64_t(1) << fold) - 1)) * 64 + (line >> fold) * jump, 0, 2);
  }
};
struct AheadOfBoth {
  Ahead a, b;
  FOVEA_INLINE void fetch(int64_t row, int64_t rows = Ahead::kRows) const { a.fetch(row, rows), b.fetch(row, rows); }
};

// Columns of B as they were packed. RawColumns, below, are as they lie in memory, and are packed for the tiles to come
// while they are multiplied.
template <class P>
struct PackedColumns {
  const P* b;
  template <int Vectors, class Column>
  FOVEA_INLINE void next(Column (&column)[Vectors]) {
    constexpr int L = kLanes<Sum<P>>;
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) column[j] = PackedType<P>::load_vector(b + j * L);
    b += kTileColumns<Sum<P>>;
  }
};

// c[Rows][Vectors x lanes] = before + a[depth][Rows]^T b[depth][kTileColumns]. `before` is a contiguous tile with rows
// of kTileColumns, or nullptr for zeros. With fewer Vectors than kTileVectors only the first columns are computed.
template <class P, int Rows, int Vectors, class Columns>
FOVEA_INLINE void multiply_columns(int64_t depth, const P* __restrict a, Columns b, const Sum<P>* before, Sum<P>* c,
                                   int64_t c_stride, const AheadOfBoth& ahead) {
  using T = Sum<P>;
  using Type = PackedType<P>;
  constexpr int L = kLanes<T>;
  // Every loop over `tile` must be unrolled, or gcc 12 keeps it on the stack.
  Vec<T> tile[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) tile[i][j] = Vec<T>{};
  auto step = [&]() __attribute__((always_inline)) {
    decltype(Type::load_vector(a)) column[Vectors];
    b.next(column);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
      auto x = Type::splat_value(a + i);
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; j++) tile[i][j] = Type::multiply_add(tile[i][j], x, column[j]);
    }
    a += Rows;
  };
  int64_t p = 0;
#pragma GCC unroll 1
  for (; p + Ahead::kRows <= depth; p += Ahead::kRows) {
    ahead.fetch(p);
    prefetch_line<T, Rows, Vectors>(c, c_stride, p / Ahead::kRows);
#pragma GCC unroll 8
    for (int i = 0; i < Ahead::kRows; i++) step();
  }
#pragma GCC unroll 1
  for (; p < depth; p++) step();
  if (before) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; j++) tile[i][j] += load(before + i * kTileColumns<T> + j * L);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; i++, c += c_stride)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) store(c + j * L, tile[i][j]);
}
template <class P, int Rows, int Vectors>
void micro_kernel(int64_t depth, const P* a, const P* b, const Sum<P>* before, Sum<P>* c, int64_t c_stride,
                  const AheadOfBoth& ahead) {
  multiply_columns<P, Rows, Vectors>(depth, a, PackedColumns<P>{b}, before, c, c_stride, ahead);
}

template <class P>
using MicroKernel = void (*)(int64_t depth, const P* a, const P* b, const Sum<P>* before, Sum<P>* c, int64_t c_stride,
                             const AheadOfBoth& ahead);

// kMicroKernels<P>.of[vectors - 1][rows - 1]: one instance per height, so that rows are cut into nearly equal strips
// (15 rows are 8 + 7, not 14 + 1), and no row is ever padded.
template <class P>
struct MicroKernelTable {
  MicroKernel<P> of[kTileVectors][kTileRows];
};
template <class P, int Vectors, int... I>
constexpr void fill_heights(MicroKernelTable<P>& table, std::integer_sequence<int, I...>) {
  ((table.of[Vectors - 1][I] = micro_kernel<P, I + 1, Vectors>), ...);
}
template <class P, int... J>
constexpr MicroKernelTable<P> all_micro_kernels(std::integer_sequence<int, J...>) {
  MicroKernelTable<P> table{};
  (fill_heights<P, J + 1>(table, std::make_integer_sequence<int, kTileRows>{}), ...);
  return table;
}
template <class P>
constexpr MicroKernelTable<P> kMicroKernels = all_micro_kernels<P>(std::make_integer_sequence<int, kTileVectors>{});

// ---- storage type -> type that is computed in

template <class T>
FOVEA_INLINE T to_compute(T x) {
  return x;
}
FOVEA_INLINE float to_compute(Half x) { return to_float(x); }
FOVEA_INLINE float to_compute(Bfloat16 x) { return to_float(x); }

template <class T>
FOVEA_INLINE Vec<T> load_compute(const T* p) {
  return load(p);
}
FOVEA_INLINE Vec<uint32_t> load_bits(const Bfloat16* p) {
#if defined(__aarch64__)
  return (Vec<uint32_t>)vmovl_u16(vld1_u16(&p->bits));  // gcc 12 would convert lane by lane
#else
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, Vec<uint32_t>);
#endif
}
FOVEA_INLINE Vec<float> load_compute(const Bfloat16* p) {
  Vec<float> wide;
  Vec<uint32_t> bits = load_bits(p) << 16;
  __builtin_memcpy(&wide, &bits, sizeof wide);
  return wide;
}
FOVEA_INLINE Vec<float> load_compute(const Half* p) {
#if defined(__AVX512F__)
  return Vec<float>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__)
  return Vec<float>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__aarch64__)
  typedef __fp16 Narrow __attribute__((vector_size(kVectorBytes / 2)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, Vec<float>);
#else
  float lane[kLanes<float>];
  for (int i = 0; i < kLanes<float>; i++) lane[i] = to_float(p[i]);
  return load(lane);
#endif
}

// from[n] -> to[n]. The rest of a row is moved as two overlapping pieces, since strips of 13 are common and a scalar
// loop over 13 elements costs more than the two instructions of 8.
template <class T, int Piece>
FOVEA_INLINE void copy_rest(const T* from, T* to, int64_t n) {
  if constexpr (Piece > 0) {
    if (n < Piece) return copy_rest<T, Piece / 2>(from, to, n);
    __builtin_memcpy(to, from, Piece * sizeof(T));
    __builtin_memmove(to + n - Piece, from + n - Piece, Piece * sizeof(T));
  }
}
template <class T>
FOVEA_INLINE void to_compute_row(const T* from, T* to, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load(from + i));
  copy_rest<T, kLanes<T> / 2>(from + i, to + i, n - i);
}
FOVEA_INLINE void to_compute_row(const Half* from, float* to, int64_t n) { convert_row(from, to, n); }
FOVEA_INLINE void to_compute_row(const Bfloat16* from, float* to, int64_t n) { convert_row(from, to, n); }

// ---- packing

// Two registers riffled: the first halves of both, or the second halves, element by element.
template <class T, int Start, int... I>
FOVEA_INLINE Vec<T> riffle(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (Start + I / 2 + (I % 2) * kLanes<T>)...);
}

// rows[i][j] <-> rows[j][i]. A riffle of all L rows, rows i and i + L/2, log2 L times over, is a transposition.
template <class T>
FOVEA_INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
  using Lanes = std::make_integer_sequence<int, L>;
#pragma GCC unroll 4
  for (int stage = 1; stage < L; stage *= 2) {
    Vec<T> riffled[L];
#pragma GCC unroll 8
    for (int i = 0; i < L / 2; i++) {
      riffled[2 * i] = riffle<T, 0>(rows[i], rows[i + L / 2], Lanes{});
      riffled[2 * i + 1] = riffle<T, L / 2>(rows[i], rows[i + L / 2], Lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) rows[i] = riffled[i];
  }
}

// Bytes: rows that are packed together are more streams than hardware prefetchers follow.
constexpr int kPackAhead = 128;

// packed[p * pitch + lane] for one vector of k and up to one vector of lanes, whose k has stride 1.
template <class S, class T>
FOVEA_INLINE void pack_block(const S* from, int64_t lane_stride, int64_t lanes, T* packed, int64_t pitch) {
  constexpr int L = kLanes<T>;
  Vec<T> rows[L];
  if (lanes >= L) {
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) {
      rows[i] = load_compute(from + i * lane_stride);
      __builtin_prefetch(reinterpret_cast<const char*>(from + i * lane_stride) + kPackAhead);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) rows[i] = i < lanes ? load_compute(from + i * lane_stride) : Vec<T>{};
  }
  transpose<T>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) store(packed + i * pitch, rows[i]);
}

// packed[p][lane] = from[lane * lane_stride + p * k_stride] for `lanes` lanes in rows of `pitch` elements; lanes
// beyond, up to `pitch`, become zeros. Either pitch == lanes, and up to one vector behind the panel is overwritten, or
// pitch is a multiple of kLanes. Lanes are rows of A or columns of B.
template <class S, class T>
void pack_panel(const S* from, int64_t lane_stride, int64_t k_stride, int64_t lanes, int64_t depth, T* packed,
                int64_t pitch) {
  constexpr int L = kLanes<T>;
  int64_t p = 0;
  if (lane_stride == 1) {
    for (; p < depth; p++) {
      to_compute_row(from + p * k_stride, packed + p * pitch, lanes);
      for (int64_t i = lanes; i < pitch; i++) packed[p * pitch + i] = T(0);
    }
    return;
  }
  if (k_stride == 1) {
    // The last block of lanes first: what its stores spill over the end of a row, the later blocks write again.
    for (int64_t i = (pitch - 1) / L * L; i >= 0; i -= L)
      for (p = 0; p + L <= depth; p += L)
        pack_block(from + i * lane_stride + p, lane_stride, lanes - i, packed + p * pitch + i, pitch);
  }
  for (; p < depth; p++) {
    for (int64_t i = 0; i < lanes; i++) packed[p * pitch + i] = to_compute(from[i * lane_stride + p * k_stride]);
    for (int64_t i = lanes; i < pitch; i++) packed[p * pitch + i] = T(0);
  }
}

// ---- multiplying while B is packed

// Rows of B in storage type S, `k` elements apart, of columns that are neighbours.
template <class S, class P>
struct RawColumns {
  const S* b;
  int64_t k;
  P* packed;
  template <int Vectors, class Column>
  FOVEA_INLINE void next(Column (&column)[Vectors]) {
    constexpr int L = kLanes<Sum<P>>;
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) {
      column[j] = load_compute(b + j * L);
      store(packed + j * L, column[j]);
    }
    b += k, packed += kTileColumns<Sum<P>>;
  }
};
template <class S, class P, int Rows>
void packing_kernel(int64_t depth, const P* a, const S* b, int64_t b_k, P* packed, const Sum<P>* before, Sum<P>* c,
                    int64_t c_stride, const AheadOfBoth& ahead) {
  multiply_columns<P, Rows, kTileVectors>(depth, a, RawColumns<S, P>{b, b_k, packed}, before, c, c_stride, ahead);
}
template <class S, class P>
using PackingKernel = void (*)(int64_t depth, const P* a, const S* b, int64_t b_k, P* packed, const Sum<P>* before,
                               Sum<P>* c, int64_t c_stride, const AheadOfBoth& ahead);
template <class S, class P>
struct PackingKernelTable {
  PackingKernel<S, P> of[kTileRows];
};
template <class S, class P, int... I>
constexpr PackingKernelTable<S, P> all_packing_kernels(std::integer_sequence<int, I...>) {
  return {{packing_kernel<S, P, I + 1>...}};
}
template <class S, class P>
constexpr PackingKernelTable<S, P> kPackingKernels =
    all_packing_kernels<S, P>(std::make_integer_sequence<int, kTileRows>{});

// ---- engines

#if defined(__AMX_BF16__)
constexpr bool kUsesTiles = true;  // for bfloat16
#else
constexpr bool kUsesTiles = false;
#endif

// Operands are packed in lanes: rows of A, up to kRows in a strip, and columns of B, kColumns in a panel. kSteps
// neighbours along k make one packed element; k is packed in multiples of kDepthQuantum, with zeros behind the last.
template <class S>
struct Engine {
  using Packed = Compute<S>;
  using T = Compute<S>;
  static constexpr int64_t kRows = kTileRows, kColumns = kTileColumns<T>, kSteps = 1, kDepthQuantum = 1;
  static constexpr int64_t kRowQuantum = 1;     // where strips of rows may start
  static constexpr int64_t kRun = INT64_MAX;    // of k in one call of multiply(): what lets a panel of B stay in L1
  static constexpr bool kTurns = false;         // whether c may be multiplied transposed
  static constexpr bool kPacksAsItGoes = true;  // whether there is a multiply_raw()
  struct Use {};                                // what a thread holds while it multiplies

  // Packed elements of each lane over `depth` of k.
  FOVEA_INLINE static int64_t packed_depth(int64_t depth) { return depth; }

  FOVEA_INLINE static void pack_a(const S* a, int64_t row_stride, int64_t k_stride, int64_t rows, int64_t depth,
                                  Packed* packed) {
    pack_panel(a, row_stride, k_stride, rows, depth, packed, rows);
  }
  FOVEA_INLINE static void pack_b(const S* b, int64_t column_stride, int64_t k_stride, int64_t columns, int64_t depth,
                                  Packed* packed) {
    pack_panel(b, column_stride, k_stride, columns, depth, packed, kColumns);
  }
  // One packed row of a panel, of columns that are neighbours.
  FOVEA_INLINE static void pack_b_row(const S* b, int64_t, Packed* packed) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; v++) store(packed + v * kLanes<T>, load_compute(b + v * kLanes<T>));
  }
  // c[rows][columns] = before + the product of a strip and a panel. `before` is nullptr or has rows of kColumns. Whole
  // vectors of columns are written, and rows up to the next kRowQuantum.
  FOVEA_INLINE static void multiply(int64_t rows, int64_t columns, int64_t depth, const Packed* a, const Packed* b,
                                    const T* before, T* c, int64_t c_stride, const AheadOfBoth& ahead) {
    kMicroKernels<Packed>.of[(columns - 1) / kLanes<T>][rows - 1](depth, a, b, before, c, c_stride, ahead);
  }
  // The same of kColumns columns of a B whose rows lie whole, `b_k` elements apart, which is packed on the way.
  FOVEA_INLINE static void multiply_raw(int64_t rows, int64_t depth, const Packed* a, const S* b, int64_t b_k,
                                        Packed* packed, const T* before, T* c, int64_t c_stride,
                                        const AheadOfBoth& ahead) {
    kPackingKernels<S, Packed>.of[rows - 1](depth, a, b, b_k, packed, before, c, c_stride, ahead);
  }
};

}  // namespace
}  // namespace fovea::FOVEA_ISA
