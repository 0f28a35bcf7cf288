#pragma once
#include "core/kernel.h"

namespace fovea {

// Bytes of workspace of the CPU kernels, from the checked views; declared here for tests, which call kernels without
// the registry.
size_t conv_workspace(Views in, Views out, const void* attrs, int threads);
size_t conv_transpose_workspace(Views in, Views out, const void* attrs, int threads);
size_t conv_weight_workspace(Views in, Views out, const void* attrs, int threads);
size_t fold_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
