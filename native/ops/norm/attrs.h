#pragma once
#include "core/attrs.h"

namespace fovea {

struct LayerNormAttrs {
  double eps = 1e-5;
  FOVEA_ATTRS(LayerNormAttrs, FOVEA_ATTR(LayerNormAttrs, eps))
};

// Groups of an image's channels share a mean, or a channel's elements of all images where `groups` is 0. `rows`: how
// many means the forward kernel gives.
struct ChannelNormAttrs {
  double eps = 1e-5;
  int64_t groups = 0, rows = 0;
  FOVEA_ATTRS(ChannelNormAttrs, FOVEA_ATTR(ChannelNormAttrs, eps), FOVEA_ATTR(ChannelNormAttrs, groups),
              FOVEA_ATTR(ChannelNormAttrs, rows))
};

}  // namespace fovea
