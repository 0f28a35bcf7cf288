// What is sorted on the device: bits of elements, whose order is that of unsigned keys, and items, which are keys with
// the place they come from.
#pragma once
#include "cuda/carver.h"
#include "cuda/index.h"

namespace fovea::cuda {

// NaN is above everything, -0 equal to +0, and all bits are inverted where the largest come first (as in cpu.cc). The
// default is the order of unsigned integers.
template <class Raw>
struct SortOrder {
  Raw infinity = 0;  // its bits, for floats; 0 for integers
  Raw toggle = 0;    // the sign bit, for signed integers
  Raw flip = 0;      // all ones where the largest come first
  static constexpr Raw kSign = Raw(Raw(1) << (8 * sizeof(Raw) - 1)), kLast = Raw(~Raw(0));

  __device__ Raw key(Raw bits) const {
    if (infinity == 0) return Raw(bits ^ toggle ^ flip);
    Raw magnitude = Raw(bits & Raw(~kSign));
    Raw key = bits & kSign ? Raw(~bits) : Raw(bits | kSign);
    if (magnitude == 0) key = kSign;
    if (magnitude > infinity) key = kLast;
    return Raw(key ^ flip);
  }
};
template <class Raw>
SortOrder<Raw> order_of(Dtype dtype, bool largest_first) {
  SortOrder<Raw> order;
  if (dtype == Dtype::f64) order.infinity = Raw(0x7ff0000000000000u);
  else if (dtype == Dtype::f32) order.infinity = Raw(0x7f800000u);
  else if (dtype == Dtype::f16) order.infinity = Raw(0x7c00u);
  else if (dtype == Dtype::bf16) order.infinity = Raw(0x7f80u);
  else if (dtype != Dtype::u8 && dtype != Dtype::boolean) order.toggle = SortOrder<Raw>::kSign;
  if (largest_first) order.flip = SortOrder<Raw>::kLast;
  return order;
}
// Elements only move, so kernels take them as integers of their width.
template <class Body>
void dispatch_raw(Dtype dtype, Body&& body) {
  switch (kDtypeBytes[int(dtype)]) {
    case 1: return body(uint8_t{});
    case 2: return body(uint16_t{});
    case 4: return body(uint32_t{});
    default: return body(uint64_t{});
  }
}

// A key and, in the low 32 bits, a place: no two items are equal, and sorting them is stable.
template <class Raw>
using SortItem = std::conditional_t<sizeof(Raw) == 8, unsigned __int128, uint64_t>;
template <class Raw>
__device__ SortItem<Raw> item_of(Raw key, uint32_t place) {
  return SortItem<Raw>(key) << 32 | place;
}

// Rows to sort.
template <class Raw>
struct SortInput {
  const Raw* items;
  Layout<1> rows;  // where they start
  int64_t n, stride;
  const int64_t* positions = nullptr;  // of a dense [rows, n] array; without them, an item's position is its place

  __device__ const Raw* row(int64_t number) const {
    int64_t at[1];
    rows.offsets(number, at);
    return items + at[0];
  }
  __device__ int64_t position(int64_t row_number, int64_t place) const {
    return positions ? positions[row_number * n + place] : place;
  }
};
// The first `count` of each row, once sorted, and where they were; dense.
template <class Raw>
struct SortOutput {
  Raw* items;
  int64_t* positions;
  int64_t count;
};

// What sorting long rows needs beside its result.
template <class Raw>
struct SortScratch {
  SortOutput<Raw> even{}, odd{};  // where an even number of passes is still to come, and an odd one
  int64_t *counts = nullptr, *totals = nullptr;
};

template <class Raw>
SortInput<Raw> rows_to_sort(const View& x) {
  View starts = x;
  starts.rank--;
  return {x.as<Raw>(), layout_of(starts), x.dim(-1), x.stride(-1)};
}
template <class Raw>
SortInput<Raw> dense_rows(const Raw* items, const int64_t* positions, int64_t rows, int64_t n) {
  Layout<1> starts;
  starts.rank = 1, starts.size = starts.shape[0] = rows, starts.strides[0][0] = n;
  return {items, starts, n, 1, positions};
}

}  // namespace fovea::cuda
