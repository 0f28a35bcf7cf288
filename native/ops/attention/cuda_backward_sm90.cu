// Gradients of attention of 16-bit floats on Hopper: TMA brings tiles to shared memory, wgmma multiplies from there,
// with the probabilities recomputed from lse (FlashAttention-2, Dao 2023, algorithm 2). See cuda_simt.cu for the
// formulas.
//
// Two kernels of one shape, so that every sum has one owner and one order: blocks of 128 keys own their dk and dv and
// walk over the queries of all heads that share them; blocks of 128 queries own their dq and walk over the keys. A
// warpgroup has 64 of the block's rows x and y, and meets tile after tile of the other kind's u and w:
//   s = x u^T, slopes = y w^T, weights = 2^(s2 - lse), slopes = weights (slopes - delta)
//   dy += weights w (of keys only), dx += slopes u
// Weights and slopes never leave their registers, which are laid out as the left operand of the last two products. The
// next tile's s is queued behind these two, and its slopes once these are done; 2^x is taken meanwhile.
#include "ops/attention/cuda_kernels.h"
#include "ops/attention/cuda_warpgroup.h"

namespace fovea::cuda {
namespace {

constexpr int kGroups = 2;
using Shape = BlockShape<kGroups>;
constexpr int kRows = Shape::kRows;
// Rows of the other kind in a tile, and tiles in shared memory: by the registers and the shared memory there are.
template <int kD, bool kRowsAreKeys>
constexpr int kStep = !kRowsAreKeys ? 128
                      : kD <= 64    ? 96
                                    : 64;
template <int kD, bool kRowsAreKeys>
constexpr int kStages = kRowsAreKeys || kD <= 64 ? 4 : 2;

// lse and delta of a tile of queries, where these are columns. A thread has columns 8 j + 2 (lane % 4) and the next:
// each of the four kinds of lane has its columns in a row, and what the four read at once lies in different banks.
template <int kColumns>
struct Statistics {
  static constexpr int kPitch = kColumns / 4 + 4;
  struct alignas(16) Quad {
    float of[4];  // columns 8 j + t, the next, 8 (j + 1) + t, the next, for an even j
  };
  alignas(16) float lse[4 * kPitch], delta[4 * kPitch];

  static __device__ __forceinline__ int place(int column) {
    return column % 8 / 2 * kPitch + column / 8 * 2 + column % 2;
  }
  static __device__ __forceinline__ Quad quad(const float* of_all, int pair) {
    return reinterpret_cast<const Quad*>(of_all + int(threadIdx.x) % 4 * kPitch)[pair];
  }
};

// Full: bytes have come; empty: all who compute have read them.
template <int kStages>
struct Barriers {
  uint64_t own, full[kStages], empty[kStages];
};

// Shared memory: the block's rows x and y, stages of tiles u and w, and what is known of the queries.
template <int kD, bool kRowsAreKeys>
struct Places {
  static constexpr int kColumns = kStep<kD, kRowsAreKeys>, kCount = kStages<kD, kRowsAreKeys>;
  using Known = Statistics<kColumns>;
  static constexpr int kOwn = kFragmentTileBytes<kRows, kD>, kOther = kFragmentTileBytes<kColumns, kD>;
  static constexpr int kX = 0, kY = kOwn, kU = 2 * kOwn, kW = kU + kCount * kOther, kKnown = kW + kCount * kOther,
                       kBarriers = kKnown + (kRowsAreKeys ? kCount * int(sizeof(Known)) : 0);
  static constexpr int kBytes = kBarriers + int(sizeof(Barriers<kCount>));
  static_assert(kBytes <= 227 * 1024);
};

struct Maps {
  TensorMap x, y, u, w, dx, dy;
};

// The block's rows [first, first + kRows) of head hi of batch bi, and the tiles of columns that some of them meet:
// `tiles` of each of `members` heads from hi0 on.
template <int kD, bool kRowsAreKeys>
struct Work {
  static constexpr int kColumns = kStep<kD, kRowsAreKeys>;
  int bi, hi, first, hi0, members, begin, tiles;

  __device__ __forceinline__ explicit Work(const BackwardProblem& p) {
    const int rows = int(kRowsAreKeys ? p.m : p.n), heads = int(kRowsAreKeys ? p.g : p.h);
    const int blocks = (rows + kRows - 1) / kRows, head = int(blockIdx.x) / blocks, block = int(blockIdx.x) % blocks;
    // The longest first, with causality: the last queries, the first keys.
    bi = head / heads, hi = head % heads, first = (kRowsAreKeys ? block : blocks - 1 - block) * kRows;
    members = kRowsAreKeys ? int(p.group) : 1, hi0 = kRowsAreKeys ? hi * members : hi / int(p.group);
    begin = kRowsAreKeys ? int(p.first_query(first)) : 0;
    const int end = int(kRowsAreKeys ? p.n : p.visible_keys(min(first + kRows, rows) - 1));
    tiles = begin < end ? (end - begin + kColumns - 1) / kColumns : 0;
  }
};
// Walks over the tiles of all members: those in which causality hides some come first.
template <int kD, bool kRowsAreKeys>
struct Cursor {
  static constexpr int kColumns = kStep<kD, kRowsAreKeys>;
  int hi, column, tile, left;
  Ring<kStages<kD, kRowsAreKeys>> ring;

  __device__ __forceinline__ explicit Cursor(const Work<kD, kRowsAreKeys>& work)
      : hi(work.hi0), tile(work.tiles), left(work.tiles * work.members) {
    column = kRowsAreKeys ? work.begin : (work.tiles - 1) * kColumns;
  }
  __device__ __forceinline__ void advance(const Work<kD, kRowsAreKeys>& work) {
    left--, ring.advance(), column += kRowsAreKeys ? kColumns : -kColumns;
    if (--tile == 0) tile = work.tiles, hi++, column = work.begin;
  }
};

// The whole work of the thread that asks for tiles.
template <int kD, bool kRowsAreKeys>
__device__ __forceinline__ void ask_tiles(const Maps& maps, const Work<kD, kRowsAreKeys>& work,
                                          Barriers<kStages<kD, kRowsAreKeys>>* barriers) {
  using At = Places<kD, kRowsAreKeys>;
  std::byte* const shared = shared_memory();
  Cursor<kD, kRowsAreKeys> at(work);
  if (at.left == 0) return;
  mbarrier_expect(&barriers->own, 2 * At::kOwn);
  load_tile<kRows, kD>(shared + At::kX, maps.x, &barriers->own, work.first, work.hi, work.bi);
  load_tile<kRows, kD>(shared + At::kY, maps.y, &barriers->own, work.first, work.hi, work.bi);
  for (; at.left > 0; at.advance(work)) {
    const int stage = at.ring.stage;
    mbarrier_wait(&barriers->empty[stage], at.ring.parity ^ 1);
    uint64_t* full = &barriers->full[stage];
    mbarrier_expect(full, 2 * At::kOther);
    load_tile<At::kColumns, kD>(shared + At::kU + stage * At::kOther, maps.u, full, at.column, at.hi, work.bi);
    load_tile<At::kColumns, kD>(shared + At::kW + stage * At::kOther, maps.w, full, at.column, at.hi, work.bi);
  }
}
// The whole work of the warp that fetches lse and delta. Those of the next tile are on their way while it waits.
template <int kD>
__device__ __forceinline__ void fetch_statistics(const BackwardProblem& p, const Work<kD, true>& work,
                                                 Barriers<kStages<kD, true>>* barriers) {
  using At = Places<kD, true>;
  constexpr int kEach = At::kColumns / 32;
  const int lane = int(threadIdx.x) % 32;
  const float *lse = static_cast<const float*>(p.row_lse), *delta = static_cast<const float*>(p.row_delta);
  for (Cursor<kD, true> at(work); at.left > 0; at.advance(work)) {
    float lses[kEach], deltas[kEach];
    const int64_t from = int64_t(work.bi * int(p.h) + at.hi) * p.n + at.column + lane;
    const int left = int(p.n) - at.column - lane;
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      const bool valid = i * 32 < left;
      lses[i] = valid ? lse[from + i * 32] : kInfinity<float>, deltas[i] = valid ? delta[from + i * 32] : 0;
    }
    mbarrier_wait(&barriers->empty[at.ring.stage], at.ring.parity ^ 1);
    auto* known = shared_memory_as<typename At::Known>(At::kKnown) + at.ring.stage;
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      const int place = At::Known::place(lane) + At::Known::place(i * 32);
      known->lse[place] = lses[i], known->delta[place] = deltas[i];
    }
    mbarrier_arrive(&barriers->full[at.ring.stage]);
  }
}

// One of the warpgroups that compute.
template <class T, int kD, bool kRowsAreKeys>
struct Consumer {
  using At = Places<kD, kRowsAreKeys>;
  static constexpr int kColumns = At::kColumns;
  using Scores = float[kColumns / 2];
  const BackwardProblem& p;
  const Work<kD, kRowsAreKeys>& work;
  Barriers<At::kCount>* barriers;
  int group, lane, row;  // row: the thread's first
  int limit, full;       // of columns: where the group's rows begin or end to see some; where all see all
  float scale, lse[2], delta[2];

  __device__ __forceinline__ Consumer(const BackwardProblem& p, const Work<kD, kRowsAreKeys>& work,
                                      Barriers<At::kCount>* barriers, int group)
      : p(p), work(work), barriers(barriers), group(group), lane(int(threadIdx.x) % 32) {
    const int rows = int(kRowsAreKeys ? p.m : p.n), first = work.first + group * kGroupRows,
              last = min(first + kGroupRows, rows) - 1;
    row = first + int(threadIdx.x) % kGroupThreads / 32 * 16 + lane / 4, scale = float(p.scale * kLog2e);
    if (kRowsAreKeys) {
      limit = first < rows ? int(p.first_query(first)) : int(p.n), full = int(p.first_query(last));
    } else {
      limit = first < rows ? int(p.visible_keys(last)) : 0, full = int(p.visible_keys(first));
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int64_t at = int64_t(work.bi * int(p.h) + work.hi) * p.n + min(row + half * 8, rows - 1);
        lse[half] = static_cast<const float*>(p.row_lse)[at], delta[half] = static_cast<const float*>(p.row_delta)[at];
      }
    }
  }
  // By a lane of each warp; by all lanes where they have read lse and delta, each for itself, and not only wgmma tiles.
  __device__ __forceinline__ void release(int stage) const {
    if (kRowsAreKeys || lane == 0) mbarrier_arrive(&barriers->empty[stage]);
  }
  // Some of the group's rows meet some of the columns from `column` on.
  __device__ __forceinline__ bool meets(int column) const {
    return kRowsAreKeys ? column + kColumns > limit && limit < int(p.n) : column < limit;
  }
  // Some of them do not.
  __device__ __forceinline__ bool edge(int column) const {
    return column + kColumns > (kRowsAreKeys ? int(p.n) : full) || (kRowsAreKeys && column < full);
  }
  // 0 where a query does not see a key or there is none.
  __device__ __forceinline__ void clear_hidden(int column, Scores& x) const {
    const int first = column + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int own = row + half * 8, from = kRowsAreKeys && p.causal ? own - int(p.last_key) - first : 0,
                to = kRowsAreKeys ? int(p.n) - first : visible_columns(p, own, first);
#pragma unroll
      for (int j = 0; j < kColumns / 8; j++)
#pragma unroll
        for (int c = 0; c < 2; c++)
          if (j * 8 + c < from || j * 8 + c >= to) x[j * 4 + half * 2 + c] = 0;
    }
  }
  // Calls update(element, what is known of its query) for all of them.
  template <class Update>
  __device__ __forceinline__ void for_each(const float* of_columns, const float (&of_rows)[2], Update update) const {
#pragma unroll
    for (int pair = 0; pair < kColumns / 16; pair++) {
      typename At::Known::Quad quad = {};
      if (kRowsAreKeys) quad = At::Known::quad(of_columns, pair);
#pragma unroll
      for (int i = 0; i < 8; i++) update(pair * 8 + i, kRowsAreKeys ? quad.of[i / 4 * 2 + i % 2] : of_rows[i / 2 % 2]);
    }
  }

  // A tile of columns, which has come. `held`: the stage whose products are under way, or -1; then this one's.
  __device__ __forceinline__ void meet(int column, int stage, int& held, float (&dx)[kD / 2],
                                       float (&dy)[kRowsAreKeys ? kD / 2 : 1]) const {
    Scores s, slopes;
    Weights<kColumns> weights, slope_weights;
    const uint32_t x = shared_address(shared_memory()) + uint32_t(group * kGroupRows * 128);
    const uint32_t u = shared_address(shared_memory()) + uint32_t(At::kU + stage * At::kOther),
                   w = u + uint32_t(At::kW - At::kU);
    const auto* known = shared_memory_as<typename At::Known>(At::kKnown) + stage;
    const bool hides = edge(column);
    start_scores<T, kRows, kD, kColumns>(x + At::kX, u, s);
    wgmma_wait<1>();
    if (held >= 0) release(held);
    held = stage;
    start_scores<T, kRows, kD, kColumns>(x + At::kY, w, slopes);
    wgmma_wait<1>();
    wgmma_keep(s);
    for_each(known->lse, lse, [&](int i, float lse) { s[i] = exp2_fast(s[i] * scale - lse); });
    if (hides) clear_hidden(column, s);
    wgmma_wait<0>();
    wgmma_keep(slopes);
    for_each(known->delta, delta, [&](int i, float delta) { slopes[i] = s[i] * (slopes[i] - delta); });
    if (hides) clear_hidden(column, slopes);
    // Nothing that a product reads may be made while another is under way: ptxas would let them wait for each other.
    round_weights<T, kColumns>(reinterpret_cast<const Fragment<kColumns>&>(slopes), slope_weights);
    if constexpr (kRowsAreKeys) {
      round_weights<T, kColumns>(reinterpret_cast<const Fragment<kColumns>&>(s), weights);
      start_values<T, kD, kColumns>(weights, w, dy);
    }
    start_values<T, kD, kColumns>(slope_weights, u, dx);
  }
  __device__ __forceinline__ void walk(float (&dx)[kD / 2], float (&dy)[kRowsAreKeys ? kD / 2 : 1]) const {
    int held = -1;
    Cursor<kD, kRowsAreKeys> at(work);
    if (at.left == 0) return;
    mbarrier_wait(&barriers->own, 0);
    for (; at.left > 0; at.advance(work)) {
      mbarrier_wait(&barriers->full[at.ring.stage], at.ring.parity);
      if (meets(at.column)) {
        meet(at.column, at.ring.stage, held, dx, dy);
        continue;
      }
      // What is held must not wait for a tile that may need its place.
      wgmma_wait<0>();
      if (held >= 0) release(held);
      held = -1;
      release(at.ring.stage);
    }
    wgmma_wait<0>();
    wgmma_keep(dx);
    wgmma_keep(dy);
  }
};

template <class T, int kD, bool kRowsAreKeys>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    backward(const __grid_constant__ Maps maps, const __grid_constant__ BackwardProblem p) {
  using At = Places<kD, kRowsAreKeys>;
  auto* barriers = shared_memory_as<Barriers<At::kCount>>(At::kBarriers);
  const Work<kD, kRowsAreKeys> work(p);
  if (threadIdx.x == 0) {
    mbarrier_init(&barriers->own, 1);
    for (int i = 0; i < At::kCount; i++) {
      // TMA, and a warp that fetches lse and delta; what release() says.
      mbarrier_init(&barriers->full[i], kRowsAreKeys ? 1 + 32 : 1);
      mbarrier_init(&barriers->empty[i], kGroups * (kRowsAreKeys ? kGroupThreads : 4));
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  const int group = int(threadIdx.x) / kGroupThreads;
  if (group == 0) {
    registers_release<Shape::kProducerRegisters>();
    if (threadIdx.x == 0) ask_tiles<kD, kRowsAreKeys>(maps, work, barriers);
    if constexpr (kRowsAreKeys)
      if (threadIdx.x / 32 == 1) fetch_statistics<kD>(p, work, barriers);
  } else {
    registers_claim<Shape::kConsumerRegisters>();
    const Consumer<T, kD, kRowsAreKeys> consumer(p, work, barriers, group - 1);
    float dx[kD / 2] = {}, dy[kRowsAreKeys ? kD / 2 : 1] = {};
    consumer.walk(dx, dy);
    const float scale = float(p.scale);
    const int first = work.first + consumer.group * kGroupRows;
    store_rows<T, kRows, kD>(maps.dx, shared_memory() + At::kX, consumer.group, first, work.hi, work.bi, int(p.d),
                             {scale, scale}, dx);
    if constexpr (kRowsAreKeys)
      store_rows<T, kRows, kD>(maps.dy, shared_memory() + At::kY, consumer.group, first, work.hi, work.bi, int(p.e),
                               {1, 1}, dy);
    await_stores();
  }
}

// ---- launching

template <class T, int kD, bool kRowsAreKeys>
void launch(const CudaCall& call, const BackwardProblem& p) {
  constexpr uint32_t kBox = kStep<kD, kRowsAreKeys>;
  const View &q = call.in[0], &k = call.in[1], &v = call.in[2], &d_o = call.in[7];
  const View &dx = call.out[kRowsAreKeys ? 1 : 0], &dy = call.out[kRowsAreKeys ? 2 : 0];
  const Maps maps{map_of(call, kRowsAreKeys ? k : q, kRows),
                  map_of(call, kRowsAreKeys ? v : d_o, kRows),
                  map_of(call, kRowsAreKeys ? q : k, kBox),
                  map_of(call, kRowsAreKeys ? d_o : v, kBox),
                  map_of(call, dx, kGroupRows),
                  map_of(call, dy, kGroupRows)};
  call.launch(backward<T, kD, kRowsAreKeys>,
              {.grid = dim3(unsigned(dx.shape[0] * dx.shape[1] * ceil_div(dx.shape[2], kRows))),
               .block = dim3(Shape::kThreads),
               .shared = size_t(Places<kD, kRowsAreKeys>::kBytes)},
              maps, p);
}
template <class T, int kD>
void launch(const CudaCall& call, const BackwardProblem& p) {
  launch<T, kD, false>(call, p);
  launch<T, kD, true>(call, p);
}

}  // namespace

bool suits_backward_sm90(const AttentionProblem& p, Views in) {
  return !p.edits_scores() && has_map(in[0]) && has_map(in[1]) && has_map(in[2]) && has_map(in[7]);
}
template <class T>
void attention_backward_sm90(const CudaCall& call, const BackwardProblem& p) {
  if (max_of(p.d, p.e) <= 64) launch<T, 64>(call, p);
  else launch<T, 128>(call, p);
}
template void attention_backward_sm90<Half>(const CudaCall&, const BackwardProblem&);
template void attention_backward_sm90<Bfloat16>(const CudaCall&, const BackwardProblem&);

}  // namespace fovea::cuda
