#pragma once
#include "core/attrs.h"

namespace fovea {

struct CrossEntropyAttrs {
  int64_t ignoreIndex = -100;
  double labelSmoothing = 0;
  FOVEA_ATTRS(CrossEntropyAttrs, FOVEA_ATTR(CrossEntropyAttrs, ignoreIndex),
              FOVEA_ATTR(CrossEntropyAttrs, labelSmoothing))
};

}  // namespace fovea
