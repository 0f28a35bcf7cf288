// The launcher of multinomial, which has a file of its own.
#pragma once
#include "cuda/kernel.h"
#include "ops/random/attrs.h"

namespace fovea::cuda {

void multinomial(const CudaCall& call, const MultinomialAttrs& attrs);
size_t multinomial_cuda_workspace(Views in, Views out, const void* attrs, const DeviceLimits&);

}  // namespace fovea::cuda
