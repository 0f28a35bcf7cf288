// Which CUDA kernel multiplies, and into how many parts k is cut. Splitting depends on shapes, dtype and device alone,
// so that op.cc's views suffice to size the workspace.
#pragma once
#include "cuda/kernel.h"
#include "ops/matmul/plan.h"

namespace fovea::cuda {

enum class MatmulKernel : uint8_t {
  generic,  // any dtype, any strides: float64, integers, small matrices
  skinny,   // up to 8 rows: B is streamed once
  simt,     // float32 on the ordinary cores, since tensor cores would round its operands
  sm80,     // 16-bit floats, mma.sync
  sm90,     // 16-bit floats, TMA and wgmma
};

struct CudaMatmulPlan {
  MatmulKernel kernel = MatmulKernel::generic;
  int rows = 0, columns = 0;      // of a tile
  int64_t splits = 1, depth = 0;  // parts of k, and the length of each but the last
};

// The tiles of the kernels that have one size only.
constexpr int kDotColumns = 8;                   // of B with k contiguous, per block of `skinny`
constexpr int kSweepLanes = 32;                  // of 16 bytes of a row of B, per block of `skinny`
constexpr int kSm80Tile = 128, kSm80Depth = 32;  // square
constexpr int kSm90Rows = 128, kSm90Depth = 64;

// Cuts k so that about `wanted` blocks run, with at least `least` of k for each, in multiples of `quantum`.
inline void split_k(CudaMatmulPlan& plan, int64_t k, int64_t tiles, int64_t wanted, int64_t least, int64_t quantum) {
  plan.splits = 1, plan.depth = k;
  if (tiles == 0 || k == 0) return;
  int64_t most = max_of(1, min_of(wanted / tiles, k / least));
  plan.depth = round_up(ceil_div(k, most), quantum);
  plan.splits = ceil_div(k, plan.depth);
}

inline int64_t tiles_of(const MatmulProblem& p, int rows, int columns) {
  return ceil_div(p.m, rows) * ceil_div(p.n, columns) * p.batches;
}

// Axes that all operands step through evenly become one. plan.h lists the last axis first.
inline void merge_leading_axes(MatmulProblem& p) {
  int32_t kept = 0;
  for (int i = 0; i < p.rank; i++) {
    int last = kept - 1;
    bool merges = kept > 0 && p.a_leading[i] == p.a_leading[last] * p.shape[last] &&
                  p.b_leading[i] == p.b_leading[last] * p.shape[last] &&
                  p.bias_leading[i] == p.bias_leading[last] * p.shape[last] &&
                  p.residual_leading[i] == p.residual_leading[last] * p.shape[last];
    if (merges) {
      p.shape[last] *= p.shape[i];
      continue;
    }
    p.shape[kept] = p.shape[i], p.a_leading[kept] = p.a_leading[i], p.b_leading[kept] = p.b_leading[i];
    p.bias_leading[kept] = p.bias_leading[i], p.residual_leading[kept++] = p.residual_leading[i];
  }
  p.rank = kept;
}

// Short rows and columns leave most of a warp idle.
inline bool streams_rows(const MatmulProblem& p) {
  return p.m <= kMaxSkinnyRows && ((p.b_k == 1 && p.k >= 64) || (p.b_column == 1 && p.n >= 64 && p.k >= 16));
}

inline CudaMatmulPlan plan_generic(const MatmulProblem& p, const DeviceLimits& device) {
  CudaMatmulPlan plan{};
  plan.rows = plan.columns = p.m <= 32 && p.n <= 32 ? 16 : 64;
  split_k(plan, p.k, tiles_of(p, plan.rows, plan.columns), 4 * device.multiprocessors, 256, 16);
  return plan;
}

inline CudaMatmulPlan plan_skinny(const MatmulProblem& p, Dtype dtype, const DeviceLimits& device) {
  CudaMatmulPlan plan{.kernel = MatmulKernel::skinny};
  int64_t vector = 16 / int64_t(kDtypeBytes[int(dtype)]);
  plan.rows = int(kMaxSkinnyRows);
  if (p.b_k == 1) {
    plan.columns = kDotColumns;
    split_k(plan, p.k, tiles_of(p, plan.rows, plan.columns), 4 * device.multiprocessors, 128 * vector, 32 * vector);
  } else {
    plan.columns = int(kSweepLanes * vector);
    split_k(plan, p.k, tiles_of(p, plan.rows, plan.columns), 2 * device.multiprocessors, 64, 8);
  }
  return plan;
}

// How long blocks of a tiled kernel take, in microseconds, estimated from what the architecture it is for can do at
// most: one step of `depth` of k, and a tile's start and end, while `resident` blocks share a multiprocessor.
struct Pace {
  MatmulKernel kernel;
  int rows, columns, together;  // of a tile; `together` tiles below each other always run as one
  int depth, resident;
  double step, tile;
};
constexpr Pace kSimtSmall = {MatmulKernel::simt, 64, 64, 1, 16, 6, 2.4, 3};
constexpr Pace kSimtLarge = {MatmulKernel::simt, 128, 128, 1, 16, 2, 2.8, 3};
constexpr Pace kSm80 = {MatmulKernel::sm80, kSm80Tile, kSm80Tile, 1, kSm80Depth, 2, 1, 2};
constexpr Pace kSm90Narrow = {MatmulKernel::sm90, kSm90Rows, 128, 1, kSm90Depth, 1, 0.36, 1.2};
constexpr Pace kSm90Wide = {MatmulKernel::sm90, kSm90Rows, 256, 2, kSm90Depth, 1, 0.66, 2};

// The number of parts of k with which `pace` is done soonest, and when.
struct Candidate {
  CudaMatmulPlan plan;
  double time;
};
inline Candidate soonest(const MatmulProblem& p, const DeviceLimits& device, const Pace& pace) {
  constexpr int64_t kMostSplits = 32, kLeastSteps = 4, kMostBytes = int64_t(64) << 20;
  constexpr double kBytesPerMicrosecond = 3e6, kSecondKernel = 3;
  Candidate best{{}, -1};
  int64_t tiles = tiles_of(p, pace.rows * pace.together, pace.columns) * pace.together;
  for (int64_t splits = 1; splits <= kMostSplits; splits++) {
    int64_t depth = max_of(round_up(ceil_div(p.k, splits), pace.depth), 1);
    int64_t sums = splits * p.m * p.n * p.batches;
    bool sensible = ceil_div(p.k, depth) == splits && depth >= kLeastSteps * pace.depth && sums * 4 <= kMostBytes;
    if (splits > 1 && !sensible) continue;
    int64_t waves = ceil_div(tiles * splits, pace.resident * device.multiprocessors);
    double time = double(waves) * (double(ceil_div(depth, pace.depth)) * pace.step + pace.tile);
    // Bare sums are written once and read once.
    if (splits > 1) time += kSecondKernel + double(sums) * 8 / kBytesPerMicrosecond;
    if (best.time < 0 || time < best.time)
      best = {{pace.kernel, pace.rows, pace.columns, splits, splits == 1 ? p.k : depth}, time};
  }
  return best;
}
inline CudaMatmulPlan soonest(const MatmulProblem& p, const DeviceLimits& device, const Pace& one, const Pace& other) {
  Candidate a = soonest(p, device, one), b = soonest(p, device, other);
  return a.time <= b.time ? a.plan : b.plan;
}

// `tma`: the operands lie so that cuda_sm90.cu can load them.
inline CudaMatmulPlan cuda_matmul_plan(const MatmulProblem& p, Dtype dtype, const DeviceLimits& device, bool tma) {
  bool tiny = p.m <= 32 && p.n <= 32 && p.k <= 512;
  if (!p.integers && streams_rows(p)) return plan_skinny(p, dtype, device);
  if (p.integers || dtype == Dtype::f64 || p.c_column != 1 || tiny) return plan_generic(p, device);
  if (dtype == Dtype::f32) return soonest(p, device, kSimtSmall, kSimtLarge);
  if (!tma) return soonest(p, device, kSm80).plan;
  // Wide tiles come in pairs, which share what they read of B. Matrices of a batch are not paired.
  if (p.batches > 1) return soonest(p, device, kSm90Narrow).plan;
  return soonest(p, device, kSm90Wide, kSm90Narrow);
}

}  // namespace fovea::cuda
