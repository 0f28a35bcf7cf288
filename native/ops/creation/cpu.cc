// Kernels that write a tensor without reading one.
#include "ops/creation/attrs.h"
#include "ops/elementwise/driver.h"

namespace fovea::FOVEA_ISA {
namespace {

// The value is converted to the tensor's dtype as `cast` would.
void fill_(Call& call, const FillAttrs& attrs) {
  const View& x = call.in[0];
  Walk w = walk_over(x);
  w.add(x), w.add(attrs.value);
  run_walk(call, w, {nullptr, {x.dtype, x.dtype, x.dtype}, x.dtype}, nullptr);
}

// x[i] = start + i step, computed in float64, or in int64 where both are whole and x is.
void arange_(Call& call, const ArangeAttrs& attrs) {
  const View& x = call.in[0];
  dispatch_any(x.dtype, [&]<class T>() {
    bool whole = !kIsFloat<T> && !kIs16Bit<T> && attrs.start == __builtin_trunc(attrs.start) &&
                 attrs.step == __builtin_trunc(attrs.step);
    int64_t start = saturate<int64_t>(attrs.start), step = saturate<int64_t>(attrs.step);
    call.parallel.for_range(x.size(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        T& at = x.as<T>()[i * x.strides[0]];
        if (whole) at = convert_one<int64_t, T>(int64_t(uint64_t(start) + uint64_t(i) * uint64_t(step)));
        else at = convert_one<double, T>(attrs.start + double(i) * attrs.step);
      }
    });
  });
}

}  // namespace

FOVEA_KERNELS(creation, FOVEA_KERNEL("fill_", fill_, FillAttrs), FOVEA_KERNEL("arange_", arange_, ArangeAttrs))

}  // namespace fovea::FOVEA_ISA
