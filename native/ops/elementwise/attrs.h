#pragma once
#include "core/attrs.h"

namespace fovea {

// A number in place of the second operand (or of the first): it takes the tensor's dtype.
struct ScalarAttrs {
  double scalar = 0;
  bool scalarFirst = false;
  FOVEA_ATTRS(ScalarAttrs, FOVEA_ATTR(ScalarAttrs, scalar), FOVEA_ATTR(ScalarAttrs, scalarFirst))
};
struct WhereAttrs {
  double scalarA = 0, scalarB = 0;  // stand for a and b where they are left out
  FOVEA_ATTRS(WhereAttrs, FOVEA_ATTR(WhereAttrs, scalarA), FOVEA_ATTR(WhereAttrs, scalarB))
};
struct ClampAttrs {
  double min = -__builtin_inf(), max = __builtin_inf();
  FOVEA_ATTRS(ClampAttrs, FOVEA_ATTR(ClampAttrs, min), FOVEA_ATTR(ClampAttrs, max))
};
struct SoftplusAttrs {
  double beta = 1, threshold = 20;
  FOVEA_ATTRS(SoftplusAttrs, FOVEA_ATTR(SoftplusAttrs, beta), FOVEA_ATTR(SoftplusAttrs, threshold))
};
struct CastAttrs {
  Dtype dtype = Dtype::f32;
  FOVEA_ATTRS(CastAttrs, FOVEA_ATTR(CastAttrs, dtype))
};
struct TriangleAttrs {
  int64_t diagonal = 0;
  bool upper = false;
  FOVEA_ATTRS(TriangleAttrs, FOVEA_ATTR(TriangleAttrs, diagonal), FOVEA_ATTR(TriangleAttrs, upper))
};

}  // namespace fovea
