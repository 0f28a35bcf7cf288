// What kernels over groups of unequal sizes share, whose sizes are in a tensor of integers.
#pragma once
#include "core/view.h"

namespace fovea {

// An element of a tensor of integers of any type, at an offset in elements.
FOVEA_INLINE int64_t integer_at(const std::byte* data, Dtype dtype, int64_t offset) {
  switch (dtype) {
    case Dtype::i32: return reinterpret_cast<const int32_t*>(data)[offset];
    case Dtype::u8: return reinterpret_cast<const uint8_t*>(data)[offset];
    case Dtype::i8: return reinterpret_cast<const int8_t*>(data)[offset];
    default: return reinterpret_cast<const int64_t*>(data)[offset];
  }
}
FOVEA_INLINE int64_t integer_at(const View& v, int64_t offset) { return integer_at(v.data, v.dtype, offset); }

// Which of groups [low, high) has element `at`: begin[low] <= at < begin[high], and group g has those from begin[g] to
// begin[g + 1].
FOVEA_INLINE int64_t group_of(const int64_t* begin, int64_t low, int64_t high, int64_t at) {
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (begin[middle] <= at ? low : high) = middle;
  }
  return low;
}

}  // namespace fovea
