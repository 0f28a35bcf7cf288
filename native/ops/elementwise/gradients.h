// Gradients of the functions in functions.h: dy times the derivative at x, or expressed through the result y where that
// is shorter.
#pragma once
#include "cpu/math_slopes.h"
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
#define FOVEA_SLOPE(Name, slope)           \
  struct Name {                            \
    FOVEA_STATELESS(Name)                  \
    template <class V>                     \
    FOVEA_INLINE V operator()(V x, V dy) { \
      return dy * slope(x);                \
    }                                      \
  };
FOVEA_SLOPE(GeluBackward, gelu_slope)
FOVEA_SLOPE(GeluTanhBackward, gelu_tanh_slope)
FOVEA_SLOPE(SiluBackward, silu_slope)
#undef FOVEA_SLOPE
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
