// Products of bfloat16 by the instructions that multiply pairs of neighbours along k and add both to a float32 sum:
//
//   AVX512_BF16   vdpbf16ps: the same tile of registers as float32's, with two steps of k in each
//   arm64, BF16   bfdot: likewise
//   AMX_BF16      tdpbf16ps: C in four tile registers of 16 x 16 sums, A and B in two each of 16 x 32 values
//
// A packed element is a pair. A panel of B is [pair][column] for all. A strip of A is [pair][row] for the first two,
// and for AMX [16 pairs][up to two tiles][16 rows][16 pairs], so that a tile is a run of memory. What is missing of a
// pair or of a tile is zero. Denormal operands and sums count as zero in all of them. Intel's round sums to nearest
// even ("Architecture Instruction Set Extensions Programming Reference"); bfdot rounds the sum of two products, and
// that with what was before, to odd, and so errs by up to one unit in the last place where the others err by half of
// one ("Arm Architecture Reference Manual for A-profile", BFDOT).
#pragma once
#include "core/arithmetic.h"
#include "cpu/gemm.h"
#include "cpu/tiles_amx.h"

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define FOVEA_MULTIPLIES_PAIRS

namespace fovea::FOVEA_ISA {
namespace {

struct Pair {
  uint32_t bits;
};
template <>
struct PackedType<Pair> {
  using Sum = float;
  FOVEA_INLINE static Vec<uint32_t> load_vector(const Pair* p) { return load(&p->bits); }
#if defined(__aarch64__)
  // One lane, which bfdot itself multiplies all pairs by.
  FOVEA_INLINE static bfloat16x4_t splat_value(const Pair* p) { return vreinterpret_bf16_u32(vcreate_u32(p->bits)); }
  FOVEA_INLINE static Vec<float> multiply_add(Vec<float> sum, bfloat16x4_t a, Vec<uint32_t> b) {
    return (Vec<float>)vbfdotq_lane_f32((float32x4_t)sum, vreinterpretq_bf16_u32((uint32x4_t)b), a, 0);
  }
#else
  FOVEA_INLINE static Vec<uint32_t> splat_value(const Pair* p) { return splat(p->bits); }
  FOVEA_INLINE static Vec<float> multiply_add(Vec<float> sum, Vec<uint32_t> a, Vec<uint32_t> b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
#endif
};

// ---- packing, in blocks of a vector of lanes and as many pairs

constexpr int kBlock = kLanes<uint32_t>;
using PairBlock = Vec<uint32_t>[kBlock];

// block[lane][pair] of lanes whose k has stride 1.
FOVEA_INLINE void load_along_k(const Bfloat16* from, int64_t lane_stride, PairBlock& block) {
#pragma GCC unroll 16
  for (int i = 0; i < kBlock; i++) {
    __builtin_memcpy(&block[i], from + i * lane_stride, sizeof block[i]);
    __builtin_prefetch(reinterpret_cast<const char*>(from + i * lane_stride) + kPackAhead);
  }
}
// The pairs of one vector of lanes that are neighbours, from two rows of k.
FOVEA_INLINE Vec<uint32_t> pair_up(const Bfloat16* first, const Bfloat16* second) {
#if defined(__aarch64__)
  return load_bits(first) | load_bits(second) << 16;
#else
  __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)));
  __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)));
  return (Vec<uint32_t>)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
#endif
}
// block[pair][lane] of lanes that are neighbours.
FOVEA_INLINE void load_across_k(const Bfloat16* from, int64_t k_stride, PairBlock& block) {
#pragma GCC unroll 16
  for (int i = 0; i < kBlock; i++) block[i] = pair_up(from + 2 * i * k_stride, from + (2 * i + 1) * k_stride);
}

// Where values are neither neighbours along k nor across, or fewer than a block: copied first, with zeros behind.
struct Edge {
  alignas(64) Bfloat16 values[kBlock][2 * kBlock];
  char behind[kPackAhead];  // is prefetched, too, and never read
  FOVEA_INLINE Edge(const Bfloat16* from, int64_t lane_stride, int64_t k_stride, int64_t lanes, int64_t depth) {
    __builtin_memset(values, 0, sizeof values);
    if (k_stride == 1) {
      for (int64_t i = 0; i < lanes; i++) copy_rest<Bfloat16, 2 * kBlock>(from + i * lane_stride, values[i], depth);
      return;
    }
    for (int64_t p = 0; p < depth; p++)
      for (int64_t i = 0; i < lanes; i++) values[i][p] = from[i * lane_stride + p * k_stride];
  }
};

// put(pair, lane, block) for every block of the panel, whose registers are lanes if `ByLane`, else pairs.
template <bool ByLane, class Put>
FOVEA_INLINE void pack_pairs(const Bfloat16* from, int64_t lane_stride, int64_t k_stride, int64_t lanes, int64_t depth,
                             Put&& put) {
  // The last block of lanes first: what its stores spill over the end of a row, the later blocks write again.
  for (int64_t lane = (lanes - 1) / kBlock * kBlock; lane >= 0; lane -= kBlock)
    for (int64_t k = 0; k < depth; k += 2 * kBlock) {
      const Bfloat16* at = from + lane * lane_stride + k * k_stride;
      int64_t width = min_of(kBlock, lanes - lane), length = min_of(2 * kBlock, depth - k);
      bool whole = width == kBlock && length == 2 * kBlock, by_lane = true;
      PairBlock block;
      if (whole && k_stride == 1) {
        load_along_k(at, lane_stride, block);
      } else if (whole && lane_stride == 1) {
        load_across_k(at, k_stride, block), by_lane = false;
      } else {
        Edge edge(at, lane_stride, k_stride, width, length);
        load_along_k(edge.values[0], 2 * kBlock, block);
      }
      if (by_lane != ByLane) transpose<uint32_t>(block);
      put(k / 2, lane, block);
    }
}

// packed[pair * pitch + lane]; with a pitch that is no multiple of kBlock, up to a vector behind it is overwritten.
FOVEA_INLINE void pack_pair_panel(const Bfloat16* from, int64_t lane_stride, int64_t k_stride, int64_t lanes,
                                  int64_t depth, Pair* packed, int64_t pitch) {
  pack_pairs<false>(from, lane_stride, k_stride, lanes, depth, [&](int64_t pair, int64_t lane, PairBlock& block) {
    int64_t pairs = min_of(kBlock, ceil_div(depth, 2) - pair);
    Pair* to = packed + pair * pitch + lane;
#pragma GCC unroll 16
    for (int i = 0; i < kBlock; i++)
      if (i < pairs) store(&to[i * pitch].bits, block[i]);
  });
}

// Rows of a panel are runs of a line or two, too short for hardware to follow.
constexpr int64_t kRowsAhead = 8;
FOVEA_INLINE void pack_pair_row(const Bfloat16* b, int64_t k_stride, Pair* packed) {
#pragma GCC unroll 4
  for (int v = 0; v < kTileVectors; v++)
    store(&packed[v * kBlock].bits, pair_up(b + v * kBlock, b + v * kBlock + k_stride));
  for (int64_t i = kRowsAhead; i < kRowsAhead + 2; i++) __builtin_prefetch(b + i * k_stride);
}

#if !defined(__AMX_BF16__)

template <>
struct Engine<Bfloat16> {
  using Packed = Pair;
  using T = float;
  static constexpr int64_t kRows = kTileRows, kColumns = kTileColumns<float>, kSteps = 2, kDepthQuantum = 2;
  static constexpr int64_t kRowQuantum = 1, kRun = INT64_MAX;
  static constexpr bool kTurns = false, kPacksAsItGoes = false;
  struct Use {};

  FOVEA_INLINE static int64_t packed_depth(int64_t depth) { return ceil_div(depth, kSteps); }
  static void pack_a(const Bfloat16* a, int64_t row_stride, int64_t k_stride, int64_t rows, int64_t depth,
                     Pair* packed) {
    pack_pair_panel(a, row_stride, k_stride, rows, depth, packed, rows);
  }
  static void pack_b(const Bfloat16* b, int64_t column_stride, int64_t k_stride, int64_t columns, int64_t depth,
                     Pair* packed) {
    pack_pair_panel(b, column_stride, k_stride, columns, depth, packed, kColumns);
  }
  FOVEA_INLINE static void pack_b_row(const Bfloat16* b, int64_t k_stride, Pair* packed) {
    pack_pair_row(b, k_stride, packed);
  }
  FOVEA_INLINE static void multiply(int64_t rows, int64_t columns, int64_t depth, const Pair* a, const Pair* b,
                                    const float* before, float* c, int64_t c_stride, const AheadOfBoth& ahead) {
    kMicroKernels<Pair>.of[(columns - 1) / kLanes<float>][rows - 1](depth, a, b, before, c, c_stride, ahead);
  }
};

#else

constexpr int64_t kTilePairs = kBlock * kBlock;

// c[16 RowTiles][16 ColumnTiles] = before + a b, over `depth` pairs.
template <int RowTiles, int ColumnTiles>
__attribute__((noinline)) void multiply_tiles(int64_t depth, const Pair* a, const Pair* b, const float* before,
                                              float* c, int64_t c_stride, const AheadOfBoth& ahead) {
  constexpr int64_t N = 2 * kBlock, kBytes = int64_t(sizeof(float));
  constexpr bool kLower = RowTiles == 2, kRight = ColumnTiles == 2;
  const Ahead next = ahead.b;  // A is packed whole before
  order_memory();
  if (before) {
    _tile_loadd(0, before, N * kBytes);
    if constexpr (kRight) _tile_loadd(1, before + kBlock, N * kBytes);
    if constexpr (kLower) _tile_loadd(2, before + kBlock * N, N * kBytes);
    if constexpr (kLower && kRight) _tile_loadd(3, before + kBlock * N + kBlock, N * kBytes);
  } else {
    _tile_zero(0);
    if constexpr (kRight) _tile_zero(1);
    if constexpr (kLower) _tile_zero(2);
    if constexpr (kLower && kRight) _tile_zero(3);
  }
  for (int64_t p = 0; p < depth; p += kBlock, a += RowTiles * kTilePairs, b += kBlock * N) {
    next.fetch(p, kBlock);
    _tile_loadd(6, b, N * kBytes);
    _tile_loadd(4, a, kBlock * kBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRight) _tile_loadd(7, b + kBlock, N * kBytes);
    if constexpr (kRight) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kLower) _tile_loadd(5, a + kTilePairs, kBlock * kBytes);
    if constexpr (kLower) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kLower && kRight) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, c_stride * kBytes);
  if constexpr (kRight) _tile_stored(1, c + kBlock, c_stride * kBytes);
  if constexpr (kLower) _tile_stored(2, c + kBlock * c_stride, c_stride * kBytes);
  if constexpr (kLower && kRight) _tile_stored(3, c + kBlock * c_stride + kBlock, c_stride * kBytes);
  order_memory();
}

template <>
struct Engine<Bfloat16> {
  using Packed = Pair;
  using T = float;
  static constexpr int64_t kRows = 2 * kBlock, kColumns = 2 * kBlock, kSteps = 2, kDepthQuantum = 2 * kBlock;
  static constexpr int64_t kRowQuantum = kBlock, kRun = 256;
  static constexpr bool kTurns = true, kPacksAsItGoes = false;
  using Use = TileRegisters;

  FOVEA_INLINE static int64_t packed_depth(int64_t depth) { return round_up(depth, kDepthQuantum) / kSteps; }
  static void pack_a(const Bfloat16* a, int64_t row_stride, int64_t k_stride, int64_t rows, int64_t depth,
                     Pair* packed) {
    int64_t tiles = ceil_div(rows, kBlock);
    if (k_stride == 1) return copy_rows(a, row_stride, rows, depth, tiles, packed);
    pack_pairs<true>(a, row_stride, k_stride, rows, depth, [&](int64_t pair, int64_t row, PairBlock& block) {
      Pair* to = packed + (pair * tiles + row) * kBlock;
#pragma GCC unroll 16
      for (int i = 0; i < kBlock; i++) store(&to[i * kBlock].bits, block[i]);
    });
  }
  // Rows that lie along k are packed as they are, each a cache line per tile.
  static void copy_rows(const Bfloat16* a, int64_t row_stride, int64_t rows, int64_t depth, int64_t tiles,
                        Pair* packed) {
    int64_t whole = depth / kDepthQuantum * kDepthQuantum, step = tiles * kTilePairs;
    for (int64_t row = 0; row < tiles * kBlock; row++, packed += kBlock) {
      const Bfloat16* from = a + row * row_stride;
      Pair* to = packed;
      int64_t length = row < rows ? whole : 0, k = 0;
      for (; k < length; k += kDepthQuantum, to += step) __builtin_memcpy(to, from + k, 64);
      for (; k < depth; k += kDepthQuantum, to += step) __builtin_memset(to, 0, 64);
      if (row < rows && whole < depth)
        copy_rest<Bfloat16, kBlock>(from + whole, reinterpret_cast<Bfloat16*>(to - step), depth - whole);
    }
  }
  static void pack_b(const Bfloat16* b, int64_t column_stride, int64_t k_stride, int64_t columns, int64_t depth,
                     Pair* packed) {
    pack_pairs<false>(b, column_stride, k_stride, columns, depth, [&](int64_t pair, int64_t column, PairBlock& block) {
      Pair* to = packed + pair * kColumns + column;
#pragma GCC unroll 16
      for (int i = 0; i < kBlock; i++) store(&to[i * kColumns].bits, block[i]);
    });
  }
  FOVEA_INLINE static void pack_b_row(const Bfloat16* b, int64_t k_stride, Pair* packed) {
    pack_pair_row(b, k_stride, packed);
  }
  FOVEA_INLINE static void multiply(int64_t rows, int64_t columns, int64_t depth, const Pair* a, const Pair* b,
                                    const float* before, float* c, int64_t c_stride, const AheadOfBoth& ahead) {
    bool lower = rows > kBlock, right = columns > kBlock;
    auto kernel = lower ? (right ? multiply_tiles<2, 2> : multiply_tiles<2, 1>)
                        : (right ? multiply_tiles<1, 2> : multiply_tiles<1, 1>);
    kernel(depth, a, b, before, c, c_stride, ahead);
  }
};

#endif

}  // namespace
}  // namespace fovea::FOVEA_ISA

#endif
