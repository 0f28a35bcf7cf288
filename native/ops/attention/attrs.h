#pragma once
#include "core/attrs.h"

namespace fovea {

struct AttentionAttrs {
  double scale = 1;
  int64_t causal = 0;            // 0: no; 1: key j <= query i (top left); 2: j <= i + m - n (bottom right)
  double dropoutP = 0;           // of the probabilities; the kept ones are divided by 1 - p
  int64_t seed = 0, offset = 0;  // Philox, element ((b h + hi) n + i) m + j
  FOVEA_ATTRS(AttentionAttrs, FOVEA_ATTR(AttentionAttrs, scale), FOVEA_ATTR(AttentionAttrs, causal),
              FOVEA_ATTR(AttentionAttrs, dropoutP), FOVEA_ATTR(AttentionAttrs, seed),
              FOVEA_ATTR(AttentionAttrs, offset))
};

}  // namespace fovea
