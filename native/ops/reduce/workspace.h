#pragma once
#include "core/kernel.h"

namespace fovea {

// With few results and much to reduce, every result is computed in up to kReducePieces pieces, so that all threads have
// work; how many depends on the shape alone. The workspace holds the pieces' results and those of two stages.
constexpr int64_t kReducePieces = 16, kSplitOutputs = 8192, kSplitElements = 131072;
FOVEA_INLINE bool reduce_may_split(int64_t outputs, int64_t elements) {
  return outputs <= kSplitOutputs && elements >= kSplitElements;
}
size_t reduce_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
