// Scores of bfloat16 in decoding by instructions that multiply pairs (cpu/gemm_bf16.h): keys are multiplied as they
// lie, without being converted, and the products are exact. Values are not: there it would be the weights that are
// rounded. Denormal values count as zero. Included by per-instruction-set files only.
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
};

#endif

}  // namespace
}  // namespace fovea::FOVEA_ISA
