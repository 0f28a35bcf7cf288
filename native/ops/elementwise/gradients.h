// Gradients of the functions in functions.h: dy times the derivative at x, or expressed through the result y where that
// is shorter.
#pragma once
#include "ops/elementwise/functions.h"

namespace fovea::FOVEA_ISA {
namespace {

// d(1 / (1 + e^-x)) = y (1 - y)
struct SigmoidBackward {
  FOVEA_STATELESS(SigmoidBackward)
  template <class V>
  FOVEA_INLINE V operator()(V y, V dy) {
    return dy * y * (1 - y);
  }
};
struct TanhBackward {
  FOVEA_STATELESS(TanhBackward)
  template <class V>
  FOVEA_INLINE V operator()(V y, V dy) {
    return dy * (1 - y * y);
  }
};
struct ReluBackward {
  FOVEA_STATELESS(ReluBackward)
  template <class V>
  FOVEA_INLINE V operator()(V y, V dy) {
    return y > 0 ? dy : V{};
  }
};
// d(x P(x)) = P(x) + x p(x)
struct GeluBackward {
  FOVEA_STATELESS(GeluBackward)
  FOVEA_INLINE Vec<float> operator()(Vec<float> x, Vec<float> dy) {
    Normal z = normal(at_most(abs(x), 14.5f));
    Vec<float> power = scale(1.f + z.factor_less_1, z.n), tail = power * (z.above / z.below);
    return dy * (blend(x < 0.f, tail, 1.f - tail) + x * (power * float(kNormalDensity)));
  }
  FOVEA_INLINE Vec<double> operator()(Vec<double> x, Vec<double> dy) {
    return dy * (normal_below(x) + x * (exp(x * x * -0.5) * kNormalDensity));
  }
};
// d(x s(x)) = s (1 + x (1 - s))
struct SiluBackward {
  FOVEA_STATELESS(SiluBackward)
  template <class V>
  FOVEA_INLINE V operator()(V x, V dy) {
    V e = exp(-abs(x)), r = 1 / (1 + e), s = x < 0 ? e * r : r, rest = x < 0 ? r : e * r;
    return dy * s * (1 + x * rest);
  }
};
// d(x s(z)) = s + x s (1 - s) dz/dx; beyond 12 the second term is 0, and held there so that infinities do not meet
// zeros.
struct GeluTanhBackward {
  FOVEA_STATELESS(GeluTanhBackward)
  template <class V>
  FOVEA_INLINE V operator()(V x, V dy) {
    using T = Element<V>;
    V h = x > 12 ? V{} + 12 : x < -12 ? V{} - 12 : x;
    V z = h * (T(kGeluTanh1) + T(kGeluTanh3) * h * h), dz = T(kGeluTanh1) + T(3 * kGeluTanh3) * h * h;
    V e = exp(-abs(z)), r = 1 / (1 + e), s = z < 0 ? e * r : r;
    return dy * (s + h * (e * r * r) * dz);  // s(z) (1 - s(z)) = e r^2
  }
};
struct SoftplusBackward : Softplus {
  using Softplus::Softplus;
  template <class V>
  FOVEA_INLINE V operator()(V x, V dy) {
    using T = Element<V>;
    V z = x * T(beta);
    return z > T(threshold) ? dy : dy * sigmoid(z);
  }
};
struct ClampBackward : Clamp {
  using Clamp::Clamp;
  template <class V>
  FOVEA_INLINE V operator()(V x, V dy) {
    return (x >= bound<V>(low)) & (x <= bound<V>(high)) ? dy : V{};
  }
};
#undef FOVEA_STATELESS

}  // namespace
}  // namespace fovea::FOVEA_ISA
