#pragma once
#include "core/kernel.h"

namespace fovea {

size_t matmul_workspace(Views in, Views out, const void* attrs, int threads);
size_t grouped_matmul_workspace(Views in, Views out, const void* attrs, int threads);
size_t grouped_outer_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
