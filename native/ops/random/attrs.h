#pragma once
#include "core/attrs.h"

namespace fovea {

// seed and offset are whole numbers up to 2^53; the Generator reserves ceil(n / 4) blocks from `offset` on.
struct UniformAttrs {
  int64_t seed = 0, offset = 0;
  double low = 0, high = 1;
  FOVEA_ATTRS(UniformAttrs, FOVEA_ATTR(UniformAttrs, seed), FOVEA_ATTR(UniformAttrs, offset),
              FOVEA_ATTR(UniformAttrs, low), FOVEA_ATTR(UniformAttrs, high))
};
struct NormalAttrs {
  int64_t seed = 0, offset = 0;
  double mean = 0, std = 1;
  FOVEA_ATTRS(NormalAttrs, FOVEA_ATTR(NormalAttrs, seed), FOVEA_ATTR(NormalAttrs, offset),
              FOVEA_ATTR(NormalAttrs, mean), FOVEA_ATTR(NormalAttrs, std))
};
struct RandintAttrs {
  int64_t seed = 0, offset = 0, low = 0, high = 1;
  FOVEA_ATTRS(RandintAttrs, FOVEA_ATTR(RandintAttrs, seed), FOVEA_ATTR(RandintAttrs, offset),
              FOVEA_ATTR(RandintAttrs, low), FOVEA_ATTR(RandintAttrs, high))
};
struct DropoutAttrs {
  double p = 0.5;
  int64_t seed = 0, offset = 0;
  FOVEA_ATTRS(DropoutAttrs, FOVEA_ATTR(DropoutAttrs, p), FOVEA_ATTR(DropoutAttrs, seed),
              FOVEA_ATTR(DropoutAttrs, offset))
};
struct MultinomialAttrs {
  int64_t numSamples = 1;
  bool replacement = false;
  int64_t seed = 0, offset = 0;
  FOVEA_ATTRS(MultinomialAttrs, FOVEA_ATTR(MultinomialAttrs, numSamples), FOVEA_ATTR(MultinomialAttrs, replacement),
              FOVEA_ATTR(MultinomialAttrs, seed), FOVEA_ATTR(MultinomialAttrs, offset))
};

}  // namespace fovea
