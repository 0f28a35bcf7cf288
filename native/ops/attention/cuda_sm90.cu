// Attention of 16-bit floats on Hopper: TMA brings tiles to shared memory, wgmma multiplies from there
// (FlashAttention-3, Shah et al. 2024, https://arxiv.org/abs/2407.08608). A block owns 128 or 192 queries at a time: a
// warpgroup that asks for tiles, and two or three that compute with 64 queries each.
//
// The scores of the next tile of keys are under way while the weights of this one meet its values; weights never leave
// their registers, which are laid out as the left operand of that product. Tiles go from the last keys to the first, so
// that those in which causality hides some come first.
//
// As many blocks as run at once stay until all queries are done: the next queries and their first keys are on the way
// while the last results leave.
#include "ops/attention/cuda_kernels.h"
#include "ops/attention/cuda_softmax.h"
#include "ops/attention/cuda_warpgroup.h"

namespace fovea::cuda {
namespace {

// Narrow rows leave registers for a third group, and more to do for the units that take 2^x than for the tensor cores.
template <int kD>
constexpr int kGroups = kD <= 64 ? 3 : 2;
template <int kD>
using Shape = BlockShape<kGroups<kD>>;
constexpr int kKeys = 128;
// Tiles of keys, and of values, in shared memory: as many as there is room for.
template <int kD>
constexpr int kStages = kD <= 64 ? 3 : 2;

// Full: bytes have come; empty: every warp that computes has read them.
template <int kD>
struct Barriers {
  static constexpr int kCount = kStages<kD>;
  uint64_t q_full, q_empty, k_full[kCount], k_empty[kCount], v_full[kCount], v_empty[kCount];
  uint32_t special[kGroups<kD>][2][4];  // votes of its warps, for every other tile
};
// Shared memory.
template <int kD>
struct Places {
  static constexpr int kOwn = kFragmentTileBytes<Shape<kD>::kRows, kD>, kTile = kFragmentTileBytes<kKeys, kD>;
  static constexpr int kQ = 0, kO = kOwn, kK = 2 * kOwn, kV = kK + kStages<kD> * kTile,
                       kBarriers = kV + kStages<kD> * kTile;
  static constexpr int kBytes = kBarriers + int(sizeof(Barriers<kD>));
  static_assert(kBytes <= 227 * 1024);
};

// What the blocks share out: for every head, blocks of kRows queries. Neighbouring heads form a set whose keys and
// values stay in L2; in a set, the queries that see the most keys come first.
struct Plan {
  int blocks, set, count;  // of queries in a head; heads in a set; all
  float scale;             // of products, to units of log2

  template <int kRows>
  static Plan of(const AttentionProblem& p, const DeviceLimits& device) {
    const int64_t heads = p.b * p.h, blocks = ceil_div(p.n, kRows);
    const int64_t bytes = max_of(1, p.m * (p.d + p.e) * 2 / p.group);
    return {int(blocks), int(clamp_to(int64_t(device.l2_bytes) / 3 / bytes, 1, heads)), int(heads * blocks),
            float(p.scale * kLog2e)};
  }
};
// A block's way through the plan. Every other round goes backwards, so that each gets about as much to do.
struct Round {
  int number = 0;
  __device__ __forceinline__ int index() const {
    return number * int(gridDim.x) + int(number % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
  }
};
// Queries [first, first + kRows) of a head, and the tiles of keys that some of them see.
struct Work {
  int head, bi, hi, first, tiles;
  template <int kRows>
  static __device__ __forceinline__ Work at(const AttentionProblem& p, const Plan& plan, int index) {
    const int each = plan.set * plan.blocks, from = index / each * plan.set, rest = index % each;
    const int heads = min(plan.set, int(p.b * p.h) - from);
    Work work;
    work.head = from + rest % heads, work.first = (plan.blocks - 1 - rest / heads) * kRows;
    work.bi = work.head / int(p.h), work.hi = work.head % int(p.h);
    work.tiles = (int(p.visible_keys(min(work.first + kRows, int(p.n)) - 1)) + kKeys - 1) / kKeys;
    return work;
  }
};

struct Maps {
  TensorMap q, k, v, o;
};

// The whole work of the thread that asks for tiles.
template <int kD>
__device__ __forceinline__ void produce(const AttentionProblem& p, const Plan& plan, const Maps& maps,
                                        Barriers<kD>* barriers) {
  using At = Places<kD>;
  constexpr int kRows = Shape<kD>::kRows;
  Ring<1> own;
  Ring<kStages<kD>> ring;
  for (Round round; round.index() < plan.count; round.number++) {
    const Work work = Work::at<kRows>(p, plan, round.index());
    if (work.tiles == 0) continue;
    const int gi = work.hi / int(p.group);
    mbarrier_wait(&barriers->q_empty, own.parity ^ 1);
    mbarrier_expect(&barriers->q_full, At::kOwn);
    load_tile<kRows, kD>(shared_memory() + At::kQ, maps.q, &barriers->q_full, work.first, work.hi, work.bi);
    own.advance();
    for (int tile = work.tiles - 1; tile >= 0; tile--, ring.advance()) {
      std::byte *k = shared_memory() + At::kK + ring.stage * At::kTile, *v = k + (At::kV - At::kK);
      mbarrier_wait(&barriers->k_empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect(&barriers->k_full[ring.stage], At::kTile);
      load_tile<kKeys, kD>(k, maps.k, &barriers->k_full[ring.stage], tile * kKeys, gi, work.bi);
      mbarrier_wait(&barriers->v_empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect(&barriers->v_full[ring.stage], At::kTile);
      load_tile<kKeys, kD>(v, maps.v, &barriers->v_full[ring.stage], tile * kKeys, gi, work.bi);
    }
  }
}

using Scores = float[kKeys / 2];

// One of the warpgroups that compute.
template <class T, int kD>
struct Consumer {
  using At = Places<kD>;
  static constexpr int kRows = Shape<kD>::kRows;
  const AttentionProblem& p;
  Barriers<kD>* barriers;
  const Plan& plan;
  const int group;
  Ring<1> own;
  Ring<kStages<kD>> ring;  // of the values that the weights belong to
  int first, tiles;        // of the group's queries; of keys
  RowSoftmax softmax;

  __device__ __forceinline__ Consumer(const AttentionProblem& p, const Plan& plan, Barriers<kD>* barriers, int group)
      : p(p), plan(plan), barriers(barriers), group(group) {}
  __device__ __forceinline__ void begin(const Work& work) {
    first = work.first + group * kGroupRows, tiles = work.tiles, softmax = RowSoftmax();
  }
  __device__ __forceinline__ int warp() const { return int(threadIdx.x) % kGroupThreads / 32; }
  __device__ __forceinline__ int row() const { return first + warp() * 16; }  // the warp's first query
  __device__ __forceinline__ void release(uint64_t* barrier) const {
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
  }
  __device__ __forceinline__ void await_keys(const Ring<kStages<kD>>& at) const {
    mbarrier_wait(&barriers->k_full[at.stage], at.parity);
  }
  // Some of the group's queries do not see all keys of the tile.
  __device__ __forceinline__ bool edge(int tile) const { return (tile + 1) * kKeys > visible_columns(p, first, 0); }
  // Scores into weights; shrink: of what was summed before.
  __device__ __forceinline__ void soften_scores(int tile, Scores& s, float (&shrink)[2]) {
    auto& rows = reinterpret_cast<Fragment<kKeys>&>(s);
    if (edge(tile)) hide_keys(p, row(), tile * kKeys, rows);
    soften(rows, plan.scale, softmax, shrink);
  }
  __device__ __forceinline__ const std::byte* values() const {
    return shared_memory() + At::kV + ring.stage * At::kTile;
  }
  // Starts o += weights v.
  __device__ __forceinline__ void meet_values(const Weights<kKeys>& weights, float (&o)[kD / 2]) const {
    mbarrier_wait(&barriers->v_full[ring.stage], ring.parity);
    start_values<T, kD, kKeys>(weights, shared_address(values()), o);
  }
  // Whether values that some queries must not see are infinite or NaN. The whole warpgroup gets the same answer.
  __device__ __forceinline__ bool special(int tile) const {
    bool found = false;
    for (int at = int(threadIdx.x) % kGroupThreads * 16; at < At::kTile; at += kGroupThreads * 16)
      found |= special_in_chunk<T>(values() + at);
    found = __any_sync(0xffffffffu, found);
    uint32_t* votes = barriers->special[group][tile % 2];
    if (threadIdx.x % 32 == 0) votes[warp()] = found;
    named_barrier_sync(1 + group, kGroupThreads);
    return votes[0] | votes[1] | votes[2] | votes[3];
  }
  // Where there are such values: o += weights v without those that a query must not see. Nothing may be under way: the
  // next scores would need the registers that this takes.
  __device__ __forceinline__ bool keeps_values(int tile, const Weights<kKeys>& weights, float (&o)[kD / 2]) const {
    if (!p.causal || !edge(tile)) return false;
    mbarrier_wait(&barriers->v_full[ring.stage], ring.parity);
    if (!special(tile)) return false;
    wgmma_wait<0>();  // waits for nothing, but tells ptxas that o is free
    const int i = row() + int(threadIdx.x) % 32 / 4, j0 = tile * kKeys + int(threadIdx.x) % 4 * 2;
    const int visible[2] = {visible_columns(p, i, j0), visible_columns(p, i + 8, j0)};
    auto ones_of = [&](int j, uint32_t(&ones)[4]) {
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const int left = visible[part % 2] - (j * 16 + part / 2 * 8);
        ones[part] = pair_of_ones<T>(left > 0, left > 1);
      }
    };
    add_visible_rows<T, kD, kKeys>(weights, shared_address(values()), reinterpret_cast<Fragment<kD>&>(o), ones_of);
    return true;
  }

  // All keys, the last first. There are some.
  __device__ __forceinline__ void walk(float (&o)[kD / 2]) {
    const uint32_t shared = shared_address(shared_memory());
    const uint32_t q = shared + uint32_t(At::kQ + group * kGroupRows * 128), k = shared + At::kK;
    Scores s;
    Weights<kKeys> weights;
    float shrink[2];
    mbarrier_wait(&barriers->q_full, own.parity);
    own.advance();
    await_keys(ring);
    start_scores<T, kRows, kD, kKeys>(q, k + uint32_t(ring.stage * At::kTile), s);
    wgmma_wait<0>();
    wgmma_keep(s);
    release(&barriers->k_empty[ring.stage]);
    soften_scores(tiles - 1, s, shrink);
    round_weights<T, kKeys>(reinterpret_cast<const Fragment<kKeys>&>(s), weights);
    if (tiles > 1) await_keys(ring.next());
    for (int tile = tiles - 2; tile >= 0; tile--) {
      const Ring<kStages<kD>> next = ring.next();
      const bool kept = keeps_values(tile + 1, weights, o);
      start_scores<T, kRows, kD, kKeys>(q, k + uint32_t(next.stage * At::kTile), s);
      if (kept) wgmma_wait<0>();
      else meet_values(weights, o);
      wgmma_wait<1>();
      wgmma_keep(s);
      release(&barriers->k_empty[next.stage]);
      soften_scores(tile, s, shrink);
      // Here, so that 2^x is taken while the product runs: ptxas may put it behind wgmma_wait<0>, but not behind this.
      if (tile > 0) await_keys(next.next());
      wgmma_wait<0>();
      wgmma_keep(o);
      release(&barriers->v_empty[ring.stage]);
      shrink_sums(reinterpret_cast<Fragment<kD>&>(o), shrink);
      round_weights<T, kKeys>(reinterpret_cast<const Fragment<kKeys>&>(s), weights);
      ring = next;
    }
    release(&barriers->q_empty);
    if (!keeps_values(0, weights, o)) meet_values(weights, o);
    wgmma_wait<0>();
    wgmma_keep(o);
    release(&barriers->v_empty[ring.stage]);
    ring.advance();
  }
};

template <class T, int kD>
__global__ void __launch_bounds__(Shape<kD>::kThreads, 1)
    forward(const __grid_constant__ Maps maps, const __grid_constant__ AttentionProblem p,
            const __grid_constant__ Plan plan, float* lse) {
  constexpr int kCount = kGroups<kD>;
  auto* barriers = shared_memory_as<Barriers<kD>>(Places<kD>::kBarriers);
  if (threadIdx.x == 0) {
    mbarrier_init(&barriers->q_full, 1), mbarrier_init(&barriers->q_empty, kCount * 4);
    for (int i = 0; i < kStages<kD>; i++) {
      mbarrier_init(&barriers->k_full[i], 1), mbarrier_init(&barriers->v_full[i], 1);
      mbarrier_init(&barriers->k_empty[i], kCount * 4), mbarrier_init(&barriers->v_empty[i], kCount * 4);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  const int group = __shfl_sync(0xffffffffu, int(threadIdx.x) / kGroupThreads, 0);
  if (group == 0) {
    registers_release<Shape<kD>::kProducerRegisters>();
    if (threadIdx.x == 0) produce<kD>(p, plan, maps, barriers);
  } else {
    registers_claim<Shape<kD>::kConsumerRegisters>();
    Consumer<T, kD> consumer(p, plan, barriers, group - 1);
    for (Round round; round.index() < plan.count; round.number++) {
      consumer.begin(Work::at<Shape<kD>::kRows>(p, plan, round.index()));
      float o[kD / 2] = {}, factors[2];
      if (consumer.tiles > 0) consumer.walk(o);
      const Work work = Work::at<Shape<kD>::kRows>(p, plan, round.index());  // again: registers are short before
      finish_rows(consumer.softmax, plan.scale, lse + int64_t(work.head) * p.n, consumer.row(), int(p.n), factors);
      store_rows<T, Shape<kD>::kRows, kD>(maps.o, shared_memory() + Places<kD>::kO, consumer.group,
                                          work.first + consumer.group * kGroupRows, work.hi, work.bi, int(p.e), factors,
                                          o);
    }
    await_stores();
  }
}

// ---- launching

template <class T, int kD>
void launch(const CudaCall& call, const AttentionProblem& p) {
  constexpr int kRows = Shape<kD>::kRows;
  const Maps maps{map_of(call, call.in[0], kRows), map_of(call, call.in[1], kKeys), map_of(call, call.in[2], kKeys),
                  map_of(call, call.out[0], kGroupRows)};
  const Plan plan = Plan::of<kRows>(p, call.device);
  call.launch(forward<T, kD>,
              {.grid = dim3(unsigned(min_of(plan.count, call.device.multiprocessors))),
               .block = dim3(Shape<kD>::kThreads),
               .shared = size_t(Places<kD>::kBytes)},
              maps, p, plan, call.out[1].as<float>());
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
