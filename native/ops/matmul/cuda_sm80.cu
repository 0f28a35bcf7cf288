// Products of 16-bit floats on tensor cores, mma.sync m16n8k16, summed in float32: tiles of 128 x 128 of c by eight
// warps of 64 x 32, over steps of 32 of k that cp.async brings to shared memory three steps ahead. An operand lies in
// shared memory as it does in memory, along k or across it, and ldmatrix transposes where it must. Operands that cannot
// be copied 16 bytes at a time are gathered through registers.
#include "cuda/ptx.h"
#include "ops/matmul/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kStages = 4, kWarps = 8, kThreads = kWarps * 32;
constexpr int kWarpRows = 64, kWarpColumns = 32, kWarpsAcross = kSm80Tile / kWarpColumns;
constexpr int kOperandBytes = kSm80Tile * kSm80Depth * 2;        // of one step
constexpr size_t kTaskAt = size_t(kStages * 2 * kOperandBytes);  // in shared memory
constexpr int kChunk = 8;                                        // elements of 16 bytes

// Where a chunk lies: rows of k [128][32], or rows across k [32][128]. Chunks of a row are permuted, so that the eight
// that ldmatrix reads at once lie in different banks.
template <bool kAlongK>
__device__ uint32_t chunk_offset(int row, int chunk) {
  if (kAlongK) return uint32_t(row * 64 + ((chunk ^ (row / 2 % 4)) << 4));
  return uint32_t(row * 256 + ((chunk ^ (row % 8)) << 4));
}

// Brings an operand to shared memory, one step of k at a time: ask() starts a step, settle() ends it. Element (i, k) of
// the operand is from[i stride + k k_stride].
template <bool kAlongK, bool kAsync>
struct Loader {
  static constexpr int kChunksPerRow = (kAlongK ? kSm80Depth : kSm80Tile) / kChunk;
  static constexpr int kRowStep = kThreads / kChunksPerRow, kCopies = 2;
  const uint16_t* from;              // this thread's first element of the step
  int64_t row_stride, chunk_stride;  // from one row to the next, and from one element of a chunk to the next
  int64_t advance;                   // from one step to the next
  int row, chunk, across;            // across: rows of the operand from the tile's first on
  uint32_t held[kCopies][4];         // elements on their way, where they are gathered

  __device__ Loader(const void* base, int64_t stride, int64_t k_stride, int64_t first, int64_t size, int64_t k) {
    row = int(threadIdx.x) / kChunksPerRow, chunk = int(threadIdx.x) % kChunksPerRow;
    row_stride = kAlongK ? stride : k_stride, chunk_stride = kAlongK ? k_stride : stride;
    from = static_cast<const uint16_t*>(base) + first * stride + k * k_stride + row * row_stride +
           chunk * kChunk * chunk_stride;
    advance = kSm80Depth * k_stride;
    across = int(min_of(size - first, kSm80Tile));
  }
  // Elements of a chunk that are inside; `left`: of k, from this step's first on.
  __device__ int inside(int i, int64_t left) const {
    int deep = int(min_of(left, kSm80Depth));
    int rows = kAlongK ? across : deep, columns = kAlongK ? deep : across;
    return row + i * kRowStep < rows ? int(clamp_to(columns - chunk * kChunk, 0, kChunk)) : 0;
  }
  __device__ void ask(uint32_t to, int64_t left) {
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      int count = inside(i, left);
      const uint16_t* source = from + i * kRowStep * row_stride;
      if constexpr (kAsync) {
        cp_async_16(to + chunk_offset<kAlongK>(row + i * kRowStep, chunk), count ? source : from, count > 0);
      } else {
#pragma unroll
        for (int j = 0; j < kChunk; j += 2) {
          uint32_t low = j < count ? source[j * chunk_stride] : 0;
          uint32_t high = j + 1 < count ? source[(j + 1) * chunk_stride] : 0;
          held[i][j / 2] = low | high << 16;
        }
      }
    }
    from += advance;
  }
  __device__ void settle(uint32_t to) {
    if constexpr (!kAsync)
      for (int i = 0; i < kCopies; i++)
        for (int j = 0; j < 4; j++)
          store_shared_32(to + chunk_offset<kAlongK>(row + i * kRowStep, chunk) + uint32_t(j * 4), held[i][j]);
  }
};

// 16 rows of an operand by 16 of k, as mma takes them: r[0] and r[2] are the first eight rows, r[1] and r[3] the
// others.
template <bool kAlongK>
__device__ void read_fragment(uint32_t (&r)[4], uint32_t operand, int across, int deep) {
  int lane = int(threadIdx.x) % 32;
  if constexpr (kAlongK) ldmatrix_x4(r, operand + chunk_offset<true>(across + lane % 16, deep / kChunk + lane / 16));
  else
    ldmatrix_x4_trans(r,
                      operand + chunk_offset<false>(deep + lane / 16 * 8 + lane % 8, across / kChunk + lane / 8 % 2));
}

using WarpSums = float[kWarpRows / 16][kWarpColumns / 8][4];

template <class S, bool kAlongA, bool kAlongB>
__device__ void multiply_step(uint32_t a, uint32_t b, int row, int column, WarpSums& sums) {
#pragma unroll
  for (int deep = 0; deep < kSm80Depth; deep += 16) {
    uint32_t left[kWarpRows / 16][4], right[kWarpColumns / 16][4];
#pragma unroll
    for (int i = 0; i < kWarpRows / 16; i++) read_fragment<kAlongA>(left[i], a, row + i * 16, deep);
#pragma unroll
    for (int j = 0; j < kWarpColumns / 16; j++) read_fragment<kAlongB>(right[j], b, column + j * 16, deep);
#pragma unroll
    for (int i = 0; i < kWarpRows / 16; i++)
#pragma unroll
      for (int j = 0; j < kWarpColumns / 16; j++) {
        mma_m16n8k16<S>(sums[i][j * 2], left[i], right[j][0], right[j][2]);
        mma_m16n8k16<S>(sums[i][j * 2 + 1], left[i], right[j][1], right[j][3]);
      }
  }
}

template <class S, bool kAlongA, bool kAlongB, bool kAsyncA, bool kAsyncB>
__global__ void __launch_bounds__(kThreads, kAsyncA&& kAsyncB ? 2 : 1) multiply_sm80(Product<S> product) {
  const MatmulProblem& p = product.shape;
  Tile tile = tile_at(product, blockIdx.x, kSm80Tile, kSm80Tile);
  Matrices<S> at = matrices_at(product, tile.batch, tile.split);
  Loader<kAlongA, kAsyncA> a(at.a, p.a_row, p.a_k, tile.row, p.m, at.from);
  Loader<kAlongB, kAsyncB> b(at.b, p.b_column, p.b_k, tile.column, p.n, at.from);
  auto* task = shared_memory_as<Task<S>>(kTaskAt);
  if (threadIdx.x == 0) *task = {tile, at};
  uint32_t shared = shared_address(shared_memory());
  int64_t left = at.to - at.from;  // of k, not yet asked for
  auto ask = [&](int stage) {
    a.ask(shared + uint32_t(stage * 2 * kOperandBytes), left);
    b.ask(shared + uint32_t((stage * 2 + 1) * kOperandBytes), left);
    left -= kSm80Depth;
  };
  auto settle = [&](int stage) {
    a.settle(shared + uint32_t(stage * 2 * kOperandBytes));
    b.settle(shared + uint32_t((stage * 2 + 1) * kOperandBytes));
  };
  for (int stage = 0; stage < kStages - 1; stage++) {
    if (left > 0) ask(stage), settle(stage);
    cp_async_commit();
  }
  int warp = int(threadIdx.x) / 32;
  int row = warp / kWarpsAcross * kWarpRows, column = warp % kWarpsAcross * kWarpColumns;
  WarpSums sums = {};
  int steps = int(ceil_div(at.to - at.from, kSm80Depth));
  for (int i = 0; i < steps; i++) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    int stage = i % kStages, next = (i + kStages - 1) % kStages;
    bool more = left > 0;
    if (more) ask(next);
    cp_async_commit();
    uint32_t operands = shared + uint32_t(stage * 2 * kOperandBytes);
    multiply_step<S, kAlongA, kAlongB>(operands, operands + kOperandBytes, row, column, sums);
    if (more) settle(next);
  }
  cp_async_wait<0>();
  __syncthreads();  // shared memory is used for other things now
  float* staged = shared_memory_as<float>() + warp * 16 * kStagedPitch;
#pragma unroll
  for (int i = 0; i < kWarpRows / 16; i++)
    store_fragments(product, task->at, task->tile.row + row + i * 16, task->tile.column + column, sums[i], staged);
}

// Whether neighbours in memory come in chunks, 16-byte aligned, in every matrix. `length`: of a row of neighbours.
bool in_chunks(const void* base, int64_t neighbour, int64_t row_stride, int64_t length, const MatmulProblem& p,
               const int64_t* leading) {
  bool chunks =
      neighbour == 1 && row_stride % kChunk == 0 && length % kChunk == 0 && reinterpret_cast<uintptr_t>(base) % 16 == 0;
  for (int i = 0; i < p.rank; i++) chunks = chunks && leading[i] % kChunk == 0;
  return chunks;
}

template <class S, bool kAlongA, bool kAlongB>
void launch(const CudaCall& call, const Product<S>& product, const Config& config) {
  const MatmulProblem& p = product.shape;
  bool a = kAlongA ? in_chunks(product.a, p.a_k, p.a_row, p.k, p, p.a_leading)
                   : in_chunks(product.a, p.a_row, p.a_k, p.m, p, p.a_leading);
  bool b = kAlongB ? in_chunks(product.b, p.b_k, p.b_column, p.k, p, p.b_leading)
                   : in_chunks(product.b, p.b_column, p.b_k, p.n, p, p.b_leading);
  call.launch(
      a ? (b ? multiply_sm80<S, kAlongA, kAlongB, true, true> : multiply_sm80<S, kAlongA, kAlongB, true, false>)
        : (b ? multiply_sm80<S, kAlongA, kAlongB, false, true> : multiply_sm80<S, kAlongA, kAlongB, false, false>),
      config, product);
}

}  // namespace

template <class S>
void matmul_sm80(const CudaCall& call, const Product<S>& product) {
  const MatmulProblem& p = product.shape;
  Config config{.grid = dim3(unsigned(tiles_of(product, kSm80Tile, kSm80Tile))), .block = dim3(kThreads)};
  config.shared = kTaskAt + sizeof(Task<S>);
  bool along_a = p.a_k <= p.a_row, along_b = p.b_k <= p.b_column;
  if (along_a && along_b) launch<S, true, true>(call, product, config);
  else if (along_a) launch<S, true, false>(call, product, config);
  else if (along_b) launch<S, false, true>(call, product, config);
  else launch<S, false, false>(call, product, config);
}
template void matmul_sm80(const CudaCall&, const Product<Half>&);
template void matmul_sm80(const CudaCall&, const Product<Bfloat16>&);

}  // namespace fovea::cuda
