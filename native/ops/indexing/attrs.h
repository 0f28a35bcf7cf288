#pragma once
#include "core/attrs.h"

namespace fovea {

struct RowsAttrs {
  int64_t rows = 0;           // of the table
  int64_t paddingIndex = -1;  // its row gets no gradient; -1: none
  FOVEA_ATTRS(RowsAttrs, FOVEA_ATTR(RowsAttrs, rows), FOVEA_ATTR(RowsAttrs, paddingIndex))
};
struct NonzeroAttrs {
  int64_t count = 0, rank = 0;
  FOVEA_ATTRS(NonzeroAttrs, FOVEA_ATTR(NonzeroAttrs, count), FOVEA_ATTR(NonzeroAttrs, rank))
};

}  // namespace fovea
