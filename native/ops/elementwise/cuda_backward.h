// The gradients, for the table in cuda.cu.
#pragma once
#include "cuda/kernel.h"
#include "ops/elementwise/attrs.h"

namespace fovea::cuda {

void gelu_backward(const CudaCall& call, const NoAttrs&);
void gelu_tanh_backward(const CudaCall& call, const NoAttrs&);
void silu_backward(const CudaCall& call, const NoAttrs&);
void sigmoid_backward(const CudaCall& call, const NoAttrs&);
void tanh_backward(const CudaCall& call, const NoAttrs&);
void relu_backward(const CudaCall& call, const NoAttrs&);
void softplus_backward(const CudaCall& call, const SoftplusAttrs& attrs);
void clamp_backward(const CudaCall& call, const ClampAttrs& attrs);

}  // namespace fovea::cuda
