// The launchers of cuda_backward.cu.
#pragma once
#include "core/attrs.h"
#include "cuda/kernel.h"

namespace fovea::cuda {

// kCentred: layerNorm, else rmsNorm; kAdds: there is a gradient of x itself, the last input
template <bool kCentred, bool kAdds>
void norm_backward(const CudaCall& call, const NoAttrs&);
size_t norm_backward_workspace(Views in, Views out, const void*, const DeviceLimits& device);

}  // namespace fovea::cuda
