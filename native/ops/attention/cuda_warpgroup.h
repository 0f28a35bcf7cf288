// What the kernels of attention on Hopper share: tiles that TMA brings and takes, and the products that a warpgroup
// starts on them. Tiles lie as in cuda_fragments.h. A block has a warpgroup that asks for tiles (number 0), and others
// that compute with 64 of the block's rows each (from number 1 on; `group` counts them from 0).
#pragma once
#include "ops/attention/cuda_fragments.h"

namespace fovea::cuda {

constexpr int kGroupThreads = 128, kGroupRows = 64;

// A block with kGroups warpgroups that compute. A multiprocessor has 65536 registers, so that a block of its own has
// 168 (two groups) or 128 (three) for each thread, which are shared out anew.
template <int kGroups>
struct BlockShape {
  static_assert(kGroups == 2 || kGroups == 3);
  static constexpr int kThreads = kGroupThreads * (1 + kGroups), kRows = kGroupRows * kGroups;
  static constexpr int kProducerRegisters = kGroups == 2 ? 24 : 32, kConsumerRegisters = kGroups == 2 ? 240 : 160;
};

// Which stage of a ring comes next, and the parity of its phase.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
  __device__ __forceinline__ Ring next() const {
    Ring after = *this;
    after.advance();
    return after;
  }
};

// Asks for a tile of kTileRows rows; its bytes count on the barrier, which must expect them.
template <int kTileRows, int kD>
__device__ __forceinline__ void load_tile(std::byte* tile, const TensorMap& map, uint64_t* barrier, int row, int hi,
                                          int bi) {
#pragma unroll
  for (int panel = 0; panel < kD / 64; panel++)
    tma_load_4d(tile + panel * kPanelBytes<kTileRows>, &map, barrier, panel * 64, row, hi, bi);
}
// The group's rows of o, times factors, into its rows of a tile of kRows rows that nobody else reads, and from there to
// rows [row, row + 64) in memory, clipped at the last one. The group's thread 0 must await_stores() before it ends.
template <class T, int kRows, int kD>
__device__ __forceinline__ void store_rows(const TensorMap& map, std::byte* tile, int group, int row, int hi, int bi,
                                           int width, const float (&factors)[2], const float (&o)[kD / 2]) {
  const int warp = int(threadIdx.x) % kGroupThreads / 32, lane = int(threadIdx.x) % 32;
  const int own = group * kGroupRows + warp * 16 + lane % 16;
  const uint32_t to = shared_address(tile);
  if (warp == 0 && lane == 0) tma_store_wait_read<0>();
  named_barrier_sync(1 + group, kGroupThreads);  // all have read what was there
#pragma unroll
  for (int step = 0; step < kD / 16; step++) {
    const float* x = o + step * 8;
    stmatrix_x4(to + chunk_offset<kRows>(own, step * 2 + lane / 16), pack_pair<T>(x[0] * factors[0], x[1] * factors[0]),
                pack_pair<T>(x[2] * factors[1], x[3] * factors[1]), pack_pair<T>(x[4] * factors[0], x[5] * factors[0]),
                pack_pair<T>(x[6] * factors[1], x[7] * factors[1]));
  }
  fence_async_proxy();
  named_barrier_sync(1 + group, kGroupThreads);
  if (warp > 0 || lane > 0) return;
#pragma unroll
  for (int panel = 0; panel < kD / 64; panel++)
    if (panel * 64 < width)
      tma_store_4d(&map, tile + panel * kPanelBytes<kRows> + group * kGroupRows * 128, panel * 64, row, hi, bi);
  tma_store_commit();
}
__device__ __forceinline__ void await_stores() {
  if (threadIdx.x % kGroupThreads == 0) tma_store_wait_all();
}

// The descriptor of what lies `bytes` behind: one addition, where each of its own would be held in registers.
__device__ __forceinline__ uint64_t further(uint64_t descriptor, int bytes) { return descriptor + (bytes >> 4); }

// Starts s = x y^T, for the group's rows x, in a tile of kRows rows, and a tile y of kColumns rows.
template <class T, int kRows, int kD, int kColumns>
__device__ __forceinline__ void start_scores(uint32_t x, uint32_t y, float (&s)[kColumns / 2]) {
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < kD / 16; i++)
    wgmma_ss<T, kColumns>(s, further(descriptor_k_major(x), i / 4 * kPanelBytes<kRows> + i % 4 * 32),
                          further(descriptor_k_major(y), i / 4 * kPanelBytes<kColumns> + i % 4 * 32), i != 0);
  wgmma_commit();
}
// Starts o += weights y, for a tile y of kColumns rows.
template <class T, int kD, int kColumns>
__device__ __forceinline__ void start_values(const Weights<kColumns>& weights, uint32_t y, float (&o)[kD / 2]) {
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < kColumns / 16; i++)
    wgmma_rs<T, kD, true>(o, weights[i], further(descriptor_mn_major(y, kPanelBytes<kColumns>), i * 16 * 128), 1);
  wgmma_commit();
}

// ---- launching

// Axes from the innermost: columns, rows, heads, batches. Axes of one element get a stride that TMA takes.
inline TensorMap map_of(const CudaCall& call, const View& x, uint32_t box_rows) {
  auto bytes = [&](int axis) { return x.shape[axis] == 1 ? kSwizzleBytes : uint64_t(x.strides[axis]) * 2; };
  return tensor_map(call, x.dtype, x.data,
                    {uint64_t(x.shape[3]), uint64_t(x.shape[2]), uint64_t(x.shape[1]), uint64_t(x.shape[0])},
                    {bytes(2), bytes(1), bytes(0)}, {64, box_rows, 1, 1});
}
// What map_of() can describe.
inline bool has_map(const View& x) {
  bool has = x.size() > 0;
  for (int axis = 0; axis < 3; axis++) has = has && (x.shape[axis] == 1 || x.strides[axis] > 0);
  return has;
}

}  // namespace fovea::cuda
