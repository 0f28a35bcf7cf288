// Gradients of elementwise ops: dy times the derivative at x, or expressed through the result y. They mean what
// gradients.h beside this file means.
#include "ops/elementwise/cuda_backward.h"

#include "ops/elementwise/cuda_functions.h"

namespace fovea::cuda {
namespace {

struct SigmoidBackward {
  template <class T>
  __device__ T operator()(T y, T dy) const {
    return dy * y * (1 - y);
  }
};
struct TanhBackward {
  template <class T>
  __device__ T operator()(T y, T dy) const {
    return dy * (1 - y * y);
  }
};
struct ReluBackward {
  template <class T>
  __device__ T operator()(T y, T dy) const {
    return y > 0 ? dy : T(0);
  }
};
struct GeluBackward : Heavy {
  template <class T>
  __device__ T operator()(T x, T dy) const {
    return dy * gelu_slope(x);
  }
};
struct ShortGeluBackward {
  __device__ float operator()(float x, float dy) const { return dy * short_gelu_slope(x); }
};
struct SiluBackward {
  template <class T>
  __device__ T operator()(T x, T dy) const {
    return dy * silu_slope<T, Logistic<T>>(x);
  }
};
struct ShortSiluBackward {
  __device__ float operator()(float x, float dy) const { return dy * silu_slope<float, ShortLogistic>(x); }
};
struct GeluTanhBackward {
  template <class T>
  __device__ T operator()(T x, T dy) const {
    return dy * gelu_tanh_slope<T, Logistic<T>>(x);
  }
};
struct ShortGeluTanhBackward {
  __device__ float operator()(float x, float dy) const { return dy * gelu_tanh_slope<float, ShortLogistic>(x); }
};
struct SoftplusBackward : Softplus {
  using Softplus::Softplus;
  template <class T>
  __device__ T operator()(T x, T dy) const {
    T z = x * T(beta);
    return z > T(threshold) ? dy : dy * Logistic<T>(z).value;
  }
};
struct ClampBackward : Clamp {
  using Clamp::Clamp;
  template <class T>
  __device__ T operator()(T x, T dy) const {
    return x >= convert_one<double, T>(low) && x <= convert_one<double, T>(high) ? dy : T(0);
  }
};

// `of_16_bits` is the function for the 16-bit types.
template <class F, class Short>
void backward(const CudaCall& call, F f, Short of_16_bits) {
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    auto x = input<T>(call.in[0]), dy = input<T>(call.in[1]);
    if constexpr (kIs16Bit<T>) map<T>(call, call.out[0], of_16_bits, x, dy);
    else map<T>(call, call.out[0], f, x, dy);
  });
}
template <class F>
void backward(const CudaCall& call, F f) {
  backward(call, f, f);
}

}  // namespace

void gelu_backward(const CudaCall& call, const NoAttrs&) { backward(call, GeluBackward{}, ShortGeluBackward{}); }
void gelu_tanh_backward(const CudaCall& call, const NoAttrs&) {
  backward(call, GeluTanhBackward{}, ShortGeluTanhBackward{});
}
void silu_backward(const CudaCall& call, const NoAttrs&) { backward(call, SiluBackward{}, ShortSiluBackward{}); }
void sigmoid_backward(const CudaCall& call, const NoAttrs&) { backward(call, SigmoidBackward{}); }
void tanh_backward(const CudaCall& call, const NoAttrs&) { backward(call, TanhBackward{}); }
void relu_backward(const CudaCall& call, const NoAttrs&) { backward(call, ReluBackward{}); }
void softplus_backward(const CudaCall& call, const SoftplusAttrs& attrs) { backward(call, SoftplusBackward(attrs)); }
void clamp_backward(const CudaCall& call, const ClampAttrs& attrs) { backward(call, ClampBackward(attrs)); }

}  // namespace fovea::cuda
