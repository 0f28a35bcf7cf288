// Float64 behind the functions of math.h: pow of float32 takes its way through float64, and the float64 functions
// proper are the C library's, lane by lane. Included by math.h only.
#pragma once
#include "cpu/math_base.h"

namespace fovea::FOVEA_ISA {
namespace {

// ---- doubles in the width of floats, for what must be more exact than float on the way

struct Wide {
  Vec<double> first, second;
};
#if defined(__AVX512F__)
FOVEA_INLINE Wide widen(Vec<float> x) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
FOVEA_INLINE Vec<float> narrow(Wide x) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.first)), _mm512_cvtpd_ps(x.second), 1);
}
#elif defined(__AVX2__)
FOVEA_INLINE Wide widen(Vec<float> x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
FOVEA_INLINE Vec<float> narrow(Wide x) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(x.first)), _mm256_cvtpd_ps(x.second), 1);
}
#else
typedef float HalfVec __attribute__((vector_size(kVectorBytes / 2)));
FOVEA_INLINE Wide widen(Vec<float> x) {
  HalfVec half[2];
  __builtin_memcpy(half, &x, sizeof x);
  return {__builtin_convertvector(half[0], Vec<double>), __builtin_convertvector(half[1], Vec<double>)};
}
FOVEA_INLINE Vec<float> narrow(Wide x) {
  HalfVec half[2] = {__builtin_convertvector(x.first, HalfVec), __builtin_convertvector(x.second, HalfVec)};
  Vec<float> y;
  __builtin_memcpy(&y, half, sizeof y);
  return y;
}
#endif

// 2^x for |x| < 1000, relative error 2^-39.
FOVEA_INLINE Vec<double> exp2_wide(Vec<double> x) {
  constexpr double c[] = {0x1.62e42fef6c636p-1,  0x1.ebfbdff81d0a6p-3,  0x1.c6b08e07dc5f9p-5,  0x1.3b2ab725a6783p-7,
                          0x1.5d8714c0648cfp-10, 0x1.4308916b89e62p-13, 0x1.00f8400f64008p-16, 0x1.63f0340e4267fp-20};
  Vec<double> shifted = x + 0x1.8p52;
  Vec<double> f = x - (shifted - 0x1.8p52);
  Vec<double> p = polynomial(f, c) * f + 1.0;
  return (Vec<double>)((Vec<uint64_t>)p + ((Vec<uint64_t>)shifted << 52));
}
// log2 of a positive finite double, relative error 2^-50: x = 2^e m with m in [sqrt(1/2), sqrt(2)), an odd series in
// (m-1)/(m+1).
FOVEA_INLINE Vec<double> log2_wide(Vec<double> x) {
  constexpr double c[] = {0x1.71547652b82ffp+1, 0x1.ec709dc39ccd8p-1, 0x1.2776c5167af8dp-1, 0x1.a617569db643ap-2,
                          0x1.484fa4637696ap-2, 0x1.0bb87a5b3f518p-2, 0x1.f1772c5a5822bp-3};
  constexpr uint64_t root = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
  Vec<uint64_t> i = (Vec<uint64_t>)x - root + (uint64_t(1024) << 52);
  Vec<double> m = (Vec<double>)((i & ((uint64_t(1) << 52) - 1)) + root);
  Vec<double> e = (Vec<double>)((i >> 52) | 0x4330000000000000u) - (0x1p52 + 1024);
  Vec<double> s = (m - 1.0) / (m + 1.0);
  return e + s * polynomial(s * s, c);
}

// ---- x^y = 2^(y log2 |x|) in double, then the sign and the special cases of C's pow

FOVEA_INLINE Vec<float> pow(Vec<float> x, Vec<float> y) {
  auto power = [](Vec<double> v, Vec<double> e) {
    Vec<double> l = log2_wide(v);
    l = blend(v == 0.0, splat(-__builtin_inf()), blend(v < __builtin_inf(), l, v));
    Vec<double> t = e * l;
    return blend(t == t, exp2_wide(blend(t > 300.0, splat(300.0), blend(t < -300.0, splat(-300.0), t))), t);
  };
  Wide base = widen(abs(x)), exponent = widen(y);
  Vec<float> r = narrow({power(base.first, exponent.first), power(base.second, exponent.second)});
  Vec<int32_t> small = abs(y) < 0x1p24f;  // larger ones are even integers
  Vec<int32_t> i = to_int(blend(small, y, splat(0.f)));
  Vec<int32_t> integer = (small == 0) | (__builtin_convertvector(i, Vec<float>) == y),
               odd = small & integer & ((i & 1) != 0);
  Vec<int32_t> negative = bits_of(x) < 0;
  r = blend(negative & odd, -r, r);
  r = blend((x < 0.f) & (x > -kInf) & (integer == 0), splat(__builtin_nanf("")), r);
  r = blend((abs(x) == 1.f) & (abs(y) == kInf), splat(1.f), r);
  return blend((x == 1.f) | (y == 0.f), splat(1.f), r);
}

// ---- double

#define FOVEA_LANEWISE(name)                                           \
  FOVEA_INLINE Vec<double> name(Vec<double> x) {                       \
    return each_lane(x, [](double v) { return __builtin_##name(v); }); \
  }
FOVEA_LANEWISE(exp)
FOVEA_LANEWISE(exp2)
FOVEA_LANEWISE(expm1)
FOVEA_LANEWISE(log)
FOVEA_LANEWISE(log2)
FOVEA_LANEWISE(log1p)
FOVEA_LANEWISE(tanh)
FOVEA_LANEWISE(erf)
FOVEA_LANEWISE(sin)
FOVEA_LANEWISE(cos)
#undef FOVEA_LANEWISE
FOVEA_INLINE Vec<double> sigmoid(Vec<double> x) {
  Vec<double> e = exp(-abs(x)), r = 1.0 / (1.0 + e);
  return blend(x < 0.0, e * r, r);
}
// factor / (1 + e^-z), with the factor inside of the exponential so that small results keep their precision.
FOVEA_INLINE Vec<double> times_sigmoid(Vec<double> factor, Vec<double> z) {
  Vec<double> e = exp(-abs(z));
  return blend(z < 0.0, factor * e, factor) / (1.0 + e);
}
FOVEA_INLINE Vec<double> silu(Vec<double> x) { return times_sigmoid(x, x); }
FOVEA_INLINE Vec<double> gelu_tanh(Vec<double> x) { return times_sigmoid(x, x * (kGeluTanh1 + kGeluTanh3 * x * x)); }
// P(Z > u) of the normal distribution for u >= 0. Rounding of u / sqrt 2 is magnified u^2 times, so what was lost is
// added to first order: -e^(-a^2) / sqrt pi per unit of a.
inline double normal_tail(double u) {
  double a = u * 0x1.6a09e667f3bcdp-1;
  if (!(a < 40)) return 0.5 * __builtin_erfc(a);
  double lost = __builtin_fma(u, 0x1.6a09e667f3bcdp-1, -a) - u * 0x1.bdd3413b26456p-55;
  return 0.5 * __builtin_erfc(a) - lost * 0x1.20dd750429b6dp-1 * __builtin_exp(-a * a);
}
// The tail itself for x < 0, since 1 - P(Z < -x) would cancel.
FOVEA_INLINE Vec<double> normal_below(Vec<double> x) {
  return each_lane(x, [](double v) {
    double tail = normal_tail(__builtin_fabs(v));
    return v < 0 ? tail : 1 - tail;
  });
}
FOVEA_INLINE Vec<double> gelu(Vec<double> x) { return x * normal_below(x); }
FOVEA_INLINE Vec<double> softplus(Vec<double> z) { return log1p(exp(z)); }
FOVEA_INLINE Vec<double> atan2(Vec<double> y, Vec<double> x) {
  return each_lane(y, x, [](double a, double b) { return __builtin_atan2(a, b); });
}
FOVEA_INLINE Vec<double> pow(Vec<double> x, Vec<double> y) {
  return each_lane(x, y, [](double a, double b) { return __builtin_pow(a, b); });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
