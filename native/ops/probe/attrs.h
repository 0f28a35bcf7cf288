#pragma once
#include "core/attrs.h"

namespace fovea {

struct ProbeAttrs {
  int64_t rounds = 1, chunks = 1;
  FOVEA_ATTRS(ProbeAttrs, FOVEA_ATTR(ProbeAttrs, rounds), FOVEA_ATTR(ProbeAttrs, chunks))
};

}  // namespace fovea
