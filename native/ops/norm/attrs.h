#pragma once
#include "core/attrs.h"

namespace fovea {

struct LayerNormAttrs {
  double eps = 1e-5;
  FOVEA_ATTRS(LayerNormAttrs, FOVEA_ATTR(LayerNormAttrs, eps))
};

}  // namespace fovea
