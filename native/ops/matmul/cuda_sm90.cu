// Products of 16-bit floats on Hopper: TMA brings tiles of 64 of k into a ring in shared memory, wgmma multiplies from
// there, summed in float32. One warpgroup loads; two others each sum 64 rows of a tile of 128 x 256 of c, or 128 x 128
// where that leaves too many multiprocessors idle. Of the wide tiles, two blocks that lie below each other form a
// cluster: each loads half of their part of B, for both. Blocks stay and take tile after tile, so that loads of the
// next overlap stores of the last. An operand may have neighbours along k or across it; wgmma transposes.
#include "cuda/ptx.h"
#include "ops/matmul/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kGroup = 128;           // threads of a warpgroup
constexpr int kThreads = 3 * kGroup;  // the first loads
constexpr int kMultiplyingWarps = 8;
constexpr int kGroupRows = 64;  // of a tile, per warpgroup that multiplies
constexpr int kPanel = 64;      // elements of 128 bytes, the span of the swizzle
constexpr int kPanelBytes = kSm90Depth * 128;
constexpr int kStoreBytes = kGroupRows * kPanel * 2;  // of c, stored at once

template <int kColumns_, int kCluster_, bool kTransposeA_, bool kTransposeB_>
struct Config90 {
  static constexpr int kColumns = kColumns_, kCluster = kCluster_;
  static constexpr bool kTransposeA = kTransposeA_, kTransposeB = kTransposeB_;
  static constexpr int kABytes = kSm90Rows * kSm90Depth * 2, kBBytes = kColumns * kSm90Depth * 2;
  static constexpr int kStages = (192 << 10) / (kABytes + kBBytes);
  // Shared memory: the ring, two pieces of c per warpgroup that are on their way out, barriers.
  static constexpr int kStoreAt = kStages * (kABytes + kBBytes), kBarriersAt = kStoreAt + 4 * kStoreBytes;
  static constexpr size_t kShared = kBarriersAt + 2 * kStages * sizeof(uint64_t);
};

// The slots of the ring, in the order in which they are filled and emptied.
template <class C>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ std::byte* a() const { return shared_memory() + stage * C::kABytes; }
  __device__ std::byte* b() const { return shared_memory() + C::kStages * C::kABytes + stage * C::kBBytes; }
  __device__ static uint64_t* full(int stage) { return shared_memory_as<uint64_t>(C::kBarriersAt) + stage; }
  __device__ static uint64_t* empty(int stage) { return full(stage) + C::kStages; }
  __device__ void advance() {
    if (++stage == C::kStages) stage = 0, parity ^= 1;
  }
};

struct Maps {
  const TensorMap *a, *b, *c;
};

template <class C, class S>
__device__ Tile tile_of_block(const Product<S>& product, int64_t index, uint32_t rank) {
  Tile tile = tile_at(product, index, kSm90Rows * C::kCluster, C::kColumns);
  tile.row += rank * kSm90Rows;
  return tile;
}

// A tile of kRows across and 64 along k: rows of k in one piece, or panels of 64 across k.
template <bool kTransposed, int kRows, class Load>
__device__ void load_tile(std::byte* to, int across, int k, Load&& load) {
  if constexpr (!kTransposed) load(to, k, across);
  else
    for (int panel = 0; panel < kRows / kPanel; panel++) load(to + panel * kPanelBytes, across + panel * kPanel, k);
}

// One thread fills the ring.
template <class C, class S>
__device__ void produce(const Product<S>& product, const Maps& maps, int64_t tiles, uint32_t rank) {
  const MatmulProblem& p = product.shape;
  constexpr int kShare = C::kColumns / C::kCluster;  // of B, that this block loads for the cluster
  Ring<C> ring;
  for (int64_t index = blockIdx.x / C::kCluster; index < tiles; index += gridDim.x / C::kCluster) {
    Tile tile = tile_of_block<C>(product, index, rank);
    int from = int(tile.split * product.depth), to = int(min_of(p.k, from + product.depth));
    int outer = p.rank > 1 ? int(tile.batch / p.shape[0]) : 0;
    int inner = p.rank > 0 ? int(tile.batch - outer * p.shape[0]) : 0;
    auto coordinate = [](int64_t stride, int at) { return stride ? at : 0; };  // axes of stride 0 have one element
    int a_inner = coordinate(p.a_leading[0], inner), a_outer = coordinate(p.a_leading[1], outer);
    int b_inner = coordinate(p.b_leading[0], inner), b_outer = coordinate(p.b_leading[1], outer);
    for (int k = from; k < to; k += kSm90Depth) {
      uint64_t* full = ring.full(ring.stage);
      mbarrier_wait(ring.empty(ring.stage), ring.parity ^ 1);
      mbarrier_expect(full, C::kABytes + C::kBBytes);
      load_tile<C::kTransposeA, kSm90Rows>(ring.a(), int(tile.row), k, [&](std::byte* at, int x, int y) {
        if constexpr (C::kCluster > 1) tma_load_2d(at, maps.a, full, x, y);
        else tma_load_4d(at, maps.a, full, x, y, a_inner, a_outer);
      });
      load_tile<C::kTransposeB, kShare>(ring.b() + rank * (C::kBBytes / C::kCluster), int(tile.column + rank * kShare),
                                        k, [&](std::byte* at, int x, int y) {
                                          if constexpr (C::kCluster > 1)
                                            tma_load_2d_multicast(at, maps.b, full, x, y, (1 << C::kCluster) - 1);
                                          else tma_load_4d(at, maps.b, full, x, y, b_inner, b_outer);
                                        });
      ring.advance();
    }
  }
}

// Tells every block that loads into this slot that this warp is done with it. Every warp does, since nothing keeps the
// warps of a warpgroup together.
template <class C>
__device__ void release(int stage) {
  uint32_t lane = threadIdx.x % 32;
  if constexpr (C::kCluster > 1) {
    if (lane < C::kCluster) mbarrier_arrive_cluster(Ring<C>::empty(stage), lane);
  } else {
    if (lane == 0) mbarrier_arrive(Ring<C>::empty(stage));
  }
}

// The sums of a warpgroup's 64 rows over `steps` slots of the ring.
template <class C, class S>
__device__ void multiply_steps(Ring<C>& ring, int steps, int group, float (&sums)[C::kColumns / 2]) {
  constexpr uint64_t kNextA = C::kTransposeA ? 2048 >> 4 : 32 >> 4, kNextB = C::kTransposeB ? 2048 >> 4 : 32 >> 4;
  int previous = -1;
  for (int step = 0; step < steps; step++) {
    mbarrier_wait(ring.full(ring.stage), ring.parity);
    // 64 rows are 64 * 128 bytes along k, and one panel across k.
    uint32_t a_address = shared_address(ring.a()) + uint32_t(group * kPanelBytes), b_address = shared_address(ring.b());
    uint64_t a = C::kTransposeA ? descriptor_mn_major(a_address, kPanelBytes) : descriptor_k_major(a_address);
    uint64_t b = C::kTransposeB ? descriptor_mn_major(b_address, kPanelBytes) : descriptor_k_major(b_address);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kSm90Depth / 16; i++)
      wgmma_ss<S, C::kColumns, C::kTransposeA, C::kTransposeB>(sums, a + i * kNextA, b + i * kNextB, (step | i) != 0);
    wgmma_commit();
    wgmma_wait<1>();  // the products of the step before are done
    if (previous >= 0) release<C>(previous);
    previous = ring.stage;
    ring.advance();
  }
  wgmma_wait<0>();
  release<C>(previous);
}

// Two neighbours of a row of the bias.
template <class S>
__device__ float2 read_pair(const S* from, int64_t step) {
  if (step != 1 || reinterpret_cast<uintptr_t>(from) % 4 != 0) return {widen(from[0]), widen(from[step])};
  uint32_t pair = *reinterpret_cast<const uint32_t*>(from);
  return {widen(S{uint16_t(pair)}), widen(S{uint16_t(pair >> 16)})};
}

// x += factor from[row, column] for a thread's eight of 16 x 16: two neighbours, two eight rows below, and the same
// eight columns to the right.
template <class S>
__device__ void add_eight(const MatmulProblem& p, const S* from, int64_t row_step, int64_t column_step, float factor,
                          int64_t row, int64_t column, float (&x)[8]) {
#pragma unroll
  for (int right = 0; right < 2; right++) {
    float2 pair = {0, 0};
#pragma unroll
    for (int below = 0; below < 2; below++) {
      int64_t r = row + below * 8, c = column + right * 8;
      bool repeats = row_step == 0;
      if (c < p.n && (repeats ? below == 0 : r < p.m))
        pair = read_pair(from + r * row_step + c * column_step, column_step);
      x[right * 4 + below * 2] += factor * pair.x, x[right * 4 + below * 2 + 1] += factor * pair.y;
    }
  }
}

// What is done to those eight sums (finish() in cuda_product.h), packed as stmatrix takes them.
template <class S>
__device__ void finish_eight(const Product<S>& product, const S* bias, const S* residual, int64_t row, int64_t column,
                             const float* sums, uint32_t (&packed)[4]) {
  const MatmulProblem& p = product.shape;
  float x[8];
#pragma unroll
  for (int j = 0; j < 8; j++) x[j] = product.alpha * sums[j];
  if (bias) add_eight(p, bias, p.bias_row, p.bias_column, product.beta, row, column, x);
  activate<S>(product.activation, x);
  if (residual) add_eight(p, residual, p.residual_row, p.residual_column, 1, row, column, x);
#pragma unroll
  for (int j = 0; j < 4; j++) packed[j] = pack_pair<S>(x[j * 2], x[j * 2 + 1]);
}

// A warpgroup's rows of c, 64 columns at a time through shared memory and by TMA.
template <class C, class S>
__device__ void store_tiles(const Product<S>& product, const Maps& maps, const Tile& tile, int group,
                            const float (&sums)[C::kColumns / 2]) {
  int thread = int(threadIdx.x) % kGroup, warp = thread / 32, lane = thread % 32;
  Matrices<S> at = matrices_at(product, tile.batch, 0);
  int64_t first_row = tile.row + group * kGroupRows, row = first_row + warp * 16 + lane / 4;
#pragma unroll
  for (int piece = 0; piece < C::kColumns / kPanel; piece++) {
    std::byte* staged = shared_memory() + C::kStoreAt + (group * 2 + piece % 2) * kStoreBytes;
    uint32_t staged_row = shared_address(staged) + uint32_t((warp * 16 + lane % 16) * 128);
    if (thread == 0) tma_store_wait_read<1>();  // the piece before the last has left
    named_barrier_sync(1 + group, kGroup);
#pragma unroll
    for (int q = 0; q < kPanel / 16; q++) {
      uint32_t packed[4];
      finish_eight(product, at.bias, at.residual, row, tile.column + piece * kPanel + q * 16 + lane % 4 * 2,
                   &sums[piece * (kPanel / 2) + q * 8], packed);
      stmatrix_x4(staged_row + uint32_t(((q * 2 + lane / 16) ^ (lane % 8)) << 4), packed[0], packed[1], packed[2],
                  packed[3]);
    }
    fence_async_proxy();
    named_barrier_sync(1 + group, kGroup);
    if (thread == 0) {
      tma_store_4d(maps.c, staged, int(tile.column) + piece * kPanel, int(first_row), int(tile.batch), 0);
      tma_store_commit();
    }
  }
}

template <class C, class S>
__device__ void consume(const Product<S>& product, const Maps& maps, int64_t tiles, uint32_t rank, bool by_tma) {
  int group = int(threadIdx.x) / kGroup - 1, warp = int(threadIdx.x) % kGroup / 32;
  float* staged = shared_memory_as<float>(C::kStoreAt) + (group * 4 + warp) * 16 * kStagedPitch;
  Ring<C> ring;
  for (int64_t index = blockIdx.x / C::kCluster; index < tiles; index += gridDim.x / C::kCluster) {
    Tile tile = tile_of_block<C>(product, index, rank);
    int64_t from = tile.split * product.depth, to = min_of(product.shape.k, from + product.depth);
    float sums[C::kColumns / 2];
    multiply_steps<C, S>(ring, int(ceil_div(to - from, kSm90Depth)), group, sums);
    if (by_tma) {
      store_tiles<C>(product, maps, tile, group, sums);
    } else {
      Matrices<S> at = matrices_at(product, tile.batch, tile.split);
      int64_t row = tile.row + group * kGroupRows + warp * 16;
#pragma unroll
      for (int c = 0; c < C::kColumns / 32; c++)
        store_fragments(product, at, row, tile.column + c * 32, *reinterpret_cast<const float(*)[4][4]>(&sums[c * 16]),
                        staged);
    }
  }
  if (threadIdx.x % kGroup == 0) tma_store_wait_all();
}

template <class C, class S>
__global__ void __launch_bounds__(kThreads, 1)
    multiply_sm90(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                  const __grid_constant__ TensorMap c, Product<S> product, int64_t tiles, bool by_tma) {
  Maps maps{&a, &b, &c};
  uint32_t rank = C::kCluster > 1 ? cluster_rank() : 0;
  if (threadIdx.x == 0) {
    tma_prefetch(&a), tma_prefetch(&b), tma_prefetch(&c);
    for (int stage = 0; stage < C::kStages; stage++) {
      mbarrier_init(Ring<C>::full(stage), 1);
      mbarrier_init(Ring<C>::empty(stage), kMultiplyingWarps * C::kCluster);
    }
    fence_mbarrier_init();
  }
  if constexpr (C::kCluster > 1) cluster_sync();
  else __syncthreads();
  if (threadIdx.x < kGroup) {
    registers_release<40>();
    if (threadIdx.x == 0) produce<C>(product, maps, tiles, rank);
  } else {
    registers_claim<232>();
    consume<C>(product, maps, tiles, rank, by_tma);
  }
  // Nobody leaves while a block of the cluster may still write to its shared memory.
  if constexpr (C::kCluster > 1) cluster_sync();
}

// What TMA asks of an operand: neighbours along one axis, all other steps a multiple of 16 bytes.
constexpr int64_t kSixteenBytes = 8, kLargest = int64_t(1) << 31;
bool loads(const void* base, int64_t stride, int64_t k_stride, int64_t size, const MatmulProblem& p,
           const int64_t* leading) {
  int64_t pitch = k_stride == 1 ? stride : k_stride;
  auto steps = [](int64_t s) { return s >= 0 && s % kSixteenBytes == 0 && s * 2 < int64_t(1) << 40; };
  bool good = (k_stride == 1 || stride == 1) && pitch > 0 && steps(pitch) && size < kLargest && p.k < kLargest &&
              reinterpret_cast<uintptr_t>(base) % 16 == 0;
  for (int i = 0; i < p.rank; i++) good = good && steps(leading[i]) && p.shape[i] < kLargest;
  return good;
}

// Tiles of `rows` across by 64 along k; the axes that an operand repeats along have one element.
TensorMap operand_map(const CudaCall& call, const void* base, int64_t stride, int64_t k_stride, int64_t size, int rows,
                      int cluster, const MatmulProblem& p, const int64_t* leading) {
  bool transposed = k_stride != 1;
  uint64_t inner = uint64_t(transposed ? size : p.k), outer = uint64_t(transposed ? p.k : size);
  uint64_t pitch = uint64_t(transposed ? k_stride : stride) * 2;
  uint32_t box = transposed ? kSm90Depth : uint32_t(rows);
  Dtype dtype = call.out[0].dtype;
  if (cluster > 1) return tensor_map(call, dtype, base, {inner, outer}, {pitch}, {kPanel, box});
  uint64_t sizes[2], strides[2];
  for (int i = 0; i < 2; i++) {
    bool repeats = i >= p.rank || leading[i] == 0;
    sizes[i] = repeats ? 1 : uint64_t(p.shape[i]), strides[i] = repeats ? pitch : uint64_t(leading[i]) * 2;
  }
  return tensor_map(call, dtype, base, {inner, outer, sizes[0], sizes[1]}, {pitch, strides[0], strides[1]},
                    {kPanel, box, 1, 1});
}

template <class C, class S>
void launch(const CudaCall& call, const Product<S>& product) {
  const MatmulProblem& p = product.shape;
  TensorMap a = operand_map(call, product.a, p.a_row, p.a_k, p.m, kSm90Rows, C::kCluster, p, p.a_leading);
  TensorMap b =
      operand_map(call, product.b, p.b_column, p.b_k, p.n, C::kColumns / C::kCluster, C::kCluster, p, p.b_leading);
  bool by_tma = product.splits == 1 && p.n % kSixteenBytes == 0 && p.batches < kLargest &&
                reinterpret_cast<uintptr_t>(product.c) % 16 == 0;
  uint64_t row = uint64_t(p.n) * 2;
  TensorMap c =
      !by_tma ? a
              : tensor_map(call, call.out[0].dtype, product.c, {uint64_t(p.n), uint64_t(p.m), uint64_t(p.batches), 1},
                           {row, row * uint64_t(p.m), row * uint64_t(p.m)}, {kPanel, kGroupRows, 1, 1});
  int64_t tiles = tiles_of(product, kSm90Rows * C::kCluster, C::kColumns);
  int64_t clusters = max_of(1, min_of(tiles, call.device.multiprocessors / C::kCluster));
  Config config{.grid = dim3(unsigned(clusters * C::kCluster)), .block = dim3(kThreads)};
  config.shared = C::kShared, config.cluster = C::kCluster;
  call.launch(multiply_sm90<C, S>, config, a, b, c, product, tiles, by_tma);
}

template <int kColumns, int kCluster, class S>
void launch_transposed(const CudaCall& call, const Product<S>& product) {
  bool a = product.shape.a_k != 1, b = product.shape.b_k != 1;
  if (a && b) launch<Config90<kColumns, kCluster, true, true>>(call, product);
  else if (a) launch<Config90<kColumns, kCluster, true, false>>(call, product);
  else if (b) launch<Config90<kColumns, kCluster, false, true>>(call, product);
  else launch<Config90<kColumns, kCluster, false, false>>(call, product);
}

}  // namespace

bool matmul_sm90_takes(const MatmulProblem& p, const void* a, const void* b) {
  return p.k > 0 && p.rank <= 2 && loads(a, p.a_row, p.a_k, p.m, p, p.a_leading) &&
         loads(b, p.b_column, p.b_k, p.n, p, p.b_leading);
}

template <class S>
void matmul_sm90(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan) {
  if (plan.columns == 256) launch_transposed<256, 2>(call, product);
  else launch_transposed<128, 1>(call, product);
}
template void matmul_sm90(const CudaCall&, const Product<Half>&, const CudaMatmulPlan&);
template void matmul_sm90(const CudaCall&, const Product<Bfloat16>&, const CudaMatmulPlan&);

}  // namespace fovea::cuda
