// Where the windows of pooling are, for the kernels of both devices.
#pragma once
#include "core/arithmetic.h"
#include "core/kernel.h"
#include "ops/pool/attrs.h"

namespace fovea {

// The indices begin, begin + step, ... below end, all inside of the image.
struct PoolTaps {
  int64_t begin, end, step;
};
struct PoolAxis {
  int64_t size, windows, kernel, stride, dilation, padding;
  bool adaptive, counts_padding;

  FOVEA_INLINE PoolTaps at(int64_t window) const {
    if (adaptive) return {window * size / windows, ceil_div((window + 1) * size, windows), 1};
    int64_t begin = window * stride - padding;
    const int64_t end = min_of(begin + (kernel - 1) * dilation + 1, size);
    if (begin < 0) begin += ceil_div(-begin, dilation) * dilation;
    return {begin, end, dilation};
  }
  // Elements of a window of a mean. Padding counts as far as there is some: the last window may reach beyond it.
  FOVEA_INLINE int64_t count(int64_t window) const {
    const PoolTaps taps = at(window);
    if (adaptive || !counts_padding) return taps.end - taps.begin;
    const int64_t begin = window * stride - padding;
    return min_of(begin + kernel, size + padding) - begin;
  }
  // Windows [first_with(i), last_with(i)] have index i, without dilation.
  FOVEA_INLINE int64_t first_with(int64_t i) const {
    return adaptive ? i * windows / size : ceil_div(max_of(0, i + padding - kernel + 1), stride);
  }
  FOVEA_INLINE int64_t last_with(int64_t i) const {
    return min_of(windows - 1, adaptive ? ((i + 1) * windows - 1) / size : (i + padding) / stride);
  }
};

// `image` and `windows`: [b, c, h, w].
FOVEA_INLINE PoolAxis pool_rows(const View& image, const View& windows, const PoolAttrs& a) {
  return {image.shape[2], windows.shape[2], a.kernelY, a.strideY, a.dilationY, a.paddingY, a.adaptive, a.countsPadding};
}
FOVEA_INLINE PoolAxis pool_columns(const View& image, const View& windows, const PoolAttrs& a) {
  return {image.shape[3], windows.shape[3], a.kernelX, a.strideX, a.dilationX, a.paddingX, a.adaptive, a.countsPadding};
}

// Fails where a window would have no element of the image.
template <class AnyCall>
FOVEA_HOST_INLINE void check_pool(const AnyCall& call, const PoolAxis& axis) {
  if (!axis.adaptive && (axis.kernel < 1 || axis.stride < 1 || axis.dilation < 1 || axis.padding < 0))
    call.fail("FOVEA_ARGUMENT", "expected kernels, strides and dilations of at least 1 and paddings of at least 0");
  for (int64_t window = 0; window < axis.windows; window++) {
    const PoolTaps taps = axis.at(window);
    if (taps.begin >= taps.end)
      call.fail("FOVEA_SHAPE", "window %lld of %lld has no element of an axis of %lld; make the padding smaller",
                static_cast<long long>(window), static_cast<long long>(axis.windows),
                static_cast<long long>(axis.size));
  }
}

}  // namespace fovea
