// Derivatives of functions of math.h, for float and double vectors:
//
//   gelu_slope       P(x) + x p(x), P being the normal distribution function and p its density
//   gelu_tanh_slope  s + x s (1 - s) z', s being the logistic function at z(x)
//   silu_slope       s (1 + x (1 - s)), s being the logistic function at x
#pragma once
#include "cpu/math.h"

namespace fovea::FOVEA_ISA {
namespace {

FOVEA_INLINE Vec<float> gelu_slope(Vec<float> x) {
  Normal z = normal(at_most(abs(x), 14.5f));
  Vec<float> power = scale(1.f + z.factor_less_1, z.n), tail = power * (z.above / z.below);
  return blend(x < 0.f, tail, 1.f - tail) + x * (power * float(kNormalDensity));
}
FOVEA_INLINE Vec<double> gelu_slope(Vec<double> x) {
  return normal_below(x) + x * (exp(x * x * -0.5) * kNormalDensity);
}
template <class V>
FOVEA_INLINE V silu_slope(V x) {
  V e = exp(-abs(x)), r = 1 / (1 + e), s = x < 0 ? e * r : r, rest = x < 0 ? r : e * r;
  return s * (1 + x * rest);
}
// Beyond 12 the second term is 0, and held there so that infinities do not meet zeros.
template <class V>
FOVEA_INLINE V gelu_tanh_slope(V x) {
  using T = __typeof__(V{}[0] + V{}[0]);
  V h = x > 12 ? V{} + 12 : x < -12 ? V{} - 12 : x;
  V z = h * (T(kGeluTanh1) + T(kGeluTanh3) * h * h), dz = T(kGeluTanh1) + T(3 * kGeluTanh3) * h * h;
  V e = exp(-abs(z)), r = 1 / (1 + e), s = z < 0 ? e * r : r;
  return s + h * (e * r * r) * dz;  // s(z) (1 - s(z)) = e r^2
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
