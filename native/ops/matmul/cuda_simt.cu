// Matrix products in true float32, on the ordinary cores: tiles of 128 x 128 (or 64 x 64) of c, 8 x 8 per thread, over
// steps of 16 of k that cp.async brings to shared memory two steps ahead.
#include "cuda/ptx.h"
#include "ops/matmul/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kDepth = 16, kStages = 3;
constexpr int kMicro = 8;                         // a thread sums 8 x 8 elements
constexpr int kWarpRows = 64, kWarpColumns = 32;  // a warp is 8 x 4 threads
constexpr int kPadding = 4;                       // floats; keeps rows 16-byte aligned and writes along k in all banks
template <int kSize>
constexpr int kPitch = kSize + kPadding;
template <int kSize>
constexpr int kOperand = kDepth * kPitch<kSize>;  // floats of one operand of one step
template <int kSize>
constexpr size_t kTaskAt = size_t(kStages * 2 * kOperand<kSize>) * 4;  // bytes, in shared memory
template <int kSize>
constexpr int kThreads = kSize * kSize / (kMicro * kMicro);

// How an operand is copied to shared memory: four neighbours across k at once, 16-byte aligned, or one at a time, where
// neighbouring threads read neighbours across k or along k. Any strides work with either of the latter.
enum class Copy : uint8_t { four, across, along };

// Brings an operand to shared memory, [kDepth][kPitch], one step of k at a time. A thread's copies lie a fixed step
// apart, so that the loop over k only advances a pointer.
template <int kSize, Copy kCopy>
struct Loader {
  static constexpr int kCount = kCopy == Copy::four ? 4 : 1, kAcross = kSize / kCount;
  static constexpr int kCopies = kAcross * kDepth / kThreads<kSize>;
  // From one copy to the next. Along k, the warps take turns of 8 along k and 4 across, which fall into 32 banks.
  static constexpr int kRowStep = kCopy == Copy::along ? kThreads<kSize> / kDepth : 0;
  static constexpr int kDeepStep = kCopy == Copy::along ? 0 : kThreads<kSize> / kAcross;
  const float* from;  // this thread's first element of the step
  int row, deep;      // of the first copy, within the tile
  int rows;           // of the operand's part of the tile, from this row on

  __device__ Loader(const float* base, int64_t stride, int64_t k_stride, int64_t first, int64_t size, int64_t k) {
    int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
    row = kCopy == Copy::along ? warp / 2 * 4 + lane / 8 : thread % kAcross * kCount;
    deep = kCopy == Copy::along ? warp % 2 * 8 + lane % 8 : thread / kAcross;
    from = base + (first + row) * stride + (k + deep) * k_stride;
    rows = int(min_of(size - first, kSize)) - row;
  }
  // `left`: of k, from this step's first on.
  __device__ void load(uint32_t to, int64_t stride, int64_t k_stride, int left) {
    const float* source = from;
    to += uint32_t(deep * kPitch<kSize> + row) * 4;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      bool inside = i * kRowStep < rows && deep + i * kDeepStep < left;
      uint32_t at = to + uint32_t(i * (kDeepStep * kPitch<kSize> + kRowStep)) * 4;
      if constexpr (kCopy == Copy::four) cp_async_16(at, source, inside);
      else cp_async_4(at, source, inside);
      source += kRowStep * stride + kDeepStep * k_stride;
    }
    from += kDepth * k_stride;
  }
};

// Where a thread's elements lie in a tile: two groups of four rows, 32 apart, and two of four columns, 16 apart, so
// that a warp reads every bank once.
struct Spot {
  int row, column;
};
template <int kSize>
__device__ Spot spot_of(int thread) {
  constexpr int kAcross = kSize / kWarpColumns;
  int warp = thread / 32, lane = thread % 32;
  return {warp / kAcross * kWarpRows + lane / 4 * 4, warp % kAcross * kWarpColumns + lane % 4 * 4};
}
template <int kGap>
__device__ void read_eight(const float* from, float (&to)[kMicro]) {
  for (int half = 0; half < 2; half++) {
    float4 four = *reinterpret_cast<const float4*>(from + half * kGap);
    to[half * 4] = four.x, to[half * 4 + 1] = four.y, to[half * 4 + 2] = four.z, to[half * 4 + 3] = four.w;
  }
}

// Half of a warp's rows at a time passes through shared memory, so that whole rows are stored.
template <int kSize>
__device__ void store_sums(const Product<float>& product, const Matrices<float>& at, const Tile& tile,
                           const float (&sums)[kMicro][kMicro]) {
  int thread = thread_index();
  Spot spot = spot_of<kSize>(thread);
  int warp_row = spot.row / kWarpRows * kWarpRows, warp_column = spot.column / kWarpColumns * kWarpColumns;
  float* staged = shared_memory_as<float>() + thread / 32 * 32 * kStagedPitch;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    __syncwarp();
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
      for (int c = 0; c < kMicro; c += 4) {
        const float* from = &sums[half * 4 + r][c];
        float* to = staged + (spot.row - warp_row + r) * kStagedPitch + spot.column - warp_column + c / 4 * 16;
        *reinterpret_cast<float4*>(to) = float4{from[0], from[1], from[2], from[3]};
      }
    __syncwarp();
    store_staged<32>(product, at, tile.row + warp_row + half * 32, tile.column + warp_column, staged);
  }
}

template <int kSize, Copy kCopyA, Copy kCopyB>
__global__ void __launch_bounds__(kThreads<kSize>, kSize == 128 ? 2 : 6) multiply_simt(Product<float> product) {
  const MatmulProblem& p = product.shape;
  Tile tile = tile_at(product, blockIdx.x, kSize, kSize);
  Matrices<float> at = matrices_at(product, tile.batch, tile.split);
  Loader<kSize, kCopyA> a(at.a, p.a_row, p.a_k, tile.row, p.m, at.from);
  Loader<kSize, kCopyB> b(at.b, p.b_column, p.b_k, tile.column, p.n, at.from);
  auto* task = shared_memory_as<Task<float>>(kTaskAt<kSize>);
  if (threadIdx.x == 0) *task = {tile, at};
  const float* shared = shared_memory_as<float>();
  uint32_t address = shared_address(shared);
  int left = int(at.to - at.from);  // of k, not yet asked for
  auto ask = [&](int stage) {
    a.load(address + uint32_t(stage * 2 * kOperand<kSize>) * 4, p.a_row, p.a_k, left);
    b.load(address + uint32_t((stage * 2 + 1) * kOperand<kSize>) * 4, p.b_column, p.b_k, left);
    left -= kDepth;
  };
  for (int stage = 0; stage < kStages - 1; stage++) {
    if (left > 0) ask(stage);
    cp_async_commit();
  }
  Spot spot = spot_of<kSize>(int(threadIdx.x));
  float sums[kMicro][kMicro] = {};
  int steps = int(ceil_div(at.to - at.from, kDepth)), stage = 0;
  for (int i = 0; i < steps; i++) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    if (left > 0) ask((stage + kStages - 1) % kStages);
    cp_async_commit();
    const float* a_rows = shared + stage * 2 * kOperand<kSize> + spot.row;
    const float* b_columns = shared + (stage * 2 + 1) * kOperand<kSize> + spot.column;
#pragma unroll 4
    for (int deep = 0; deep < kDepth; deep++) {
      float row[kMicro], column[kMicro];
      read_eight<32>(a_rows + deep * kPitch<kSize>, row);
      read_eight<16>(b_columns + deep * kPitch<kSize>, column);
#pragma unroll
      for (int r = 0; r < kMicro; r++)
#pragma unroll
        for (int c = 0; c < kMicro; c++) sums[r][c] = fmaf(row[r], column[c], sums[r][c]);
    }
    stage = (stage + 1) % kStages;
  }
  cp_async_wait<0>();
  __syncthreads();  // shared memory is used for other things now
  store_sums<kSize>(product, task->at, task->tile, sums);
}

Copy copy_of(const float* base, int64_t stride, int64_t k_stride, int64_t size, const MatmulProblem& p,
             const int64_t* leading) {
  bool four = stride == 1 && k_stride % 4 == 0 && size % 4 == 0 && reinterpret_cast<uintptr_t>(base) % 16 == 0;
  for (int i = 0; i < p.rank; i++) four = four && leading[i] % 4 == 0;
  return four ? Copy::four : stride < k_stride ? Copy::across : Copy::along;
}

template <Copy kCopy>
struct Constant {
  static constexpr Copy value = kCopy;
};
template <class Body>
void dispatch_copy(Copy copy, Body&& body) {
  if (copy == Copy::four) body(Constant<Copy::four>{});
  else if (copy == Copy::across) body(Constant<Copy::across>{});
  else body(Constant<Copy::along>{});
}

template <int kSize>
void launch(const CudaCall& call, const Product<float>& product) {
  const MatmulProblem& p = product.shape;
  Config config{.grid = dim3(unsigned(tiles_of(product, kSize, kSize))), .block = dim3(kThreads<kSize>)};
  config.shared = kTaskAt<kSize> + sizeof(Task<float>);
  dispatch_copy(copy_of(product.a, p.a_row, p.a_k, p.m, p, p.a_leading), [&](auto a) {
    dispatch_copy(copy_of(product.b, p.b_column, p.b_k, p.n, p, p.b_leading), [&](auto b) {
      call.launch(multiply_simt<kSize, decltype(a)::value, decltype(b)::value>, config, product);
    });
  });
}

}  // namespace

void matmul_simt(const CudaCall& call, const Product<float>& product, const CudaMatmulPlan& plan) {
  if (plan.rows == 128) launch<128>(call, product);
  else launch<64>(call, product);
}

}  // namespace fovea::cuda
