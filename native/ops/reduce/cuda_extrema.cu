// max, min, argmax, argmin, any and all; declared in cuda_extrema.h.
#include "ops/reduce/cuda_extrema.h"

#include "ops/reduce/cuda_fold.h"
#include "ops/reduce/cuda_folds.h"

namespace fovea::cuda {

void refuse_empty(const CudaCall& call) {
  if (call.in[0].dim(-1) == 0)
    call.fail("FOVEA_SHAPE", "the reduced axis has no elements, so there is no %s; reduce an axis of at least one",
              call.op);
}

template <bool kLargest>
void extremum(const CudaCall& call, const NoAttrs&) {
  refuse_empty(call);
  dispatch(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_fold(call, Extremum<T, kLargest>{call.out[0].as<T>()});
  });
}
template <bool kLargest>
void extremum_of_magnitudes(const CudaCall& call) {
  refuse_empty(call);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_fold(call, Extremum<T, kLargest>{call.out[0].as<T>(), true});
  });
}
template <bool kLargest>
void extremum_place(const CudaCall& call, const NoAttrs&) {
  refuse_empty(call);
  dispatch(call.in[0].dtype,
           [&](auto zero) { run_fold(call, Place<decltype(zero), kLargest>{call.out[0].as<int64_t>()}); });
}
template <bool kLargest>
void truth(const CudaCall& call, const NoAttrs&) {
  run_fold(call, Extremum<Bool, kLargest>{call.out[0].as<Bool>()});
}

template void extremum<true>(const CudaCall&, const NoAttrs&);
template void extremum<false>(const CudaCall&, const NoAttrs&);
template void extremum_of_magnitudes<true>(const CudaCall&);
template void extremum_of_magnitudes<false>(const CudaCall&);
template void extremum_place<true>(const CudaCall&, const NoAttrs&);
template void extremum_place<false>(const CudaCall&, const NoAttrs&);
template void truth<true>(const CudaCall&, const NoAttrs&);
template void truth<false>(const CudaCall&, const NoAttrs&);

}  // namespace fovea::cuda
