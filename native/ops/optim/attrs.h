#pragma once
#include "core/attrs.h"

namespace fovea {

// maximize: the gradient is negated. decoupled: weight decay acts on the parameter; else it is added to the gradient.
struct AdamwAttrs {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01;
  int64_t step = 1;
  bool decoupled = true, amsgrad = false, maximize = false;
  FOVEA_ATTRS(AdamwAttrs, FOVEA_ATTR(AdamwAttrs, lr), FOVEA_ATTR(AdamwAttrs, beta1), FOVEA_ATTR(AdamwAttrs, beta2),
              FOVEA_ATTR(AdamwAttrs, eps), FOVEA_ATTR(AdamwAttrs, weightDecay), FOVEA_ATTR(AdamwAttrs, step),
              FOVEA_ATTR(AdamwAttrs, decoupled), FOVEA_ATTR(AdamwAttrs, amsgrad), FOVEA_ATTR(AdamwAttrs, maximize))
};
struct RadamAttrs {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0;
  int64_t step = 1;
  bool decoupled = false, maximize = false;
  FOVEA_ATTRS(RadamAttrs, FOVEA_ATTR(RadamAttrs, lr), FOVEA_ATTR(RadamAttrs, beta1), FOVEA_ATTR(RadamAttrs, beta2),
              FOVEA_ATTR(RadamAttrs, eps), FOVEA_ATTR(RadamAttrs, weightDecay), FOVEA_ATTR(RadamAttrs, step),
              FOVEA_ATTR(RadamAttrs, decoupled), FOVEA_ATTR(RadamAttrs, maximize))
};
// The rates of the gradient and of its average follow from the momentum's schedule, which is the caller's.
struct NadamAttrs {
  double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0, gradientRate = 0, momentRate = 0;
  int64_t step = 1;
  bool decoupled = false, maximize = false;
  FOVEA_ATTRS(NadamAttrs, FOVEA_ATTR(NadamAttrs, lr), FOVEA_ATTR(NadamAttrs, beta1), FOVEA_ATTR(NadamAttrs, beta2),
              FOVEA_ATTR(NadamAttrs, eps), FOVEA_ATTR(NadamAttrs, weightDecay), FOVEA_ATTR(NadamAttrs, gradientRate),
              FOVEA_ATTR(NadamAttrs, momentRate), FOVEA_ATTR(NadamAttrs, step), FOVEA_ATTR(NadamAttrs, decoupled),
              FOVEA_ATTR(NadamAttrs, maximize))
};
struct AdagradAttrs {
  double lr = 1e-2, eps = 1e-10, weightDecay = 0;
  bool maximize = false;
  FOVEA_ATTRS(AdagradAttrs, FOVEA_ATTR(AdagradAttrs, lr), FOVEA_ATTR(AdagradAttrs, eps),
              FOVEA_ATTR(AdagradAttrs, weightDecay), FOVEA_ATTR(AdagradAttrs, maximize))
};
struct RmspropAttrs {
  double lr = 1e-2, alpha = 0.99, eps = 1e-8, weightDecay = 0, momentum = 0;
  bool centered = false, maximize = false;
  FOVEA_ATTRS(RmspropAttrs, FOVEA_ATTR(RmspropAttrs, lr), FOVEA_ATTR(RmspropAttrs, alpha),
              FOVEA_ATTR(RmspropAttrs, eps), FOVEA_ATTR(RmspropAttrs, weightDecay), FOVEA_ATTR(RmspropAttrs, momentum),
              FOVEA_ATTR(RmspropAttrs, centered), FOVEA_ATTR(RmspropAttrs, maximize))
};
struct LionAttrs {
  double lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weightDecay = 0;
  int64_t step = 1;  // for how compact states are rounded
  bool maximize = false;
  FOVEA_ATTRS(LionAttrs, FOVEA_ATTR(LionAttrs, lr), FOVEA_ATTR(LionAttrs, beta1), FOVEA_ATTR(LionAttrs, beta2),
              FOVEA_ATTR(LionAttrs, weightDecay), FOVEA_ATTR(LionAttrs, step), FOVEA_ATTR(LionAttrs, maximize))
};
struct SophiaAttrs {
  double lr = 1e-4, beta1 = 0.965, gamma = 0.05, eps = 1e-12, weightDecay = 0.1;
  FOVEA_ATTRS(SophiaAttrs, FOVEA_ATTR(SophiaAttrs, lr), FOVEA_ATTR(SophiaAttrs, beta1), FOVEA_ATTR(SophiaAttrs, gamma),
              FOVEA_ATTR(SophiaAttrs, eps), FOVEA_ATTR(SophiaAttrs, weightDecay))
};
struct SgdAttrs {
  double lr = 1e-3, momentum = 0, dampening = 0, weightDecay = 0;
  bool nesterov = false, first = false, maximize = false;  // first: the buffer starts as the gradient itself
  FOVEA_ATTRS(SgdAttrs, FOVEA_ATTR(SgdAttrs, lr), FOVEA_ATTR(SgdAttrs, momentum), FOVEA_ATTR(SgdAttrs, dampening),
              FOVEA_ATTR(SgdAttrs, weightDecay), FOVEA_ATTR(SgdAttrs, nesterov), FOVEA_ATTR(SgdAttrs, first),
              FOVEA_ATTR(SgdAttrs, maximize))
};
// eps1 below 0: the distance of 1 and the next number of the parameter's dtype.
struct AdafactorAttrs {
  double lr = 1e-2, beta2Decay = -0.8, eps1 = -1, eps2 = 1e-3, d = 1, weightDecay = 0;
  int64_t step = 1;
  bool maximize = false;
  FOVEA_ATTRS(AdafactorAttrs, FOVEA_ATTR(AdafactorAttrs, lr), FOVEA_ATTR(AdafactorAttrs, beta2Decay),
              FOVEA_ATTR(AdafactorAttrs, eps1), FOVEA_ATTR(AdafactorAttrs, eps2), FOVEA_ATTR(AdafactorAttrs, d),
              FOVEA_ATTR(AdafactorAttrs, weightDecay), FOVEA_ATTR(AdafactorAttrs, step),
              FOVEA_ATTR(AdafactorAttrs, maximize))
};
struct ClipAttrs {
  double maxNorm = 1;
  FOVEA_ATTRS(ClipAttrs, FOVEA_ATTR(ClipAttrs, maxNorm))
};

}  // namespace fovea
