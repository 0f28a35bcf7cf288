// Products of bfloat16 attention in the tile registers of AMX: 32 rows at a time, operands in pairs along k as
// cpu/gemm_bf16.h packs them. Scores and what is added up stay float32; what weighs rows (probabilities and their
// slopes) is rounded to bfloat16 before it is multiplied. Included by per-instruction-set files only.
#pragma once
#include "cpu/gemm_bf16.h"
#include "ops/attention/tile.h"

#if defined(__AMX_BF16__)

namespace fovea::FOVEA_ISA {
namespace {

template <>
struct Products<Bfloat16> {
  using A = float;
  using Multiplier = Engine<Bfloat16>;
  using Use = TileRegisters;
  static constexpr int kRows = int(Multiplier::kRows);
  static constexpr int64_t P = Multiplier::kColumns, kSide = kBlock;
  static constexpr bool kScalesStrips = false;  // bfloat16 would round it
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
    for (int64_t j = begin; j < end; j += P)
      multiply(rows, depth(width), pairs_of(a), pairs_of(panels + j * depth(width)), nullptr, tile + j, kColumns);
  }
  static void add_product(int64_t rows, int64_t count, const A* tile, const RowOperand<A>& b, int64_t first_row,
                          int64_t width, A* c) {
    alignas(64) Pair weights[kRows * kColumns / 2];
    round_tile(rows, count, tile, weights);
    for (int64_t p = 0; p * P < width; p++, c += kRows * P)
      multiply(rows, depth(count), weights, pairs_of(b.data + first_row * b.row + p * b.panel), c, c, P);
  }
  static void add_visible(int64_t rows, int64_t count, const A* tile, const RowOperand<A>& b, int64_t first_row,
                          int64_t width, A* c) {
    alignas(64) Pair weights[kRows * kColumns / 2], seen[kColumns / 2 * P];
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
        multiply(rows, depth(count), weights, seen, c, sums, P);
        __builtin_memcpy(c + r * P, sums + r * P, P * sizeof(A));
      }
    }
  }

 private:
  FOVEA_INLINE static Pair* pairs_of(A* x) { return reinterpret_cast<Pair*>(x); }
  FOVEA_INLINE static const Pair* pairs_of(const A* x) { return reinterpret_cast<const Pair*>(x); }
  FOVEA_INLINE static void multiply(int64_t rows, int64_t depth, const Pair* a, const Pair* b, const A* before, A* c,
                                    int64_t c_stride) {
    Multiplier::multiply(rows, P, depth, a, b, before, c, c_stride, {});
  }
  // Of pair `pair` of row r in a packed strip of `rows` rows.
  FOVEA_INLINE static int64_t place(int64_t rows, int64_t r, int64_t pair) {
    const int64_t tiles = ceil_div(rows, kSide);
    return ((pair / kSide * tiles + r / kSide) * kSide + r % kSide) * kSide + pair % kSide;
  }
  // The first `count` columns of a tile as a packed strip, with zeros behind.
  static void round_tile(int64_t rows, int64_t count, const A* tile, Pair* weights) {
    for (int64_t r = 0; r < round_up(rows, kSide); r++)
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
