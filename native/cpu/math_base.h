// What the functions of math.h are made of: masks, polynomials, powers of two, exact products.
#pragma once
#include "cpu/simd.h"
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fovea::FOVEA_ISA {
namespace {

constexpr float kInf = __builtin_inff();
constexpr float kLog2E = 0x1.715476p0f;
constexpr float kLn2High = 0x1.63p-1f,
                kLn2Low = -0x1.bd0106p-13f;  // ln 2 in two parts; the first has 9 bits, so n * kLn2High is exact
constexpr float kRoundToInt = 0x1.8p23f;     // x + this - this is x rounded to even, for |x| < 2^22
constexpr double kGeluTanh1 = 1.5957691216057308, kGeluTanh3 = kGeluTanh1 * 0.044715;  // 2 sqrt(2 / pi)
constexpr double kNormalDensity = 0.3989422804014327;                                  // 1 / sqrt(2 pi)

FOVEA_INLINE Vec<int32_t> bits_of(Vec<float> x) { return (Vec<int32_t>)x; }
FOVEA_INLINE Vec<float> float_of(Vec<int32_t> x) { return (Vec<float>)x; }
template <class V>
FOVEA_INLINE V blend(decltype(V{} < V{}) m, V a, V b) {
  return m ? a : b;
}
FOVEA_INLINE Vec<float> abs(Vec<float> x) { return float_of(bits_of(x) & 0x7fffffff); }
FOVEA_INLINE Vec<double> abs(Vec<double> x) { return (Vec<double>)((Vec<int64_t>)x & INT64_MAX); }
FOVEA_INLINE Vec<float> copy_sign(Vec<float> magnitude, Vec<float> sign) {
#if defined(__AVX512F__)
  constexpr int first_but_for_mask = 0xd8;  // bitwise: mask ? sign : magnitude
  return (Vec<float>)_mm512_ternarylogic_epi32((__m512i)magnitude, (__m512i)sign, _mm512_set1_epi32(INT32_MIN),
                                               first_but_for_mask);
#else
  return float_of((bits_of(magnitude) & 0x7fffffff) | (bits_of(sign) & INT32_MIN));
#endif
}
template <class M>
FOVEA_INLINE bool any_lane(M mask) {
#if defined(__AVX512F__)
  if constexpr (sizeof(mask[0]) == 4) return _mm512_movepi32_mask((__m512i)mask) != 0;
#endif
  M none{};
  return __builtin_memcmp(&mask, &none, sizeof mask) != 0;
}
// f of every element; the compiler turns what the machine can do (floor, sqrt) into vector instructions.
template <class V, class F>
FOVEA_INLINE V each_lane(V x, F f) {
  constexpr int lanes = int(sizeof(V) / sizeof(x[0]));
  for (int i = 0; i < lanes; i++) x[i] = f(x[i]);
  return x;
}
template <class V, class F>
FOVEA_INLINE V each_lane(V x, V y, F f) {
  constexpr int lanes = int(sizeof(V) / sizeof(x[0]));
  for (int i = 0; i < lanes; i++) x[i] = f(x[i], y[i]);
  return x;
}
// c[0] + c[1] x + c[2] x^2 + ...
template <class V, int n, class C>
FOVEA_INLINE V polynomial(V x, const C (&c)[n]) {
  V p = V{} + c[n - 1];
#pragma GCC unroll 16
  for (int i = n - 2; i >= 0; i--) p = p * x + c[i];
  return p;
}

// x held at or below, at or above a limit; NaN stays NaN, and of two zeros it is x. One instruction, but gcc takes two
// for the comparison with AVX-512.
FOVEA_INLINE Vec<float> at_most(Vec<float> x, float limit) {
#if defined(__AVX512F__)
  return _mm512_min_ps(_mm512_set1_ps(limit), x);
#else
  return blend(splat(limit) < x, splat(limit), x);
#endif
}
FOVEA_INLINE Vec<float> at_least(Vec<float> x, float limit) {
#if defined(__AVX512F__)
  return _mm512_max_ps(_mm512_set1_ps(limit), x);
#else
  return blend(splat(limit) > x, splat(limit), x);
#endif
}
FOVEA_INLINE Vec<float> within(Vec<float> x, float low, float high) { return at_least(at_most(x, high), low); }

FOVEA_INLINE Vec<int32_t> to_int(Vec<float> x) { return __builtin_convertvector(x, Vec<int32_t>); }
// The nearest whole number, halves to even, for |x| < 2^22.
FOVEA_INLINE Vec<float> nearest(Vec<float> x) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__aarch64__)
  return (Vec<float>)vrndnq_f32((float32x4_t)x);
#else
  return (x + kRoundToInt) - kRoundToInt;
#endif
}
// 2^n for whole n <= 127; 0 for n < -126.
FOVEA_INLINE Vec<float> power_of_two(Vec<float> n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(_mm512_set1_ps(1.f), n);
#else
  return float_of((to_int(at_least(n, -127.f)) + 127) << 23);
#endif
}
// p 2^n for whole n in [-252, 254], in two factors so that neither overflows and only the last product rounds.
FOVEA_INLINE Vec<float> scale(Vec<float> p, Vec<float> n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);  // the same bits, as it rounds once, too
#else
  Vec<int32_t> whole = to_int(n), half = whole >> 1;
  return p * float_of((half + 127) << 23) * float_of((whole - half + 127) << 23);
#endif
}

// ---- exact products

// a b + c rounded once, where the machine can.
#if defined(__AVX512F__)
#define FOVEA_FUSES
FOVEA_INLINE Vec<float> fused(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__FMA__)
#define FOVEA_FUSES
FOVEA_INLINE Vec<float> fused(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm256_fmadd_ps(a, b, c); }
#elif defined(__aarch64__)
#define FOVEA_FUSES
FOVEA_INLINE Vec<float> fused(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#endif
// a b = main + rest exactly, but for underflow.
struct ExactProduct {
  Vec<float> main, rest;
};
FOVEA_INLINE ExactProduct product(Vec<float> a, Vec<float> b) {
  Vec<float> main = a * b;
#if defined(FOVEA_FUSES)
  return {main, fused(a, b, -main)};
#else
  // Dekker 1971: of halves with 12 bits, all four products are exact.
  auto upper = [](Vec<float> x) { return float_of(bits_of(x) & int32_t(0xfffff000)); };
  Vec<float> a1 = upper(a), a2 = a - a1, b1 = upper(b), b2 = b - b1;
  return {main, ((a1 * b1 - main) + a1 * b2 + a2 * b1) + a2 * b2};
#endif
}
// a - q b where that is a float exactly.
FOVEA_INLINE Vec<float> exact_rest(Vec<float> a, Vec<float> q, Vec<float> b) {
#if defined(FOVEA_FUSES)
  return fused(-q, b, a);
#else
  ExactProduct p = product(q, b);
  return (a - p.main) - p.rest;
#endif
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
