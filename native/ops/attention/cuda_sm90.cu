// Attention of 16-bit floats on Hopper: TMA brings tiles to shared memory, wgmma multiplies from there
// (FlashAttention-3, Shah et al. 2024, https://arxiv.org/abs/2407.08608). A block owns 128 queries: a warpgroup that
// asks for tiles, and two that compute with 64 queries each.
//
// The scores of the next tile of keys are under way while the weights of this one meet its values; weights never leave
// their registers, which are laid out as the left operand of that product. Tiles go from the last keys to the first, so
// that those in which causality hides some come first.
#include "ops/attention/cuda_kernels.h"
#include "ops/attention/cuda_softmax.h"
#include "ops/attention/cuda_warpgroup.h"

namespace fovea::cuda {
namespace {

constexpr int kKeys = 128, kStages = 2;

// Shared memory.
template <int kD>
struct Places {
  static constexpr int kTile = kFragmentTileBytes<kKeys, kD>;
  static constexpr int kQ = 0, kK = kFragmentTileBytes<kRows, kD>, kV = kK + kStages * kTile,
                       kBarriers = kV + kStages * kTile;
  static constexpr int kBytes = kBarriers + 256;
};
// Full: bytes have come; empty: every warp that computes has read them.
struct Barriers {
  uint64_t q, k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  uint32_t special[kConsumers][2][4];  // votes of the warps, for every other tile
};
static_assert(sizeof(Barriers) <= 256);

// The block's queries, and the tiles of keys that some of them see.
struct Work {
  int head, bi, hi, first, tiles;
  __device__ __forceinline__ explicit Work(const AttentionProblem& p) {
    const int n = int(p.n), blocks = (n + kRows - 1) / kRows;
    head = int(blockIdx.x) / blocks, bi = head / int(p.h), hi = head % int(p.h);
    // Backwards: with causality the last queries have the most work, which is best begun first.
    first = (blocks - 1 - int(blockIdx.x) % blocks) * kRows;
    tiles = (int(p.visible_keys(min(first + kRows, n) - 1)) + kKeys - 1) / kKeys;
  }
};

struct Maps {
  TensorMap q, k, v, o;
};

template <int kD>
__device__ __forceinline__ void ask(std::byte* tile, const TensorMap& map, uint64_t* barrier, int row, int hi, int bi) {
  static_assert(kRows == kKeys);
  mbarrier_expect(barrier, Places<kD>::kTile);
  load_tile<kKeys, kD>(tile, map, barrier, row, hi, bi);
}
// The whole work of the thread that asks for tiles.
template <int kD>
__device__ __forceinline__ void produce(const AttentionProblem& p, const Maps& maps, const Work& work,
                                        Barriers* barriers) {
  using At = Places<kD>;
  const int gi = work.hi / int(p.group);
  if (work.tiles > 0) ask<kD>(shared_memory() + At::kQ, maps.q, &barriers->q, work.first, work.hi, work.bi);
  Ring<kStages> ring;
  for (int tile = work.tiles - 1; tile >= 0; tile--, ring.advance()) {
    std::byte *k = shared_memory() + At::kK + ring.stage * At::kTile, *v = k + (At::kV - At::kK);
    mbarrier_wait(&barriers->k_empty[ring.stage], ring.parity ^ 1);
    ask<kD>(k, maps.k, &barriers->k_full[ring.stage], tile * kKeys, gi, work.bi);
    mbarrier_wait(&barriers->v_empty[ring.stage], ring.parity ^ 1);
    ask<kD>(v, maps.v, &barriers->v_full[ring.stage], tile * kKeys, gi, work.bi);
  }
}

using Scores = float[kKeys / 2];

// One of the warpgroups that compute.
template <class T, int kD>
struct Consumer {
  using At = Places<kD>;
  const AttentionProblem& p;
  const Work& work;
  Barriers* barriers;
  int group, warp, lane, row;  // row: the warp's first query
  float scale;
  RowSoftmax softmax;

  __device__ __forceinline__ Consumer(const AttentionProblem& p, const Work& work, Barriers* barriers, int group)
      : p(p), work(work), barriers(barriers), group(group) {
    warp = int(threadIdx.x) % kGroupThreads / 32, lane = int(threadIdx.x) % 32;
    row = work.first + group * kGroupRows + warp * 16, scale = float(p.scale * kLog2e);
  }
  __device__ __forceinline__ void release(uint64_t* barrier) const {
    if (lane == 0) mbarrier_arrive(barrier);
  }
  // Some of the group's queries do not see all keys of the tile.
  __device__ __forceinline__ bool edge(int tile) const {
    return (tile + 1) * kKeys > visible_columns(p, work.first + group * kGroupRows, 0);
  }
  // Scores into weights; shrink: of what was summed before.
  __device__ __forceinline__ void soften_scores(int tile, Scores& s, Seen<kKeys>& seen, float (&shrink)[2]) {
    auto& rows = reinterpret_cast<Fragment<kKeys>&>(s);
    const bool hides = edge(tile);
    if (hides) hide_keys(p, row, tile * kKeys, rows);
    soften(rows, scale, softmax, shrink);
    if (hides) find_seen<kKeys>(rows, seen);
  }
  // Whether values that some queries must not see are infinite or NaN. The whole warpgroup gets the same answer.
  __device__ __forceinline__ bool special(int tile, const std::byte* v) const {
    if (!p.causal || !edge(tile)) return false;
    bool found = false;
    for (int at = int(threadIdx.x) % kGroupThreads * 16; at < At::kTile; at += kGroupThreads * 16)
      found |= special_in_chunk<T>(v + at);
    found = __any_sync(0xffffffffu, found);
    uint32_t* votes = barriers->special[group][tile % 2];
    if (lane == 0) votes[warp] = found;
    named_barrier_sync(1 + group, kGroupThreads);
    return votes[0] | votes[1] | votes[2] | votes[3];
  }
  // o += weights v for a tile: starts the product, or does it all where values must be kept out.
  __device__ __forceinline__ void meet_values(int tile, int stage, const Weights<kKeys>& weights,
                                              const Seen<kKeys>& seen, float (&o)[kD / 2]) const {
    const std::byte* v = shared_memory() + At::kV + stage * At::kTile;
    if (special(tile, v)) {
      wgmma_wait<0>();
      add_visible_rows<T, kD, kKeys>(weights, seen, shared_address(v), reinterpret_cast<Fragment<kD>&>(o));
    } else {
      start_values<T, kD, kKeys>(weights, shared_address(v), o);
    }
  }

  // All keys, the last first.
  __device__ __forceinline__ void walk(float (&o)[kD / 2]) {
    const uint32_t shared = shared_address(shared_memory());
    const uint32_t q = shared + uint32_t(At::kQ + group * kGroupRows * 128), k = shared + At::kK;
    Scores s;
    Weights<kKeys> weights;
    Seen<kKeys> seen = {};  // of the weights, where some keys are hidden
    float shrink[2];
    Ring<kStages> ring;  // of the values that the weights belong to
    mbarrier_wait(&barriers->q, 0);
    mbarrier_wait(&barriers->k_full[0], 0);
    start_scores<T, kD, kKeys>(q, k, s);
    wgmma_wait<0>();
    wgmma_keep(s);
    release(&barriers->k_empty[0]);
    soften_scores(work.tiles - 1, s, seen, shrink);
    round_weights<T, kKeys>(reinterpret_cast<const Fragment<kKeys>&>(s), weights);
    for (int tile = work.tiles - 2; tile >= 0; tile--) {
      Ring<kStages> next = ring;
      next.advance();
      mbarrier_wait(&barriers->k_full[next.stage], next.parity);
      start_scores<T, kD, kKeys>(q, k + uint32_t(next.stage * At::kTile), s);
      mbarrier_wait(&barriers->v_full[ring.stage], ring.parity);
      meet_values(tile + 1, ring.stage, weights, seen, o);
      wgmma_wait<1>();
      wgmma_keep(s);
      release(&barriers->k_empty[next.stage]);
      soften_scores(tile, s, seen, shrink);
      wgmma_wait<0>();
      wgmma_keep(o);
      release(&barriers->v_empty[ring.stage]);
      shrink_sums(reinterpret_cast<Fragment<kD>&>(o), shrink);
      round_weights<T, kKeys>(reinterpret_cast<const Fragment<kKeys>&>(s), weights);
      ring = next;
    }
    mbarrier_wait(&barriers->v_full[ring.stage], ring.parity);
    meet_values(0, ring.stage, weights, seen, o);
    wgmma_wait<0>();
    wgmma_keep(o);
  }
};

template <class T, int kD>
__global__ void __launch_bounds__(kThreads, 1)
    forward(const __grid_constant__ Maps maps, const __grid_constant__ AttentionProblem p, float* lse) {
  auto* barriers = shared_memory_as<Barriers>(Places<kD>::kBarriers);
  const Work work(p);
  if (threadIdx.x == 0) {
    mbarrier_init(&barriers->q, 1);
    for (int i = 0; i < kStages; i++) {
      mbarrier_init(&barriers->k_full[i], 1), mbarrier_init(&barriers->v_full[i], 1);
      mbarrier_init(&barriers->k_empty[i], kConsumers * 4), mbarrier_init(&barriers->v_empty[i], kConsumers * 4);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  const int group = int(threadIdx.x) / kGroupThreads;
  if (group == 0) {
    registers_release<kProducerRegisters>();
    if (threadIdx.x == 0) produce<kD>(p, maps, work, barriers);
  } else {
    registers_claim<kConsumerRegisters>();
    Consumer<T, kD> consumer(p, work, barriers, group - 1);
    float o[kD / 2] = {}, factors[2];
    if (work.tiles > 0) consumer.walk(o);
    finish_rows(consumer.softmax, consumer.scale, lse + int64_t(work.head) * p.n, consumer.row, int(p.n), factors);
    store_rows<T, kD>(maps.o, shared_memory() + Places<kD>::kQ, consumer.group,
                      work.first + consumer.group * kGroupRows, work.hi, work.bi, int(p.e), factors, o);
  }
}

// ---- launching

template <class T, int kD>
void launch(const CudaCall& call, const AttentionProblem& p) {
  const Maps maps{map_of(call, call.in[0], kRows), map_of(call, call.in[1], kKeys), map_of(call, call.in[2], kKeys),
                  map_of(call, call.out[0], kGroupRows)};
  call.launch(forward<T, kD>,
              {.grid = dim3(unsigned(p.b * p.h * ceil_div(p.n, kRows))),
               .block = dim3(kThreads),
               .shared = size_t(Places<kD>::kBytes)},
              maps, p, call.out[1].as<float>());
}

}  // namespace

bool suits_sm90(const AttentionProblem& p, Views in) {
  return p.scale > 0 && !p.edits_scores() && has_map(in[0]) && has_map(in[1]) && has_map(in[2]);
}
template <class T>
void attention_sm90(const CudaCall& call, const AttentionProblem& p) {
  if (max_of(p.d, p.e) <= 64) launch<T, 64>(call, p);
  else launch<T, 128>(call, p);
}
template void attention_sm90<Half>(const CudaCall&, const AttentionProblem&);
template void attention_sm90<Bfloat16>(const CudaCall&, const AttentionProblem&);

}  // namespace fovea::cuda
