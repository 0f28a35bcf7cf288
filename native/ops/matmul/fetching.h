// What tiles fetch into L2 together while they are multiplied: the operands that are packed or multiplied next.
#pragma once
#include "cpu/gemm_bf16.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kLineBytes = 64;
FOVEA_INLINE int log2_up(int64_t n) { return n <= 1 ? 0 : 64 - __builtin_clzll(uint64_t(n - 1)); }

// Lines of memory, of which each tile fetches a part.
struct Fetching {
  const char* from = nullptr;
  int64_t jump = 0, lines = 0, rate = 0, done = 0;
  int fold = 0;

  // `count` runs of `bytes`, over `tiles` of `rows` packed rows each.
  FOVEA_INLINE Fetching() = default;
  FOVEA_INLINE Fetching(const void* first, int64_t bytes, int64_t count, int64_t jump, int64_t tiles, int64_t rows)
      : from(static_cast<const char*>(first)), jump(jump), fold(log2_up(ceil_div(bytes, kLineBytes))) {
    lines = count << fold;
    rate = ceil_div(lines, max_of(1, tiles * ceil_div(rows, Ahead::kRows)));
  }
  // Of lanes (rows of A or columns of B) times a run of k: nothing unless one of both has stride 1.
  template <class S>
  FOVEA_INLINE static Fetching lanes(const S* first, int64_t lane_stride, int64_t k_stride, int64_t lanes,
                                     int64_t depth, int64_t tiles) {
    constexpr int64_t kBytes = sizeof(S);
    const int64_t rows = Engine<S>::packed_depth(depth);
    if (lane_stride == 1) return {first, lanes * kBytes, depth, k_stride * kBytes, tiles, rows};
    if (k_stride == 1) return {first, depth * kBytes, lanes, lane_stride * kBytes, tiles, rows};
    return {};
  }
  // The part of the next tile.
  FOVEA_INLINE Ahead part(int64_t rows) {
    if (done >= lines) return {};
    const Ahead ahead{from, jump, done, rate, fold};
    done += rate * ceil_div(rows, Ahead::kRows);
    return ahead;
  }
};

}  // namespace
}  // namespace fovea::FOVEA_ISA
