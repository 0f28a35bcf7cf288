// How attention of a few queries over many keys is cut, and where its partial results lie: by shape and device only, so
// that the workspace and the launch agree.
#pragma once
#include "ops/attention/cuda_problem.h"

namespace fovea::cuda {

constexpr int64_t kDecodeQueries = 8, kDecodeWidth = 256;

struct DecodePlan {
  int64_t rows;        // queries that share a key head
  int64_t rows_each;   // of them, per block
  int64_t row_blocks;  // per key head
  int64_t splits;      // of the keys
  int64_t keys;        // per split

  DecodePlan(const AttentionProblem& p, Dtype dtype, const DeviceLimits& device) {
    constexpr int64_t kLeastKeys = 256, kMostSplits = 128, kBlocksEach = 4;
    rows = p.group * p.n;
    rows_each = min_of(rows > 2 ? (rows > 4 ? 8 : 4) : max_of(rows, 1), dtype == Dtype::f64 ? 2 : 8);
    row_blocks = ceil_div(rows, rows_each);
    const int64_t blocks = max_of(1, p.b * p.g * row_blocks), wanted = kBlocksEach * device.multiprocessors;
    splits = clamp_to(min_of(ceil_div(wanted, blocks), p.m / kLeastKeys), 1, kMostSplits);
    keys = ceil_div(p.m, splits);
  }
  // Of the results that are combined: o, then top and total for each row and split.
  int64_t partial_elements(const AttentionProblem& p) const {
    return splits > 1 ? p.b * p.h * p.n * splits * (p.e + 2) : 0;
  }
};

// Whether decoding takes the problem: rows of keys and values that are loaded 16 bytes at a time, of one width.
inline bool suits_decoding(const AttentionProblem& p, Dtype dtype) {
  const size_t bytes = kDtypeBytes[int(dtype)];
  return p.n <= kDecodeQueries && p.d == p.e && p.d > 0 && p.d % 8 == 0 && p.d <= kDecodeWidth &&
         p.k.aligned(16, bytes) && p.v.aligned(16, bytes);
}

}  // namespace fovea::cuda
