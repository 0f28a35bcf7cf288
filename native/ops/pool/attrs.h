#pragma once
#include "core/attrs.h"

namespace fovea {

// Windows as in ops/conv/attrs.h; with `adaptive`, window w of n covers [floor(w size / n), ceil((w + 1) size / n)),
// and the attributes between are not read.
struct PoolAttrs {
  int64_t kernelY = 1, kernelX = 1, strideY = 1, strideX = 1, dilationY = 1, dilationX = 1, paddingY = 0, paddingX = 0;
  int64_t height = 0, width = 0;  // of the result
  bool adaptive = false;
  bool countsPadding = true;  // in what a mean is divided by
  FOVEA_ATTRS(PoolAttrs, FOVEA_ATTR(PoolAttrs, kernelY), FOVEA_ATTR(PoolAttrs, kernelX), FOVEA_ATTR(PoolAttrs, strideY),
              FOVEA_ATTR(PoolAttrs, strideX), FOVEA_ATTR(PoolAttrs, dilationY), FOVEA_ATTR(PoolAttrs, dilationX),
              FOVEA_ATTR(PoolAttrs, paddingY), FOVEA_ATTR(PoolAttrs, paddingX), FOVEA_ATTR(PoolAttrs, height),
              FOVEA_ATTR(PoolAttrs, width), FOVEA_ATTR(PoolAttrs, adaptive), FOVEA_ATTR(PoolAttrs, countsPadding))
};

}  // namespace fovea
