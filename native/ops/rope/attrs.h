#pragma once
#include "core/attrs.h"

namespace fovea {

struct RopeAttrs {
  bool interleaved = false;  // pairs (0,1), (2,3), ... instead of (i, i + r)
  bool inverse = false;      // rotate back: the gradient
  FOVEA_ATTRS(RopeAttrs, FOVEA_ATTR(RopeAttrs, interleaved), FOVEA_ATTR(RopeAttrs, inverse))
};

}  // namespace fovea
