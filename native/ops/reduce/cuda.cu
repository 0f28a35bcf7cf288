// Reductions over the last axis, any strides, on the device. cuda_folds.h says what each of them keeps, cuda_fold.h how
// they are cut:
//
//   sum, mean           in float32 for 16-bit floats, modulo 2^64 for integers; prod: in float64 for all floats
//   max, min            NaN wins; argmax, argmin: the first index of that value
//   variance            sum (x - mean)^2 / max(n - correction, 0)
//   norm                (sum |x|^p)^(1/p); p = 0 counts what is not zero, p = +-inf is the largest or smallest |x|
//   logsumexp           m + log sum exp(x - m), m = max x where that is finite, else 0
//   cumsum              in float64 for float32
#include "ops/reduce/attrs.h"
#include "ops/reduce/cuda_extrema.h"
#include "ops/reduce/cuda_scan.h"

namespace fovea::cuda {
namespace {

template <class Body>
void dispatch_sum(Dtype dtype, Body&& body) {
  if (dtype == Dtype::i64) return body(int64_t{});
  if (dtype == Dtype::i32) return body(int32_t{});
  dispatch_float(dtype, body);
}

void sum(const CudaCall& call, const NoAttrs&) {
  dispatch_sum(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_fold(call, Sum<T>{call.out[0].as<T>()});
  });
}
void product(const CudaCall& call, const NoAttrs&) {
  dispatch_sum(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_fold(call, Product<T>{call.out[0].as<T>()});
  });
}
void mean(const CudaCall& call, const NoAttrs&) {
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_fold(call, Sum<T>{call.out[0].as<T>(), SumOf<T>(call.in[0].dim(-1))});
  });
}
void variance(const CudaCall& call, const VarianceAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const A n = A(call.in[0].dim(-1)), degrees = n - A(attrs.correction);
    run_fold(call, Variance<T>{call.out[0].as<T>(), call.out[1].as<A>(), n, degrees < 0 ? A(0) : degrees});
  });
}
void norm(const CudaCall& call, const NormAttrs& attrs) {
  if (isinf(attrs.p)) return attrs.p > 0 ? extremum_of_magnitudes<true>(call) : extremum_of_magnitudes<false>(call);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    if (attrs.p == 0 || attrs.p == 1 || attrs.p == 2) run_fold(call, PowerSum<T>{call.out[0].as<T>(), attrs.p});
    else run_fold(call, AnyPowerSum<T>{call.out[0].as<T>(), attrs.p});
  });
}
void logsumexp(const CudaCall& call, const NoAttrs&) {
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_fold(call, LogSumExp<T>{call.out[0].as<T>()});
  });
}
void cumsum(const CudaCall& call, const NoAttrs&) {
  dispatch_sum(call.in[0].dtype, [&](auto zero) { scan<decltype(zero)>(call); });
}

size_t workspace(Views in, Views, const void*, const DeviceLimits& device) {
  return plan_of(in[0], device).workspace();
}
size_t scan_workspace(Views in, Views, const void*, const DeviceLimits& device) {
  return plan_of<true>(in[0], device).workspace();
}

}  // namespace

FOVEA_CUDA_KERNELS(reduce, FOVEA_CUDA_KERNEL_WITH("sum", sum, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("prod", product, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("mean", mean, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("max", extremum<true>, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("min", extremum<false>, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("argmax", extremum_place<true>, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("argmin", extremum_place<false>, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("any", truth<true>, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("all", truth<false>, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("variance", variance, VarianceAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("norm", norm, NormAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("logsumexp", logsumexp, NoAttrs, workspace),
                   FOVEA_CUDA_KERNEL_WITH("cumsum", cumsum, NoAttrs, scan_workspace))

}  // namespace fovea::cuda
