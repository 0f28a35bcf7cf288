// Kernels that write a tensor without reading one.
#include "ops/creation/attrs.h"
#include "ops/elementwise/cuda_map.h"

namespace fovea::cuda {
namespace {

// The value is converted to the tensor's dtype as `cast` would.
template <class T>
struct Constant {
  T value;
  __device__ T operator()() const { return value; }
};
void fill_(const CudaCall& call, const FillAttrs& attrs) {
  dispatch(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    map<T>(call, call.in[0], Constant<T>{convert_one<double, T>(attrs.value)});
  });
}

// x[i] = start + i step, computed in float64, or in int64 where both are whole and x is.
template <class T>
__global__ void count_up(T* x, int64_t n, int64_t stride, double start, double step, bool whole) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    if (whole)
      x[i * stride] = convert_one<int64_t, T>(
          int64_t(uint64_t(saturate<int64_t>(start)) + uint64_t(i) * uint64_t(saturate<int64_t>(step))));
    else x[i * stride] = convert_one<double, T>(__fma_rn(double(i), step, start));
  }
}
void arange_(const CudaCall& call, const ArangeAttrs& attrs) {
  const View& x = call.in[0];
  dispatch(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    bool whole = !kIsFloat<T> && !kIs16Bit<T> && attrs.start == __builtin_trunc(attrs.start) &&
                 attrs.step == __builtin_trunc(attrs.step);
    Config config{{blocks_for(x.size(), kThreads, call.device)}, {kThreads}};
    call.launch(count_up<T>, config, x.as<T>(), x.size(), x.strides[0], attrs.start, attrs.step, whole);
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(creation, FOVEA_CUDA_KERNEL("fill_", fill_, FillAttrs),
                   FOVEA_CUDA_KERNEL("arange_", arange_, ArangeAttrs))

}  // namespace fovea::cuda
