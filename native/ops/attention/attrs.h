#pragma once
#include "core/attrs.h"

namespace fovea {

struct AttentionAttrs {
  double scale = 1;
  int64_t causal = 0;            // 0: no; 1: key j <= query i (top left); 2: j <= i + m - n (bottom right)
  bool maskInPattern = false;    // the pattern reads the mask, which then means nothing by itself
  double softcap = 0;            // scores become softcap tanh(score / softcap), before the biases; 0: they stay
  int64_t distanceZero = 0;      // place of distance 0 in the bias by distance
  bool distanceAligned = false;  // query i is at key i + m - n, else at key i
  double dropoutP = 0;           // of the probabilities; the kept ones are divided by 1 - p
  int64_t seed = 0, offset = 0;  // Philox, element ((b h + hi) n + i) m + j
  FOVEA_ATTRS(AttentionAttrs, FOVEA_ATTR(AttentionAttrs, scale), FOVEA_ATTR(AttentionAttrs, causal),
              FOVEA_ATTR(AttentionAttrs, maskInPattern), FOVEA_ATTR(AttentionAttrs, softcap),
              FOVEA_ATTR(AttentionAttrs, distanceZero), FOVEA_ATTR(AttentionAttrs, distanceAligned),
              FOVEA_ATTR(AttentionAttrs, dropoutP), FOVEA_ATTR(AttentionAttrs, seed),
              FOVEA_ATTR(AttentionAttrs, offset))
};

struct PagedAttentionAttrs {
  double scale = 1;
  double softcap = 0;  // as above
  FOVEA_ATTRS(PagedAttentionAttrs, FOVEA_ATTR(PagedAttentionAttrs, scale), FOVEA_ATTR(PagedAttentionAttrs, softcap))
};

struct VisibleAttrs {
  int64_t batch = 1, heads = 1;
  int64_t rows = 0, first = 0;  // queries [first, first + rows)
  int64_t queries = 0;          // of this many, which with the keys says how positions are aligned at the bottom right
  int64_t keys = 0;
  FOVEA_ATTRS(VisibleAttrs, FOVEA_ATTR(VisibleAttrs, batch), FOVEA_ATTR(VisibleAttrs, heads),
              FOVEA_ATTR(VisibleAttrs, rows), FOVEA_ATTR(VisibleAttrs, first), FOVEA_ATTR(VisibleAttrs, queries),
              FOVEA_ATTR(VisibleAttrs, keys))
};

}  // namespace fovea
