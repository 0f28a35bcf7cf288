// Decoding of bfloat16 by instructions that multiply pairs (cpu/gemm_bf16.h): rows are multiplied as they lie, without
// being converted. Denormal values count as zero. Included by per-instruction-set files only.
#pragma once
#include "ops/attention/tile_pairs.h"

namespace fovea::FOVEA_ISA {
namespace {

// Whether it is done for values of type T, and what is done.
template <class T>
struct DecodePairs {
  static constexpr bool kExist = false;
};

#if defined(__AVX512BF16__)

template <>
struct DecodePairs<Bfloat16> {
  static constexpr bool kExist = true;
  static constexpr int L = kLanes<float>;
  static constexpr int64_t kWide = 2 * L;  // values of a vector

  // As multiply_lanes() of decode.h, for kQ rows q, `step` apart and padded with 0.
  template <int kQ, class Rows>
  static void multiply(const Bfloat16* q, int64_t step, const Rows& k, int64_t first, int64_t count, int64_t width,
                       float (&products)[kQ][L * L]) {
    for (int64_t j = 0; j < L; j++) {
      const int64_t row = first + min_of(j, count - 1);
      const Bfloat16 *key = k[row], *next = k.fetched_at(row);
      Vec<float> sum[kQ] = {};
      for (int64_t c = 0; c < width; c += kWide) {
        const __m512i x = load_values(key, c, width);
        __builtin_prefetch(next + c, 0, 2);
#pragma GCC unroll 4
        for (int r = 0; r < kQ; r++) sum[r] = add_product(sum[r], _mm512_loadu_si512(q + r * step + c), x);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kQ; r++) store(products[r] + j * L, sum[r]);
    }
  }
  // row[0, count) becomes pairs, where it lies, with 0 behind.
  static void round(float* row, int64_t count) {
    for (int64_t c = 0; c < count; c += kWide) {
      __m512i both = __m512i(_mm512_cvtne2ps_pbh(__m512(load(row + c + L)), __m512(load(row + c))));
      if (count - c < kWide) both = _mm512_maskz_mov_epi16(below(count - c), both);
      _mm512_storeu_si512(row + c / 2, both);
    }
  }
  // o_r += sum over j < count of weights v_j, for kQ rows of weights in pairs, kColumns floats apart, and rows of o
  // that lie `step` apart. With kSpecial, what is infinite or NaN in v stays out where the weight is 0.
  template <int kQ, bool kSpecial, class Rows>
  static void add(const float* weights, const Rows& v, int64_t count, int64_t width, float* o, int64_t step) {
    int64_t c = 0;
    for (; c + kWide < width; c += 2 * kWide) add_columns<kQ, 2, kSpecial>(weights, v, c, count, width, o, step);
    if (c < width) add_columns<kQ, 1, kSpecial>(weights, v, c, count, width, o, step);
  }

 private:
  FOVEA_INLINE static __mmask32 below(int64_t count) { return __mmask32((uint64_t(1) << count) - 1); }
  // Values [c, c + kWide) of a row of `width`; 0 behind it, where nothing is read.
  FOVEA_INLINE static __m512i load_values(const Bfloat16* row, int64_t c, int64_t width) {
    if (c + kWide <= width) return _mm512_loadu_si512(row + c);
    return _mm512_maskz_loadu_epi16(below(width - c), row + c);
  }
  FOVEA_INLINE static Vec<float> add_product(Vec<float> sum, __m512i a, __m512i b) {
    return Vec<float>(_mm512_dpbf16_ps(__m512(sum), (__m512bh)a, (__m512bh)b));
  }
  // Columns [c, c + kV kWide).
  template <int kQ, int kV, bool kSpecial, class Rows>
  FOVEA_INLINE static void add_columns(const float* weights, const Rows& v, int64_t c, int64_t count, int64_t width,
                                       float* o, int64_t step) {
    Vec<float> sum[kQ][2 * kV] = {};
    for (int64_t j = 0; j < count; j += 2) {
      const bool two = j + 1 < count;
      const Bfloat16 *row = v[j], *other = two ? v[j + 1] : nullptr;
      const Bfloat16 *next = v.fetched_at(j), *after = two ? v.fetched_at(j + 1) : next;
      __m512i low[kV], high[kV];
#pragma GCC unroll 2
      for (int i = 0; i < kV; i++) {
        const int64_t at = c + i * kWide;
        const __m512i a = load_values(row, at, width), b = two ? load_values(other, at, width) : _mm512_setzero_si512();
        __builtin_prefetch(next + at, 0, 2), __builtin_prefetch(after + at, 0, 2);
        low[i] = _mm512_unpacklo_epi16(a, b), high[i] = _mm512_unpackhi_epi16(a, b);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kQ; r++) {
        const __m512i weight = __m512i(splat(weights[r * kColumns + j / 2]));
        const auto shown = [&](__m512i x) {
          return kSpecial ? _mm512_maskz_mov_epi16(_mm512_test_epi16_mask(weight, weight), x) : x;
        };
#pragma GCC unroll 2
        for (int i = 0; i < kV; i++) {
          sum[r][2 * i] = add_product(sum[r][2 * i], weight, shown(low[i]));
          sum[r][2 * i + 1] = add_product(sum[r][2 * i + 1], weight, shown(high[i]));
        }
      }
    }
    // Each holds every other quarter of what it is the sum of.
#pragma GCC unroll 4
    for (int r = 0; r < kQ; r++)
#pragma GCC unroll 2
      for (int i = 0; i < kV; i++) {
        const __m512 a = __m512(sum[r][2 * i]), b = __m512(sum[r][2 * i + 1]);
        const __m512 first = _mm512_shuffle_f32x4(a, b, 0x44), second = _mm512_shuffle_f32x4(a, b, 0xee);
        float* to = o + r * step + c + i * kWide;
        store(to, load(to) + Vec<float>(_mm512_shuffle_f32x4(first, first, 0xd8)));
        store(to + L, load(to + L) + Vec<float>(_mm512_shuffle_f32x4(second, second, 0xd8)));
      }
  }
};

#endif

}  // namespace
}  // namespace fovea::FOVEA_ISA
