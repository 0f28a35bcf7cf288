// How attention of a few queries over many keys is cut, and how its parts are put together: what cuda_decode.cu and
// cuda_decode_sm80.cu share. The cut depends on shape and device only, so that the workspace and the launch agree.
#pragma once
#include "ops/attention/cuda_problem.h"

namespace fovea::cuda {

constexpr int64_t kDecodeQueries = 8, kDecodeWidth = 256;
constexpr int kDecodeWarps = 4, kDecodeThreads = kDecodeWarps * 32;
// With tensor cores: rows of a block at most, keys that a warp takes at a time at most, and bytes of keys and values
// that a block has under way, of which two blocks of a multiprocessor of sm_90 have room.
constexpr int64_t kDecodeRows = 16, kDecodeStep = 32, kDecodeRing = 96 * 1024;

// Whether decoding takes the problem: rows of keys and values that are loaded 16 bytes at a time, of one width.
inline bool suits_decoding(const AttentionProblem& p, Dtype dtype) {
  const size_t bytes = kDtypeBytes[int(dtype)];
  return p.n <= kDecodeQueries && p.d == p.e && p.d > 0 && p.d % 8 == 0 && p.d <= kDecodeWidth &&
         p.k.aligned(16, bytes) && p.v.aligned(16, bytes);
}
// And whether it does so with tensor cores: scores are taken as they are, keys are counted in 32 bits.
inline bool suits_decoding_sm80(const AttentionProblem& p, Dtype dtype) {
  constexpr int64_t kMost = int64_t(1) << 30;
  return suits_decoding(p, dtype) && kDtypeBytes[int(dtype)] == 2 && !p.edits_scores() && p.q.aligned(16, 2) &&
         p.m < kMost;
}

struct DecodePlan {
  int64_t rows;        // queries that share a key head
  int64_t rows_each;   // of them, per block
  int64_t row_blocks;  // per key head
  int64_t splits;      // of the keys
  int64_t keys;        // per split

  DecodePlan(const AttentionProblem& p, Dtype dtype, const DeviceLimits& device) {
    const bool tensor_cores = suits_decoding_sm80(p, dtype);
    rows = p.group * p.n;
    if (tensor_cores) rows_each = rows > 8 && p.d <= 128 ? kDecodeRows : 8;  // wide rows take registers
    else rows_each = min_of(rows > 2 ? (rows > 4 ? 8 : 4) : max_of(rows, 1), dtype == Dtype::f64 ? 2 : 8);
    row_blocks = ceil_div(rows, rows_each);
    const int64_t blocks = max_of(1, p.b * p.g * row_blocks);
    if (tensor_cores) split_evenly(p.m, blocks, device);
    else split(p.m, blocks, device);
  }
  dim3 grid(const AttentionProblem& p) const { return dim3(unsigned(p.b * p.g * row_blocks), unsigned(splits)); }
  // Of the results that are combined: o, then top and total for each row and split.
  int64_t partial_elements(const AttentionProblem& p) const {
    return splits > 1 ? p.b * p.h * p.n * splits * (p.e + 2) : 0;
  }

 private:
  static constexpr int64_t kLeastKeys = 256, kMostSplits = 128;

  void split(int64_t m, int64_t blocks, const DeviceLimits& device) {
    constexpr int64_t kBlocksEach = 4;
    splits = clamp_to(min_of(ceil_div(kBlocksEach * device.multiprocessors, blocks), m / kLeastKeys), 1, kMostSplits);
    keys = ceil_div(m, splits);
  }
  // Blocks come in waves of as many as the device has room for, and each takes the time of its keys and some for its
  // start and its end: the fewest splits of those that take least.
  void split_evenly(int64_t m, int64_t blocks, const DeviceLimits& device) {
    constexpr int64_t kMultiple = kDecodeWarps * kDecodeStep, kOverhead = 128;  // in keys
    const int64_t each = clamp_to(int64_t(device.shared_bytes) / kDecodeRing, 1, 2);
    int64_t least = INT64_MAX;
    splits = 1, keys = m;
    for (int64_t count = 1; count <= clamp_to(m / kLeastKeys, 1, kMostSplits); count++) {
      const int64_t part = round_up(max_of(1, ceil_div(m, count)), kMultiple), parts = max_of(1, ceil_div(m, part));
      const int64_t time = ceil_div(blocks * parts, each * device.multiprocessors) * (part + kOverhead);
      if (time < least) least = time, splits = parts, keys = part;
    }
  }
};

// Where results go: o and lse, or parts of them if the keys are split.
struct DecodeOutputs {
  void *o, *lse, *partial_o, *partial_rows;  // partial_rows: top and total

  template <class A>
  static DecodeOutputs of(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan) {
    A* partial = call.scratch<A>();
    return {call.out[0].data, call.out[1].data, partial, partial + p.b * p.h * p.n * plan.splits * p.e};
  }
};

// A block's rows: row r is query r % n of query head gi group + r / n; and its keys, from `begin` on.
struct DecodePart {
  int64_t bi, gi;
  int first, rows;
  int64_t begin;

  __device__ DecodePart(const AttentionProblem& p, const DecodePlan& plan) {
    const int head = int(blockIdx.x) / int(plan.row_blocks);
    bi = head / int(p.g), gi = head % int(p.g), first = int(blockIdx.x) % int(plan.row_blocks) * int(plan.rows_each);
    rows = min(int(plan.rows_each), int(plan.rows) - first), begin = blockIdx.y * plan.keys;
  }
  __device__ int64_t head(const AttentionProblem& p, int r) const { return gi * p.group + (first + r) / p.n; }
  __device__ int64_t query(const AttentionProblem& p, int r) const { return (first + r) % p.n; }
  // Keys that some query sees.
  __device__ int keys(const AttentionProblem& p, const DecodePlan& plan) const {
    return int(clamp_to(p.visible_keys(p.n - 1) - begin, 0, plan.keys));
  }
  // What row r sees of the first `keys`; rows that do not exist see nothing.
  __device__ int visible(const AttentionProblem& p, int keys, int r) const {
    return r < rows ? int(clamp_to(p.visible_keys(query(p, r)) - begin, 0, keys)) : 0;
  }
};

// Puts the warps of a block together. Each has its o in shared memory, [warp][row][width], then top and total.
template <class T, int kRows>
__device__ void write_block(const AttentionProblem& p, const DecodePlan& plan, const DecodePart& part,
                            const DecodeOutputs& outputs) {
  using A = Compute<T>;
  const int width = int(p.e);
  const A *o = shared_memory_as<A>(), *known = o + kDecodeWarps * kRows * width;
  const int64_t row = (part.bi * p.g + part.gi) * plan.rows + part.first;
  for (int at = int(threadIdx.x); at < part.rows * width; at += kDecodeThreads) {
    const int r = at / width, c = at % width;
    A top = -kInfinity<A>, total = 0, sum = 0;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; w++) top = max(top, known[(w * kRows + r) * 2]);
    const A base = top == -kInfinity<A> ? A(0) : top;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; w++) {
      const A factor = exp2_of(known[(w * kRows + r) * 2] - base);
      total += factor * known[(w * kRows + r) * 2 + 1], sum += factor * o[(w * kRows + r) * width + c];
    }
    if (plan.splits == 1) {
      static_cast<T*>(outputs.o)[(row + r) * width + c] = narrow<T>(total == 0 ? A(0) : sum / total);
      if (c == 0) static_cast<A*>(outputs.lse)[row + r] = log_total(top, total);
    } else {
      const int64_t part_row = (row + r) * plan.splits + blockIdx.y;
      static_cast<A*>(outputs.partial_o)[part_row * width + c] = sum;
      if (c < 2) static_cast<A*>(outputs.partial_rows)[part_row * 2 + c] = c ? total : top;
    }
  }
}
// What write_block() finds in shared memory, in bytes.
template <class A>
size_t decode_shared_bytes(const AttentionProblem& p, int rows) {
  return sizeof(A) * size_t(kDecodeWarps * rows) * size_t(p.e + 2);
}

// cuda_decode.cu: puts the splits together, if there are several.
template <class T>
void combine_splits(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan,
                    const DecodeOutputs& outputs);

}  // namespace fovea::cuda
