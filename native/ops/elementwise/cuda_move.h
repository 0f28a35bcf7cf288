// Copies and conversions, for the table in cuda_move.cu.
#pragma once
#include "ops/elementwise/cuda_map.h"

namespace fovea::cuda {

// to[i] = from[i] in the dtype of `to`, which is another.
void convert(const CudaCall& call, const View& to, const View& from);

namespace {

struct Same {
  template <class T>
  __device__ T operator()(T x) const {
    return x;
  }
};

}  // namespace
}  // namespace fovea::cuda
