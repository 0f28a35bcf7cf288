#pragma once
#include "core/attrs.h"

namespace fovea {

struct VarianceAttrs {
  double correction = 1;  // divide by n - correction
  FOVEA_ATTRS(VarianceAttrs, FOVEA_ATTR(VarianceAttrs, correction))
};
struct NormAttrs {
  double p = 2;  // (sum |x|^p)^(1/p); infinity: max |x|
  FOVEA_ATTRS(NormAttrs, FOVEA_ATTR(NormAttrs, p))
};

}  // namespace fovea
