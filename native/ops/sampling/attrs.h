#pragma once
#include "core/attrs.h"

namespace fovea {

// topK 0, topP 1 and minP 0 limit nothing. seed and offset: as in ops/random.
struct SampleAttrs {
  double temperature = 1, topP = 1, minP = 0;
  int64_t topK = 0, seed = 0, offset = 0;
  FOVEA_ATTRS(SampleAttrs, FOVEA_ATTR(SampleAttrs, temperature), FOVEA_ATTR(SampleAttrs, topP),
              FOVEA_ATTR(SampleAttrs, minP), FOVEA_ATTR(SampleAttrs, topK), FOVEA_ATTR(SampleAttrs, seed),
              FOVEA_ATTR(SampleAttrs, offset))
};

}  // namespace fovea
