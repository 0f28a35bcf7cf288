#pragma once
#include "core/kernel.h"

namespace fovea {

size_t avg_pool_backward_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
