#pragma once
#include "core/attrs.h"

namespace fovea {

struct SortAttrs {
  bool descending = false;
  FOVEA_ATTRS(SortAttrs, FOVEA_ATTR(SortAttrs, descending))
};
struct TopkAttrs {
  int64_t k = 1;
  bool largest = true;
  FOVEA_ATTRS(TopkAttrs, FOVEA_ATTR(TopkAttrs, k), FOVEA_ATTR(TopkAttrs, largest))
};

}  // namespace fovea
