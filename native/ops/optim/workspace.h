#pragma once
#include "core/kernel.h"

namespace fovea {

// gradNorm sums pieces of this many elements; the pieces' sums (float64) are added in order.
constexpr int64_t kNormPiece = 16384;
size_t grad_norm_workspace(Views in, Views out, const void* attrs, int threads);
size_t adafactor_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
