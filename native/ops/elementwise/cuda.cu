// Elementwise ops of one operand; the table names the gradients, too.
#include "ops/elementwise/cuda_backward.h"
#include "ops/elementwise/cuda_functions.h"

namespace fovea::cuda {
namespace {

template <class F>
void unary_number(const CudaCall& call, F f) {
  dispatch_number(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    map<T>(call, call.out[0], f, input<T>(call.in[0]));
  });
}
// `of_16_bits` is the function for the 16-bit types.
template <class F, class Short>
void unary_float(const CudaCall& call, F f, Short of_16_bits) {
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (kIs16Bit<T>) map<T>(call, call.out[0], of_16_bits, input<T>(call.in[0]));
    else map<T>(call, call.out[0], f, input<T>(call.in[0]));
  });
}
template <class F>
void number(const CudaCall& call, const NoAttrs&) {
  unary_number(call, F{});
}
template <class F, class Short = F>
void real(const CudaCall& call, const NoAttrs&) {
  unary_float(call, F{}, Short{});
}
void clamp(const CudaCall& call, const ClampAttrs& attrs) { unary_number(call, Clamp(attrs)); }
void softplus(const CudaCall& call, const SoftplusAttrs& attrs) { unary_float(call, Softplus(attrs), Softplus(attrs)); }

template <class F>
void test(const CudaCall& call, const NoAttrs&) {
  dispatch(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    map<Bool>(call, call.out[0], F{}, input<T>(call.in[0]));
  });
}

}  // namespace

#define NUMBER(name, F) FOVEA_CUDA_KERNEL(name, number<F>, NoAttrs)
#define REAL(name, ...) FOVEA_CUDA_KERNEL(name, (real<__VA_ARGS__>), NoAttrs)

FOVEA_CUDA_KERNELS(elementwise, NUMBER("neg", Neg), NUMBER("abs", Abs), NUMBER("sign", Sign), NUMBER("square", Square),
                   NUMBER("relu", Relu), NUMBER("floor", Floor), NUMBER("ceil", Ceil), NUMBER("round", Round),
                   NUMBER("trunc", Trunc), FOVEA_CUDA_KERNEL("clamp", clamp, ClampAttrs), REAL("exp", Exp),
                   REAL("expm1", Expm1), REAL("log", Log), REAL("log1p", Log1p), REAL("log2", Log2), REAL("sqrt", Sqrt),
                   REAL("rsqrt", Rsqrt), REAL("reciprocal", Reciprocal), REAL("sin", Sin), REAL("cos", Cos),
                   REAL("tanh", Tanh), REAL("sigmoid", Sigmoid, ShortSigmoid), REAL("erf", Erf),
                   REAL("gelu", Gelu, ShortGelu), REAL("geluTanh", GeluTanh, ShortGeluTanh),
                   REAL("silu", Silu, ShortSilu), FOVEA_CUDA_KERNEL("softplus", softplus, SoftplusAttrs),
                   FOVEA_CUDA_KERNEL("isNan", test<IsNan>, NoAttrs),
                   FOVEA_CUDA_KERNEL("isFinite", test<IsFinite>, NoAttrs),
                   FOVEA_CUDA_KERNEL("logicalNot", test<IsZero>, NoAttrs),
                   FOVEA_CUDA_KERNEL("geluBackward", gelu_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("geluTanhBackward", gelu_tanh_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("siluBackward", silu_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("sigmoidBackward", sigmoid_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("tanhBackward", tanh_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("reluBackward", relu_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("softplusBackward", softplus_backward, SoftplusAttrs),
                   FOVEA_CUDA_KERNEL("clampBackward", clamp_backward, ClampAttrs))

}  // namespace fovea::cuda
