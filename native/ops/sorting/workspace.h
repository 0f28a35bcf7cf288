#pragma once
#include "core/dtype.h"
#include "core/kernel.h"

namespace fovea {

// What is sorted: a key and the position it came from.
struct NarrowItem {
  uint32_t key, position;
};
struct WideItem {
  uint64_t key, position;
};
FOVEA_INLINE bool sorts_narrow(Dtype t, int64_t n) { return bytes_of(t) < 8 && n <= int64_t(UINT32_MAX); }

// topk collects candidates, and keeps the best k whenever there are this many.
FOVEA_INLINE int64_t topk_candidates(int64_t k) { return k + (k > 128 ? k : 128); }

// Every thread has two arrays of items.
size_t sort_workspace(Views in, Views out, const void* attrs, int threads);
size_t topk_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
