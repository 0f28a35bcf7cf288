// Products of bfloat16 attention by instructions that multiply pairs of neighbours along k, with operands packed as
// cpu/gemm_bf16.h says: in the tile registers of AMX 32 rows at a time, in vectors as many as float32 has. Scores and
// what is added up stay float32; what weighs rows (probabilities and their slopes) is rounded to bfloat16 before it is
// multiplied. Included by per-instruction-set files only.
#pragma once
#include "cpu/gemm_bf16.h"
#include "ops/attention/tile.h"

#if defined(__AVX512BF16__)

namespace fovea::FOVEA_ISA {
namespace {

template <>
struct Products<Bfloat16> {
  using A = float;
  using Multiplier = Engine<Bfloat16>;
  using Use = Multiplier::Use;
  static constexpr int kRows = int(Multiplier::kRows);
  static constexpr int64_t P = Multiplier::kColumns, kSide = kBlock;
  static constexpr bool kScalesStrips = false;  // bfloat16 would round it
#if defined(__AMX_BF16__)
  static constexpr int64_t kStep = P;  // weights are multiplied by 32 rows at a time, all of which must be packed
  static constexpr bool kReadsAcross = false;
#else
  static constexpr int64_t kStep = kSide;
  static constexpr bool kReadsAcross = true;
#endif
  static_assert(P == kPanel<A> && kRows <= kAttentionMaxStrip);

  FOVEA_INLINE static int64_t depth(int64_t width) { return Multiplier::packed_depth(width); }
  static void pack_strip(const Bfloat16* in, int64_t stride, int64_t rows, int64_t width, A, A* out) {
    Multiplier::pack_a(in, stride, 1, rows, width, pairs_of(out));
  }
  static void pack_panel(const Bfloat16* in, int64_t stride, int64_t rows, int64_t width, A* out) {
    if (rows <= kSide) fill_zero(out, depth(width) * P);
    Multiplier::pack_b(in, stride, 1, rows, width, pairs_of(out));
  }
  static void pack_rows(const Bfloat16* in, int64_t stride, int64_t first, int64_t rows, int64_t width, int64_t total,
                        A* out) {
    const RowOperand<A> all = packed_rows(out, total);
    for (int64_t c = 0; c < width; c += P) {
      A* to = out + first * all.row + c / P * all.panel;
      if (width - c <= kSide) fill_zero(to, depth(rows) * P);
      Multiplier::pack_b(in + c, 1, stride, min_of(P, width - c), rows, pairs_of(to));
    }
  }
  // Two rows are one of pairs.
  FOVEA_INLINE static RowOperand<A> packed_rows(const A* packed, int64_t total) {
    return {packed, P / 2, depth(total) * P};
  }

  static void score_tile(int64_t rows, int64_t width, const A* a, const A* panels, int64_t begin, int64_t end,
                         A* tile) {
    const auto score = [&](int64_t j, int64_t columns) {
      const Pair* b = pairs_of(panels + j / P * P * depth(width)) + j % P;
      Multiplier::multiply(rows, columns, depth(width), pairs_of(a), b, nullptr, tile + j, kColumns, {});
    };
    for_panels<A>(
        begin, end, [&](int64_t j) { score(j, P); }, [&](int64_t j) { score(j, kSide); });
  }
  static void add_product(int64_t rows, int64_t count, const A* tile, const RowOperand<A>& b, int64_t first_row,
                          int64_t width, A* c) {
    alignas(64) Pair weights[kWeights];
    round_tile(rows, count, tile, weights);
    for (int64_t p = 0; p * P < width; p++, c += kRows * P)
      add_panel(rows, depth(count), weights, pairs_of(b.data + first_row * b.row + p * b.panel), c);
  }
  static void add_visible(int64_t rows, int64_t count, const A* tile, const RowOperand<A>& b, int64_t first_row,
                          int64_t width, A* c) {
    alignas(64) Pair weights[kWeights], seen[kColumns / 2 * P];
    alignas(64) A sums[kRows * P];
    round_tile(rows, count, tile, weights);
    for (int64_t p = 0; p * P < width; p++, c += kRows * P) {
      const Pair* values = pairs_of(b.data + first_row * b.row + p * b.panel);
      for (int64_t r = 0; r < rows; r++) {
        for (int64_t pair = 0; pair < depth(count); pair++) {
          const uint32_t weight = weights[place(rows, r, pair)].bits;
          const uint32_t shown = (weight & 0xffff ? 0xffff : 0) | (weight >> 16 ? 0xffff0000 : 0);
          for (int64_t i = pair * P; i < (pair + 1) * P; i++) seen[i].bits = values[i].bits & shown;
        }
        __builtin_memcpy(sums, c, sizeof sums);
        add_panel(rows, depth(count), weights, seen, sums);
        __builtin_memcpy(c + r * P, sums + r * P, P * sizeof(A));
      }
    }
  }

#if !defined(__AMX_BF16__)
  // Pairs of rows, [pair][column].
  static const A* across(int64_t rows, const A* tile, A* buffer) {
    Pair* pairs = pairs_of(buffer);
    for (int64_t r = 0; r < rows; r += 2)
      for (int64_t c = 0; c < kColumns; c += kSide) {
        const A* from = tile + r * kColumns + c;
        const Vec<A> second = r + 1 < rows ? load(from + kColumns) : Vec<A>{};
        const __m512i low = _mm512_cvtepu16_epi32(__m256i(_mm512_cvtneps_pbh(__m512(load(from)))));
        const __m512i high = _mm512_cvtepu16_epi32(__m256i(_mm512_cvtneps_pbh(__m512(second))));
        _mm512_storeu_si512(pairs + r / 2 * kColumns + c, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    return buffer;
  }
  static void add_across(const A* tile, int64_t first, int64_t last, int64_t column, const RowOperand<A>& b,
                         int64_t first_row, int64_t width, A* c) {
    const Pair* weights = pairs_of(tile) + first / 2 * kColumns + column;
    for (int64_t p = 0; p * P < width; p++)
      multiply<Pair, Left::across, int(P), true, 2, kAcross>(depth(last - first), weights,
                                                             pairs_of(b.data + first_row * b.row + p * b.panel), P,
                                                             c + (p * kAcrossRows + column) * P);
  }
#endif

 private:
  static constexpr int64_t kWeights = kRows * kColumns / 2;

  FOVEA_INLINE static Pair* pairs_of(A* x) { return reinterpret_cast<Pair*>(x); }
  FOVEA_INLINE static const Pair* pairs_of(const A* x) { return reinterpret_cast<const Pair*>(x); }

#if defined(__AMX_BF16__)
  // Weights are a packed strip: where pair `pair` of row r is, of `rows` rows, and how many rows are multiplied.
  FOVEA_INLINE static int64_t place(int64_t rows, int64_t r, int64_t pair) {
    const int64_t tiles = ceil_div(rows, kSide);
    return ((pair / kSide * tiles + r / kSide) * kSide + r % kSide) * kSide + pair % kSide;
  }
  FOVEA_INLINE static int64_t multiplied(int64_t rows) { return round_up(rows, kSide); }
  // c[kRows][P] += weights b[depth][P]
  FOVEA_INLINE static void add_panel(int64_t rows, int64_t depth, const Pair* weights, const Pair* b, A* c) {
    Multiplier::multiply(rows, P, depth, weights, b, c, c, P, {});
  }
#else
  // Weights are a tile, which needs no transposing: values are broadcast from where they lie.
  FOVEA_INLINE static int64_t place(int64_t, int64_t r, int64_t pair) { return r * kTilePitch<Pair> + pair; }
  FOVEA_INLINE static int64_t multiplied(int64_t) { return kRows; }
  FOVEA_INLINE static void add_panel(int64_t rows, int64_t depth, const Pair* weights, const Pair* b, A* c) {
    static_assert(kRows == kVectorRows);
    multiply_strip<Pair, Left::tile, int(P), true>(rows, depth, weights, b, P, c);
  }
#endif

  // The first `count` columns of a tile as weights, with zeros behind.
  static void round_tile(int64_t rows, int64_t count, const A* tile, Pair* weights) {
    for (int64_t r = 0; r < multiplied(rows); r++)
      for (int64_t c = 0; c < count; c += P) {
        const A* from = tile + r * kColumns + c;
        __m512 low = __m512(load(from)), high = __m512(load(from + kSide));
        __m512i both = __m512i(_mm512_cvtne2ps_pbh(high, low));
        if (r >= rows) both = _mm512_setzero_si512();
        if (count - c < P) both = _mm512_maskz_mov_epi16(__mmask32((uint64_t(1) << (count - c)) - 1), both);
        _mm512_storeu_si512(weights + place(rows, r, c / 2), both);
      }
  }
};

}  // namespace
}  // namespace fovea::FOVEA_ISA

#endif
