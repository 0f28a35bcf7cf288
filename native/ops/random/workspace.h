#pragma once
#include "core/registry.h"

namespace fovea {

// One float64 per category and thread: running sums of a row, or its racing times.
inline size_t multinomial_workspace(Views in, Views, const void*, int threads) {
  return size_t(threads) * size_t(in[0].dim(-1)) * sizeof(double);
}

}  // namespace fovea
