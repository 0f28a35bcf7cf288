#pragma once
#include "core/kernel.h"

namespace fovea {

// Rows are cut into this many parts whatever the thread count; each part sums its own dweight and dbias, which are then
// added in order, so that the result does not depend on who computed what.
constexpr int64_t kNormParts = 32;
size_t norm_backward_workspace(Views in, Views out, const void* attrs, int threads);
// Two numbers for every channel of every image, and two for every mean.
size_t channel_norm_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
