// Which views share memory: what an op that writes in place must know of its inputs.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/view.h"

namespace fovea {

// Addresses [low, high) that a view can touch.
struct Extent {
  const std::byte *low = nullptr, *high = nullptr;
  bool overlaps(const Extent& other) const { return low < other.high && other.low < high; }
};

inline Extent extent_of(const View& v) {
  int64_t low = 0, high = 1, width = int64_t(bytes_of(v.dtype));
  for (int i = 0; i < v.rank; i++) {
    if (v.shape[i] == 0) return {v.data, v.data};
    (v.strides[i] < 0 ? low : high) += (v.shape[i] - 1) * v.strides[i];
  }
  return {v.data + low * width, v.data + high * width};
}

inline bool same_window(const View& a, const View& b) {
  return a.data == b.data && a.dtype == b.dtype && a.rank == b.rank && std::equal(a.shape, a.shape + a.rank, b.shape) &&
         std::equal(a.strides, a.strides + a.rank, b.strides);
}

// Whether two indices may name the same element: false when the axes, ordered by stride, nest without reaching into
// each other, as in every slice, transposition and reshape of a dense tensor.
inline bool may_repeat(const View& v) {
  int64_t stride[kMaxRank], size[kMaxRank];
  int axes = 0;
  for (int i = 0; i < v.rank; i++) {
    if (v.shape[i] == 0) return false;
    if (v.shape[i] == 1) continue;
    int at = axes++;
    int64_t step = v.strides[i] < 0 ? -v.strides[i] : v.strides[i];
    for (; at > 0 && stride[at - 1] > step; at--) stride[at] = stride[at - 1], size[at] = size[at - 1];
    stride[at] = step, size[at] = v.shape[i];
  }
  int64_t reach = 0;
  for (int i = 0; i < axes; i++) {
    if (stride[i] <= reach) return true;
    reach += (size[i] - 1) * stride[i];
  }
  return false;
}

}  // namespace fovea
