// The launchers of reductions that compare, which lie in a file of their own so that the two compile side by side.
#pragma once
#include "core/attrs.h"
#include "cuda/kernel.h"

namespace fovea::cuda {

void refuse_empty(const CudaCall& call);  // where the reduced axis has no elements
// kLargest: max, argmax, any; else min, argmin, all
template <bool kLargest>
void extremum(const CudaCall& call, const NoAttrs&);
template <bool kLargest>
void extremum_of_magnitudes(const CudaCall& call);
template <bool kLargest>
void extremum_place(const CudaCall& call, const NoAttrs&);
template <bool kLargest>
void truth(const CudaCall& call, const NoAttrs&);

}  // namespace fovea::cuda
