// Attention of a few queries over many keys, 16-bit floats on tensor cores (mma.sync m16n8k16): as cuda_decode.cu, but
// with so little arithmetic for each key that only memory counts.
//
// A warp walks over its keys, 16 or 32 at a time, with a softmax of its own; warps, then splits are combined at the
// end. The queries that share a key head, up to 16, are the rows of the scores and the columns of the sums:
//   S[16 rows, 8 keys] += Q[16, 16] K^T[16, 8]     O^T[16 columns, 8 rows] += V^T[16, 16 keys] P^T[16 keys, 8 rows]
// so that scores, rounded, already lie as the right operand of the second product wants them. Neither product minds the
// order of the columns of K and V: a lane takes 16 bytes of a row as they come, for two steps of the first product or
// four of the second. The 512 bytes that a warp asks for at a time (cp.async) lie in a row, and go to a ring of its own
// in shared memory, which holds what is under way, more than registers could; no other warp waits for them.
#include "cuda/ptx.h"
#include "ops/attention/cuda_decode.h"
#include "ops/attention/cuda_fragments.h"
#include "ops/attention/cuda_kernels.h"

namespace fovea::cuda {
namespace {

// Of a warp, for rows of up to kD elements: keys of a step, bytes of their rows, and steps that are under way.
template <int kD>
struct Shape {
  static constexpr int kKeys = kD <= 64 ? 32 : 16, kBytes = kKeys * kD * 2;
  static constexpr int kStages = int(kDecodeRing) / (kDecodeWarps * 2 * kBytes), kRing = kStages * 2 * kBytes;
  static_assert(kKeys <= kDecodeStep && kStages > 0);
};
struct alignas(16) ChunkPairs {
  uint32_t pair[4];
};
// A step's rows in shared memory, one after the other, their 16-byte chunks permuted so that the eight that are read at
// once lie in different banks: of two keys of K, four chunks each; of four keys of V, two chunks each. origin(): where
// a lane's first chunk lies; further(): the same chunk `keys` rows on, which is known at compile time.
template <int kD>
struct KeyTile {
  static __device__ __forceinline__ uint32_t origin(int key, int chunk) {
    return uint32_t(key * kD * 2 + ((chunk ^ key % 2 * 4) << 4));
  }
  static __device__ __forceinline__ uint32_t further(uint32_t origin, int keys) {
    return (origin ^ uint32_t(keys % 2 * 64)) + uint32_t(keys * kD * 2);
  }
  // And `chunks` chunks on, a multiple of 4.
  static __device__ __forceinline__ uint32_t further(uint32_t origin, int keys, int chunks) {
    return further(origin ^ uint32_t(chunks % 8 * 16), keys) + uint32_t(chunks / 8 * 128);
  }
};
template <int kD>
struct ValueTile {
  static __device__ __forceinline__ uint32_t origin(int key, int chunk) {
    return uint32_t(key * kD * 2 + ((chunk ^ key / 2 % 4 * 2) << 4));
  }
  static __device__ __forceinline__ uint32_t further(uint32_t origin, int keys) {
    return (origin ^ uint32_t(keys / 2 % 4 * 32)) + uint32_t(keys * kD * 2);
  }
};
__device__ __forceinline__ ChunkPairs chunk_at(uint32_t at) {
  return *reinterpret_cast<const ChunkPairs*>(shared_memory() + at);
}

// The warp asks for the rows of a step: each lane for a chunk of every few keys, neighbours for neighbours. `from`: the
// lane's first; left: how many keys there are from its key on; inside: its chunk is one of the row.
template <int kD>
struct Share {
  static constexpr int kAcross = kD / kChunk, kTogether = 32 / kAcross;  // keys at a time
  int key = int(threadIdx.x) % 32 / kAcross, chunk = int(threadIdx.x) % 32 % kAcross;
};
template <template <int> class Tile, int kD, class T>
__device__ __forceinline__ void ask_rows(uint32_t to, const T* from, int64_t row, int left, bool inside) {
  using S = Share<kD>;
  const S share;
  const uint32_t origin = Tile<kD>::origin(share.key, share.chunk);
#pragma unroll
  for (int key = 0; key < Shape<kD>::kKeys; key += S::kTogether)
    cp_async_16(to + Tile<kD>::further(origin, key), from + key * row, key < left && inside);
}

// Rows of Q as left operands; their columns in the order in which lanes have those of K.
template <class T, int kD>
__device__ __forceinline__ void load_queries(const AttentionProblem& p, const DecodePart& part,
                                             uint32_t (&q)[kD / 16][4]) {
  const int lane = int(threadIdx.x) % 32, first = lane % 4 * kChunk;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = lane / 4 + half * 8;
    const T* row = r < part.rows ? p.q.at<T>(part.bi, part.head(p, r), part.query(p, r)) : nullptr;
#pragma unroll
    for (int i = 0; i < kD / 32; i++) {
      ChunkPairs x = {};
      if (row && first + i * 32 < int(p.d)) x = *reinterpret_cast<const ChunkPairs*>(row + first + i * 32);
#pragma unroll
      for (int j = 0; j < 4; j++) q[i * 2 + j / 2][j % 2 * 2 + half] = x.pair[j];
    }
  }
}

// s[u]: rows times keys 8 u to 8 u + 7 of the step that lies at `at`. The lane has chunks lane % 4, + 4, ... of keys
// lane / 4, + 8, ...
template <class T, int kD>
__device__ __forceinline__ void multiply_keys(const uint32_t (&q)[kD / 16][4], uint32_t at,
                                              Fragment<Shape<kD>::kKeys>& s) {
  const int lane = int(threadIdx.x) % 32;
  const uint32_t origin = KeyTile<kD>::origin(lane / 4, lane % 4);
#pragma unroll
  for (int u = 0; u < Shape<kD>::kKeys / 8; u++) s[u][0] = s[u][1] = s[u][2] = s[u][3] = 0;
#pragma unroll
  for (int i = 0; i < kD / 32; i++)
#pragma unroll
    for (int u = 0; u < Shape<kD>::kKeys / 8; u++) {
      const ChunkPairs k = chunk_at(at + KeyTile<kD>::further(origin, u * 8, i * 4));
      mma_m16n8k16<T>(s[u], q[i * 2], k.pair[0], k.pair[1]);
      mma_m16n8k16<T>(s[u], q[i * 2 + 1], k.pair[2], k.pair[3]);
    }
}

// What a warp knows of its rows. o[half][4 i + w]: columns 64 i + 8 (lane / 4) + 2 w (elements 0 and 1) and the next (2
// and 3) of rows 8 half + 2 (lane % 4) (0 and 2) and the next (1 and 3); top and total: of row 8 half + lane / 4, the
// latter of this lane's keys only.
template <int kD, int kHalves>
struct RowSums {
  float o[kHalves][kD / 16][4] = {}, top[kHalves], total[kHalves] = {};
};
// Turns s2 into 2^(s2 - top).
template <int kD, int kHalves, int kGroups>
__device__ __forceinline__ void soften(float (&s)[kGroups][4], RowSums<kD, kHalves>& sums) {
  float highest[kHalves];
  bool grows = false;
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    highest[half] = sums.top[half];
#pragma unroll
    for (int j = 0; j < kGroups; j++)
#pragma unroll
      for (int i = half * 2; i < half * 2 + 2; i++) highest[half] = fmaxf(highest[half], s[j][i]);
    highest[half] = across_quad(highest[half], [](float a, float b) { return fmaxf(a, b); });
    grows |= highest[half] > sums.top[half];
  }
  if (__any_sync(0xffffffffu, grows)) {           // seldom, after the first steps
    const int column = int(threadIdx.x) % 4 * 8;  // the lane that has the row of this lane's first column
#pragma unroll
    for (int half = 0; half < kHalves; half++) {
      const float base = highest[half] == -kInfinity<float> ? 0 : highest[half];  // -inf - -inf would be NaN
      const float shrink = exp2_fast(sums.top[half] - base);
      const float even = __shfl_sync(0xffffffffu, shrink, column), odd = __shfl_sync(0xffffffffu, shrink, column + 4);
      sums.top[half] = highest[half], sums.total[half] *= shrink;
#pragma unroll
      for (int t = 0; t < kD / 16; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums.o[half][t][i] *= i % 2 ? odd : even;
    }
  }
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    const float base = sums.top[half] == -kInfinity<float> ? 0 : sums.top[half];
#pragma unroll
    for (int j = 0; j < kGroups; j++)
#pragma unroll
      for (int i = half * 2; i < half * 2 + 2; i++) s[j][i] = exp2_fast(s[j][i] - base), sums.total[half] += s[j][i];
  }
}

// Values of one column of the sums each, and the weights of kHalves times 8 rows that meet them.
template <class T, int kHalves>
struct WeightPairs {
  uint32_t rounded[kHalves][2], seen[kHalves][2];  // seen: 1 where a weight is not 0 before it is rounded

  template <int kGroups>
  __device__ __forceinline__ WeightPairs(const float (&s)[kGroups][4], int tile) {
#pragma unroll
    for (int half = 0; half < kHalves; half++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float low = s[tile * 2 + i][half * 2], high = s[tile * 2 + i][half * 2 + 1];
        rounded[half][i] = pack_pair<T>(low, high);
        seen[half][i] = pack_pair<T>(low != 0 ? 1.0f : 0.0f, high != 0 ? 1.0f : 0.0f);
      }
  }
};
// Products of values of which some are infinite or NaN, where a weight of 0 must keep those out: rare. The sums of what
// is finite are the same to the bit.
template <class T, int kHalves, class Sum>
__device__ __forceinline__ void add_guarded(const uint32_t (&values)[4], const WeightPairs<T, kHalves>& weights,
                                            Sum sum) {
  uint32_t finite[4], up[4], down[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    finite[i] = keep_pair<T, Keep::finite>(values[i]);
    up[i] = keep_pair<T, Keep::up>(values[i]), down[i] = keep_pair<T, Keep::down>(values[i]);
  }
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    float ups[4] = {}, downs[4] = {};  // how many are seen; NaN is both
    mma_m16n8k16<T>(sum(half), finite, weights.rounded[half][0], weights.rounded[half][1]);
    mma_m16n8k16<T>(ups, up, weights.seen[half][0], weights.seen[half][1]);
    mma_m16n8k16<T>(downs, down, weights.seen[half][0], weights.seen[half][1]);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (ups[i] > 0) sum(half)[i] += kInfinity<float>;
      if (downs[i] > 0) sum(half)[i] -= kInfinity<float>;
    }
  }
}
// o += weights times the values of the step that lies at `at`. The lane has chunks lane / 4, + 8, ... of keys t, t + 1,
// t + 8, t + 9, t + 16, ... with t = 2 (lane % 4).
template <class T, bool kGuarded, int kD, int kHalves>
__device__ __forceinline__ void add_values(const Fragment<Shape<kD>::kKeys>& s, uint32_t at,
                                           RowSums<kD, kHalves>& sums) {
  const int lane = int(threadIdx.x) % 32;
  const uint32_t origin = ValueTile<kD>::origin(lane % 4 * 2, lane / 4);
#pragma unroll
  for (int tile = 0; tile < Shape<kD>::kKeys / 16; tile++) {
    const WeightPairs<T, kHalves> weights(s, tile);
#pragma unroll
    for (int i = 0; i < kD / 64; i++) {
      ChunkPairs v[4];
#pragma unroll
      for (int u = 0; u < 4; u++)
        v[u] = chunk_at(at + ValueTile<kD>::further(origin, tile * 16 + u / 2 * 8 + u % 2) + uint32_t(i * 128));
#pragma unroll
      for (int w = 0; w < 4; w++) {
        // Two neighbouring keys in a register: of column 2 w, then of the next.
        const uint32_t values[4] = {
            __byte_perm(v[0].pair[w], v[1].pair[w], 0x5410), __byte_perm(v[0].pair[w], v[1].pair[w], 0x7632),
            __byte_perm(v[2].pair[w], v[3].pair[w], 0x5410), __byte_perm(v[2].pair[w], v[3].pair[w], 0x7632)};
        auto sum = [&](int half) -> float(&)[4] { return sums.o[half][i * 4 + w]; };
        bool special = false;
        if constexpr (kGuarded) {
          for (uint32_t pair : values) special |= special_in_pair<T>(pair);
          special = __any_sync(0xffffffffu, special);
        }
        if (special) {
          add_guarded(values, weights, sum);
        } else {
#pragma unroll
          for (int half = 0; half < kHalves; half++)
            mma_m16n8k16<T>(sum(half), values, weights.rounded[half][0], weights.rounded[half][1]);
        }
      }
    }
  }
}

// The steps of a warp: every kDecodeWarps-th of the `end` keys of the part.
template <class T, int kD, int kHalves>
__device__ __forceinline__ void walk_keys(const AttentionProblem& p, const DecodePart& part, int end,
                                          RowSums<kD, kHalves>& sums) {
  using S = Shape<kD>;
  constexpr int kStride = kDecodeWarps * S::kKeys;
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const int key = lane / 4, value = lane % 4 * 2;  // that the lane has scores of: rows and columns
  const Share<kD> share;
  const bool inside = share.chunk * kChunk < int(p.d);
  const uint32_t ring = uint32_t(warp * S::kRing), shared = shared_address(shared_memory());
  int j = warp * S::kKeys;  // the step's first key
  const T *keys = p.k.at<T>(part.bi, part.gi, part.begin + j + share.key) + share.chunk * kChunk,
          *values = p.v.at<T>(part.bi, part.gi, part.begin + j + share.key) + share.chunk * kChunk;
  auto ask_next_keys = [&](int first, uint32_t to) {
    if (first < end) ask_rows<KeyTile, kD>(shared + to, keys, p.k.row, end - first - share.key, inside);
    keys += kStride * p.k.row;
    cp_async_commit();
  };
  auto ask_next_values = [&](int first, uint32_t to) {
    if (first < end) ask_rows<ValueTile, kD>(shared + to, values, p.v.row, end - first - share.key, inside);
    values += kStride * p.v.row;
    cp_async_commit();
  };
  for (int stage = 0; stage < S::kStages; stage++) {
    ask_next_keys(j + stage * kStride, ring + uint32_t(stage * 2 * S::kBytes));
    ask_next_values(j + stage * kStride, ring + uint32_t((stage * 2 + 1) * S::kBytes));
  }
  const float scale = float(p.scale * kLog2e);
  const int open = int(clamp_to(p.visible_keys(0) - part.begin, 0, end));  // keys that every query sees
  int visible[kHalves];
#pragma unroll
  for (int half = 0; half < kHalves; half++) visible[half] = part.visible(p, end, key + half * 8);
  uint32_t q[kD / 16][4];
  load_queries<T, kD>(p, part, q);

  for (uint32_t at = 0; j < end; j += kStride) {
    Fragment<S::kKeys> s;
    const bool edge = j + S::kKeys > open;
    cp_async_wait<2 * S::kStages - 1>();
    __syncwarp();
    multiply_keys<T, kD>(q, ring + at, s);
    __syncwarp();
    ask_next_keys(j + S::kStages * kStride, ring + at);
#pragma unroll
    for (int u = 0; u < S::kKeys / 8; u++)
#pragma unroll
      for (int i = 0; i < kHalves * 2; i++) {
        s[u][i] *= scale;
        if (edge && j + u * 8 + value + i % 2 >= visible[i / 2]) s[u][i] = -kInfinity<float>;
      }
    soften(s, sums);
    cp_async_wait<2 * S::kStages - 1>();
    __syncwarp();
    if (edge && p.causal) add_values<T, true>(s, ring + at + S::kBytes, sums);
    else add_values<T, false>(s, ring + at + S::kBytes, sums);
    __syncwarp();
    ask_next_values(j + S::kStages * kStride, ring + at + S::kBytes);
    at = at + 2 * S::kBytes == S::kRing ? 0 : at + 2 * S::kBytes;
  }
}

template <class T, int kD, int kHalves>
__global__ void __launch_bounds__(kDecodeThreads, 2)
    decode(AttentionProblem p, DecodePlan plan, DecodeOutputs outputs) {
  constexpr int kRows = kHalves * 8;
  const DecodePart part(p, plan);
  const int width = int(p.e), lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  RowSums<kD, kHalves> sums;
#pragma unroll
  for (int half = 0; half < kHalves; half++) sums.top[half] = -kInfinity<float>;
  walk_keys<T>(p, part, part.keys(p, plan), sums);
  __syncthreads();  // others may still read what was under way
  float *o = shared_memory_as<float>() + warp * kRows * width,
        *known = shared_memory_as<float>() + kDecodeWarps * kRows * width + warp * kRows * 2;
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
#pragma unroll
    for (int t = 0; t < kD / 16; t++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int r = half * 8 + lane % 4 * 2 + i % 2, column = t / 4 * 64 + lane / 4 * 8 + t % 4 * 2 + i / 2;
        if (column < width) o[r * width + column] = sums.o[half][t][i];
      }
    const float total = across_quad(sums.total[half], [](float a, float b) { return a + b; });
    const int r = half * 8 + lane / 4;
    if (lane % 4 == 0) known[r * 2] = sums.top[half], known[r * 2 + 1] = total;
  }
  __syncthreads();
  write_block<T, kRows>(p, plan, part, outputs);
}

template <class T, int kD, int kHalves>
void launch(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan) {
  constexpr size_t kBytes = size_t(kDecodeWarps) * Shape<kD>::kRing;
  const size_t end = decode_shared_bytes<float>(p, kHalves * 8);
  const DecodeOutputs outputs = DecodeOutputs::of<float>(call, p, plan);
  call.launch(decode<T, kD, kHalves>,
              {.grid = plan.grid(p), .block = dim3(kDecodeThreads), .shared = kBytes > end ? kBytes : end}, p, plan,
              outputs);
  combine_splits<T>(call, p, plan, outputs);
}
template <class T, int kD>
void launch(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan) {
  if constexpr (kD <= 128)
    if (plan.rows_each > 8) return launch<T, kD, 2>(call, p, plan);
  launch<T, kD, 1>(call, p, plan);
}

}  // namespace

template <class T>
void attention_decode_sm80(const CudaCall& call, const AttentionProblem& p) {
  const DecodePlan plan(p, call.in[0].dtype, call.device);
  if (p.d <= 64) launch<T, 64>(call, p, plan);
  else if (p.d <= 128) launch<T, 128>(call, p, plan);
  else launch<T, 256>(call, p, plan);
}
template void attention_decode_sm80<Half>(const CudaCall&, const AttentionProblem&);
template void attention_decode_sm80<Bfloat16>(const CudaCall&, const AttentionProblem&);

}  // namespace fovea::cuda
