#pragma once
#include "core/attrs.h"

namespace fovea {

// A quantised matrix [n, k], by its type (QuantType in layout.h); `size` is the output's, where that is one of bytes.
struct QuantizedAttrs {
  int64_t type = 0, n = 0, k = 0, size = 0;
  FOVEA_ATTRS(QuantizedAttrs, FOVEA_ATTR(QuantizedAttrs, type), FOVEA_ATTR(QuantizedAttrs, n),
              FOVEA_ATTR(QuantizedAttrs, k), FOVEA_ATTR(QuantizedAttrs, size))
};
struct DequantizeAttrs {
  int64_t type = 0, n = 0, k = 0;
  Dtype dtype = Dtype::f32;
  FOVEA_ATTRS(DequantizeAttrs, FOVEA_ATTR(DequantizeAttrs, type), FOVEA_ATTR(DequantizeAttrs, n),
              FOVEA_ATTR(DequantizeAttrs, k), FOVEA_ATTR(DequantizeAttrs, dtype))
};

}  // namespace fovea
