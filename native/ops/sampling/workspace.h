#pragma once
#include "core/arithmetic.h"
#include "ops/sampling/attrs.h"
#include "ops/sorting/workspace.h"

namespace fovea {

// Where the parts of a thread's workspace lie, in bytes: the scaled logits of a row, the weights of what may be drawn,
// and the items of its selection.
struct SampleScratch {
  int64_t limit, weights, items, bytes;  // limit: how many may be drawn at most
  FOVEA_INLINE SampleScratch(int64_t n, const SampleAttrs& a)
      : limit(a.topK > 0 ? min_of(a.topK, n) : n),
        weights(round_up(4 * n, 64)),
        items(weights + round_up(4 * limit, 64)),
        bytes(items + round_up(2 * topk_candidates(limit) * int64_t(sizeof(NarrowItem)), 64)) {}
};

}  // namespace fovea
