#pragma once
#include "core/attrs.h"

namespace fovea {

struct ThrowAttrs {
  bool inChunk = false;
  FOVEA_ATTRS(ThrowAttrs, FOVEA_ATTR(ThrowAttrs, inChunk))
};
struct BusyAttrs {
  double milliseconds = 1;
  bool overrun = false;  // writes one element too far: proves that the sanitizer build sees blocks
  FOVEA_ATTRS(BusyAttrs, FOVEA_ATTR(BusyAttrs, milliseconds), FOVEA_ATTR(BusyAttrs, overrun))
};

}  // namespace fovea
