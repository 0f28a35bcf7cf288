#pragma once
#include "core/attrs.h"

namespace fovea {

struct FillAttrs {
  double value = 0;
  FOVEA_ATTRS(FillAttrs, FOVEA_ATTR(FillAttrs, value))
};
struct ArangeAttrs {
  double start = 0, step = 1;
  FOVEA_ATTRS(ArangeAttrs, FOVEA_ATTR(ArangeAttrs, start), FOVEA_ATTR(ArangeAttrs, step))
};

}  // namespace fovea
