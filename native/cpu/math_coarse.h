// Functions for results that are rounded to 16 bits, in a third to two thirds of the time that those of math.h take.
// Relative errors:
//
//   coarse_exp2 coarse_exp                     3e-6, and 6e-8 per unit of the argument
//   coarse_silu coarse_gelu_tanh coarse_gelu   1e-4, so that rounded results are within 0.6 units in the last place
//
// With u = |x| and S the tail of the logistic or the normal distribution, the last three are max(x, 0) - u S(u), where
// no terms cancel.
#pragma once
#include "cpu/math.h"

namespace fovea::FOVEA_ISA {
namespace {

// t = n + f with 0 <= f <= 1.
FOVEA_INLINE Vec<float> coarse_exp2(Vec<float> t) {
  constexpr float c[] = {6.930448413e-01f, 2.412801087e-01f, 5.224262550e-02f, 1.342661120e-02f};
#if defined(__AVX512F__)
  Vec<float> f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // of infinities, 0
  return _mm512_scalef_ps(1.f + f * polynomial(f, c), t);                         // by the floor of t
#else
  t = within(t, -151.f, 129.f);
  Vec<float> n = nearest(t - 0.5f), f = t - n;
  return scale(1.f + f * polynomial(f, c), n);
#endif
}
FOVEA_INLINE Vec<float> coarse_exp(Vec<float> x) { return coarse_exp2(x * kLog2E); }

// |x|, but no larger than `limit` where x > 0: beyond, infinity times the tail of 0 must not come up. For x = -inf it
// must, and gives NaN.
FOVEA_INLINE Vec<float> tail_argument(Vec<float> x, float limit) { return abs(at_most(x, limit)); }
FOVEA_INLINE Vec<float> above_tail(Vec<float> x, Vec<float> u, Vec<float> tail) { return at_least(x, -0.f) - u * tail; }

// 1 / (1 + 2^z) for z >= 0.
FOVEA_INLINE Vec<float> coarse_logistic_tail(Vec<float> z) {
  Vec<float> e = coarse_exp2(-z);
#if defined(__AVX512F__)
  return e * _mm512_rcp14_ps(1.f + e);
#else
  return e / (1.f + e);
#endif
}
FOVEA_INLINE Vec<float> coarse_silu(Vec<float> x) {
  Vec<float> u = tail_argument(x, 30.f);
  return above_tail(x, u, coarse_logistic_tail(u * kLog2E));
}
FOVEA_INLINE Vec<float> coarse_gelu_tanh(Vec<float> x) {
  constexpr double log2e = 0x1.71547652b82fep0;
  Vec<float> u = tail_argument(x, 15.f);
  Vec<float> z = u * (float(kGeluTanh1 * log2e) + float(kGeluTanh3 * log2e) * (u * u));
  return above_tail(x, u, coarse_logistic_tail(z));
}
// The tail is 2^p(u).
FOVEA_INLINE Vec<float> coarse_gelu(Vec<float> x) {
  constexpr float c[] = {-1.f,
                         -1.151303291e+00f,
                         -4.581459463e-01f,
                         -5.447065458e-02f,
                         8.873241022e-03f,
                         -1.067280653e-03f,
                         8.972026262e-05f,
                         -4.924665518e-06f,
                         1.572935417e-07f,
                         -2.205452265e-09f};
  Vec<float> u = tail_argument(x, 15.f);
  return above_tail(x, u, coarse_exp2(polynomial(u, c)));
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
