#pragma once
#include "core/attrs.h"

namespace fovea {

// Tap (i, j) of window (y, x) is at (y strideY + i dilationY - paddingY, x strideX + j dilationX - paddingX). What is
// outside of the image counts as 0.
struct ConvAttrs {
  int64_t groups = 1;
  int64_t strideY = 1, strideX = 1, dilationY = 1, dilationX = 1, paddingY = 0, paddingX = 0;
  int64_t channels = 0, height = 0, width = 0, kernelY = 0, kernelX = 0;  // of the result, where its axes name them
  FOVEA_ATTRS(ConvAttrs, FOVEA_ATTR(ConvAttrs, groups), FOVEA_ATTR(ConvAttrs, strideY), FOVEA_ATTR(ConvAttrs, strideX),
              FOVEA_ATTR(ConvAttrs, dilationY), FOVEA_ATTR(ConvAttrs, dilationX), FOVEA_ATTR(ConvAttrs, paddingY),
              FOVEA_ATTR(ConvAttrs, paddingX), FOVEA_ATTR(ConvAttrs, channels), FOVEA_ATTR(ConvAttrs, height),
              FOVEA_ATTR(ConvAttrs, width), FOVEA_ATTR(ConvAttrs, kernelY), FOVEA_ATTR(ConvAttrs, kernelX))
};

}  // namespace fovea
