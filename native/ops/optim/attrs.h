#pragma once
#include "core/attrs.h"

namespace fovea {

struct AdamwAttrs {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01;
  int64_t step = 1;
  bool decoupled = true;  // AdamW; false: Adam, which adds weightDecay p to the gradient
  FOVEA_ATTRS(AdamwAttrs, FOVEA_ATTR(AdamwAttrs, lr), FOVEA_ATTR(AdamwAttrs, beta1), FOVEA_ATTR(AdamwAttrs, beta2),
              FOVEA_ATTR(AdamwAttrs, eps), FOVEA_ATTR(AdamwAttrs, weightDecay), FOVEA_ATTR(AdamwAttrs, step),
              FOVEA_ATTR(AdamwAttrs, decoupled))
};
struct SgdAttrs {
  double lr = 1e-3, momentum = 0, dampening = 0, weightDecay = 0;
  bool nesterov = false, first = false;  // first: the buffer starts as the gradient itself
  FOVEA_ATTRS(SgdAttrs, FOVEA_ATTR(SgdAttrs, lr), FOVEA_ATTR(SgdAttrs, momentum), FOVEA_ATTR(SgdAttrs, dampening),
              FOVEA_ATTR(SgdAttrs, weightDecay), FOVEA_ATTR(SgdAttrs, nesterov), FOVEA_ATTR(SgdAttrs, first))
};
struct ClipAttrs {
  double maxNorm = 1;
  FOVEA_ATTRS(ClipAttrs, FOVEA_ATTR(ClipAttrs, maxNorm))
};

}  // namespace fovea
