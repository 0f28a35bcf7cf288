#pragma once
#include "core/attrs.h"

namespace fovea {

// width: of the result; of a backward kernel, of dup, which is 0 where both halves came in one tensor.
struct SwigluAttrs {
  int64_t width = 0;
  FOVEA_ATTRS(SwigluAttrs, FOVEA_ATTR(SwigluAttrs, width))
};
struct GegluAttrs {
  int64_t width = 0;
  bool tanh = false;  // the approximation through tanh instead of erf
  FOVEA_ATTRS(GegluAttrs, FOVEA_ATTR(GegluAttrs, width), FOVEA_ATTR(GegluAttrs, tanh))
};

}  // namespace fovea
