// Where the elements of views of any strides lie, for kernels with many elements and little to compute on each: 32-bit
// arithmetic without divisions. Views of 2^31 elements and more are cut into parts on the host.
#pragma once
#include <algorithm>
#include <array>

#include "cuda/index.h"

namespace fovea::cuda {
namespace {

// Divides whole numbers below 2^31: floor(n / d) = floor(n (2^32 + m) / 2^(32 + s)) with s = ceil(log2 d) and
// m = floor(2^32 (2^s - d) / d) + 1 (Granlund and Montgomery 1994, "Division by invariant integers").
struct Divisor {
  uint32_t divisor, multiplier, shift;
  __host__ __device__ Divisor() {}
  explicit Divisor(int64_t d) : divisor(uint32_t(d)), shift(0) {
    while ((int64_t(1) << shift) < d) shift++;
    multiplier = uint32_t((uint64_t((int64_t(1) << shift) - d) << 32) / uint64_t(d) + 1);
  }
  __device__ uint32_t divide(uint32_t n) const { return (__umulhi(n, multiplier) + n) >> shift; }
};

constexpr int64_t kNarrow = int64_t(1) << 31;  // numbers of elements are below it, but for views of one axis

// A layout of fewer than kNarrow elements, or of one axis.
template <int kViews>
struct Places : Layout<kViews> {
  Divisor by[kMaxRank];
  explicit Places(const Layout<kViews>& layout) : Layout<kViews>(layout) {
    for (int d = 1; d < this->rank; d++) by[d] = Divisor(this->shape[d]);
  }
  __device__ __forceinline__ void find(int64_t i, int64_t (&at)[kViews]) const {
    for (int v = 0; v < kViews; v++) at[v] = 0;
    if (this->rank > 1) {
      uint32_t rest = uint32_t(i);
#pragma unroll 1
      for (int d = this->rank - 1; d > 0; d--) {
        uint32_t above = by[d].divide(rest), index = rest - above * by[d].divisor;
        for (int v = 0; v < kViews; v++) at[v] += index * this->strides[v][d];
        rest = above;
      }
      i = rest;
    }
    if (this->rank > 0)
      for (int v = 0; v < kViews; v++) at[v] += i * this->strides[v][0];
  }
};

// Orders the axes of all views as they lie in the first, which is written: the nearest neighbours last.
template <size_t kViews>
void sort_axes(std::array<View, kViews>& views) {
  for (int i = 1; i < views[0].rank; i++)
    for (int d = i; d > 0 && views[0].strides[d - 1] < views[0].strides[d]; d--)
      for (View& v : views) std::swap(v.strides[d - 1], v.strides[d]), std::swap(v.shape[d - 1], v.shape[d]);
}
template <size_t kViews>
Layout<int(kViews)> layout_of_all(const std::array<View, kViews>& views) {
  return std::apply([](const auto&... each) { return layout_of(each...); }, views);
}

// body(layout, offsets of its first element) for parts that Places can take.
template <int kViews, class Body>
void each_narrow_part(Layout<kViews> layout, std::array<int64_t, size_t(kViews)> first, const Body& body) {
  if (layout.rank <= 1 || layout.size < kNarrow) return body(layout, first);
  const int64_t whole = layout.shape[0], inner = layout.size / whole, step = max_of(1, (kNarrow - 1) / inner);
  for (int64_t begin = 0; begin < whole; begin += step) {
    Layout<kViews> part = layout;
    part.shape[0] = min_of(step, whole - begin), part.size = part.shape[0] * inner;
    if (part.shape[0] == 1) {
      part.rank--;
      std::copy(layout.shape + 1, layout.shape + layout.rank, part.shape);
      for (int v = 0; v < kViews; v++)
        std::copy(layout.strides[v] + 1, layout.strides[v] + layout.rank, part.strides[v]);
    }
    each_narrow_part(part, first, body);
    for (int v = 0; v < kViews; v++) first[size_t(v)] += step * layout.strides[v][0];
  }
}

}  // namespace
}  // namespace fovea::cuda
