// Gated linear units: y = f(gate) up with f = silu or gelu, gate and up being two tensors or the halves of one.
//
//   dgate = dy up f'(gate)    dup = dy f(gate)
#include "ops/elementwise/cuda_functions.h"
#include "ops/elementwise/cuda_map.h"
#include "ops/gated/attrs.h"
#include "ops/gated/halves.h"

namespace fovea::cuda {
namespace {

struct SiluSlope {
  template <class T>
  __device__ T operator()(T x) const {
    return silu_slope<T, Logistic<T>>(x);
  }
};
struct ShortSiluSlope {
  __device__ float operator()(float x) const { return silu_slope<float, ShortLogistic>(x); }
};
struct GeluSlope : Heavy {
  template <class T>
  __device__ T operator()(T x) const {
    return gelu_slope(x);
  }
};
struct ShortGeluSlope {
  __device__ float operator()(float x) const { return short_gelu_slope(x); }
};
struct GeluTanhSlope : Heavy {
  template <class T>
  __device__ T operator()(T x) const {
    return gelu_tanh_slope<T, Logistic<T>>(x);
  }
};
struct ShortGeluTanhSlope {
  __device__ float operator()(float x) const { return gelu_tanh_slope<float, ShortLogistic>(x); }
};

// Short...: the same for the 16-bit types.
struct SiluGate {
  using Value = Silu;
  using ShortValue = ShortSilu;
  using Slope = SiluSlope;
  using ShortSlope = ShortSiluSlope;
};
struct GeluGate {
  using Value = Gelu;
  using ShortValue = ShortGelu;
  using Slope = GeluSlope;
  using ShortSlope = ShortGeluSlope;
};
struct GeluTanhGate {
  using Value = GeluTanh;
  using ShortValue = ShortGeluTanh;
  using Slope = GeluTanhSlope;
  using ShortSlope = ShortGeluTanhSlope;
};

// f(a) times the other operands.
template <class F>
struct Times : F {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return F::operator()(a) * b;
  }
  template <class T>
  __device__ T operator()(T a, T b, T c) const {
    return b * c * F::operator()(a);
  }
};

// out = f(gate) times the others, with the function for 16 bits where they are.
template <class F, class Short, class... Other>
void multiply(const CudaCall& call, const View& out, const View& gate, const Other&... others) {
  dispatch_float(gate.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (kIs16Bit<T>) map<T>(call, out, Times<Short>{}, input<T>(gate), input<T>(others)...);
    else map<T>(call, out, Times<F>{}, input<T>(gate), input<T>(others)...);
  });
}

template <class Gate>
void forward(const CudaCall& call, int64_t width) {
  const bool apart = call.in[1].present();
  check_width(call, width, apart);
  const Halves in(call.in[0], call.in[1], apart);
  multiply<typename Gate::Value, typename Gate::ShortValue>(call, call.out[0], in.gate, in.up);
}
template <class Gate>
void backward(const CudaCall& call) {
  const View& dy = call.in[2];
  const bool apart = call.in[1].present();
  check_width(call, dy.dim(-1), apart);
  const Halves in(call.in[0], call.in[1], apart), out(call.out[0], call.out[1], apart);
  multiply<typename Gate::Slope, typename Gate::ShortSlope>(call, out.gate, in.gate, dy, in.up);
  multiply<typename Gate::Value, typename Gate::ShortValue>(call, out.up, in.gate, dy);
}

void swiglu(const CudaCall& call, const SwigluAttrs& attrs) { forward<SiluGate>(call, attrs.width); }
void geglu(const CudaCall& call, const GegluAttrs& attrs) {
  if (attrs.tanh) forward<GeluTanhGate>(call, attrs.width);
  else forward<GeluGate>(call, attrs.width);
}
void swiglu_backward(const CudaCall& call, const SwigluAttrs&) { backward<SiluGate>(call); }
void geglu_backward(const CudaCall& call, const GegluAttrs& attrs) {
  if (attrs.tanh) backward<GeluTanhGate>(call);
  else backward<GeluGate>(call);
}

}  // namespace

FOVEA_CUDA_KERNELS(gated, FOVEA_CUDA_KERNEL("swiglu", swiglu, SwigluAttrs),
                   FOVEA_CUDA_KERNEL("geglu", geglu, GegluAttrs),
                   FOVEA_CUDA_KERNEL("swigluBackward", swiglu_backward, SwigluAttrs),
                   FOVEA_CUDA_KERNEL("gegluBackward", geglu_backward, GegluAttrs))

}  // namespace fovea::cuda
