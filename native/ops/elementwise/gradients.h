// Gradients of the functions in functions.h: dy times the derivative at x, or expressed through the result y where that is
// shorter.
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
  template <class V>
  FOVEA_INLINE V operator()(V x, V dy) {
    using T = Element<V>;
    V one = V{} + 1, q = normal_tail(abs(x), one), density = exp(x * x * T(-0.5)) * T(0.3989422804014327);
    return dy * ((x < 0 ? q : 1 - q) + x * density);
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
    V z = h * (T(GeluTanh::k1) + T(GeluTanh::k3) * h * h), dz = T(GeluTanh::k1) + T(3 * GeluTanh::k3) * h * h;
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
