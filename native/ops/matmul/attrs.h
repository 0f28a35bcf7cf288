#pragma once
#include "core/attrs.h"

namespace fovea {

struct MatmulAttrs {
  double alpha = 1, beta = 1;  // c = alpha a b + beta bias
  FOVEA_ATTRS(MatmulAttrs, FOVEA_ATTR(MatmulAttrs, alpha), FOVEA_ATTR(MatmulAttrs, beta))
};

}  // namespace fovea
