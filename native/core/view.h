// A view: typed, strided window into a block of memory. The only tensor that a kernel ever sees.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace fovea {

constexpr int kMaxRank = 8;

struct Block;  // memory with its bookkeeping, see allocator.h

struct View {
  std::byte* data = nullptr;  // the first element
  Block* block = nullptr;     // nullptr: an optional input that was not given
  int32_t rank = 0;
  Dtype dtype = Dtype::f32;
  uint8_t grows = 0;    // while a step is recorded: 1 + the axis whose length replays give
  uint16_t window = 0;  // and which of their windows this is (binding/windows.h)
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];  // in elements; 0 where the view repeats along an axis; negative only inside an op

  FOVEA_INLINE bool present() const { return block != nullptr; }
  template <class T>
  FOVEA_INLINE T* as() const {
    return reinterpret_cast<T*>(data);
  }
  // Wraps beyond 2^63: an empty tensor may have any axes besides the empty one, and what is larger than memory is
  // refused by those who allocate it.
  static FOVEA_INLINE int64_t product(int64_t a, int64_t b) { return int64_t(uint64_t(a) * uint64_t(b)); }
  FOVEA_INLINE int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n = product(n, shape[i]);
    return n;
  }
  FOVEA_INLINE int64_t dim(int i) const { return shape[i < 0 ? rank + i : i]; }
  FOVEA_INLINE int64_t stride(int i) const { return strides[i < 0 ? rank + i : i]; }
  // Axes [from, rank) are dense and row-major.
  FOVEA_INLINE bool contiguous(int from = 0) const {
    int64_t expected = 1;
    for (int i = rank - 1; i >= from; i--) {
      if (shape[i] != 1 && strides[i] != expected) return false;
      expected = product(expected, shape[i]);
    }
    return true;
  }
  FOVEA_INLINE void make_contiguous_strides() {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) strides[i] = step, step = product(step, shape[i]);
  }
};

}  // namespace fovea
