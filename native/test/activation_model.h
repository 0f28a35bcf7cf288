// The activations of matmul in float64, and how far from them kernels may be.
#pragma once
#include "ops/matmul/attrs.h"
#include "test/harness.h"

namespace fovea::test {

inline double activated(MatmulActivation activation, double x) {
  switch (activation) {
    case MatmulActivation::none: return x;
    case MatmulActivation::gelu: return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    case MatmulActivation::gelu_tanh: return x / (1 + std::exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)));
    case MatmulActivation::relu: return x < 0 ? 0 : x;
    case MatmulActivation::silu: return x / (1 + std::exp(-x));
  }
  return NAN;
}

constexpr double kSteepest = 1.13;  // slope of a gelu, more than that of the others, by which errors of x are magnified

// The error of the function itself at a result y, before y is rounded to its storage type.
inline double activation_error(MatmulActivation activation, Dtype dtype, double y) {
  if (activation == MatmulActivation::none || activation == MatmulActivation::relu) return 0;
  if (dtype == Dtype::f16 || dtype == Dtype::bf16) return std::fabs(y) * 0x1p-16;
  return (dtype == Dtype::f64 ? 16 : 4) * ulp(dtype, y);
}

}  // namespace fovea::test
