// Attention of 16-bit floats on tensor cores, mma.sync m16n8k16 with sums in float32 (FlashAttention-2, Dao 2023,
// https://arxiv.org/abs/2307.08691). A block of four warps owns 64 or 128 queries and walks over the keys, 64 at a
// time.
//
// Keys and values have one tile each in shared memory, filled by cp.async: the next keys arrive while the softmax and
// the second product run, the next values during the first product. Two blocks per multiprocessor fill the gaps.
#include "ops/attention/cuda_dropout.h"
#include "ops/attention/cuda_kernels.h"
#include "ops/attention/cuda_softmax.h"

namespace fovea::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32, kKeys = 64;

// Dropout of a fragment of weights, whose first query and key are (first, j0).
template <int kGroups>
__device__ __forceinline__ void drop_keys(const AttentionProblem& p, int bi, int hi, int first, int j0,
                                          float (&s)[kGroups][4]) {
#pragma unroll
  for (int j = 0; j < kGroups; j += 2) {
    float factors[2][4];
    fragment_factors<false>(p, bi, hi, first, j0 + j * 8, factors);
#pragma unroll
    for (int i = 0; i < 8; i++) s[j + i / 4][i % 4] *= factors[i / 4][i % 4];
  }
}

// kTiles: of 16 queries per warp. kEdits: with bias, mask, dropout or a scale that is not positive.
template <class T, int kD, int kTiles, bool kEdits>
__global__ void __launch_bounds__(kThreads, 2) forward(AttentionProblem p, T* o_out, float* lse) {
  constexpr int kRows = kWarps * 16 * kTiles;
  constexpr int kKeysAt = kFragmentTileBytes<kRows, kD>, kValuesAt = kKeysAt + kFragmentTileBytes<kKeys, kD>;
  const int n = int(p.n), m = int(p.m), d = int(p.d), e = int(p.e);
  const int blocks = (n + kRows - 1) / kRows, head = int(blockIdx.x) / blocks, bi = head / int(p.h),
            hi = head % int(p.h);
  // Backwards: with causality the last queries have the most work, which is best begun first.
  const int first = (blocks - 1 - int(blockIdx.x) % blocks) * kRows, row = int(threadIdx.x) / 32 * 16 * kTiles;
  const T *k = p.k.at<T>(bi, hi / p.group), *v = p.v.at<T>(bi, hi / p.group);
  const uint32_t q_tile = shared_address(shared_memory()), k_tile = q_tile + kKeysAt, v_tile = q_tile + kValuesAt;
  const int seen = int(p.visible_keys(min_of(first + kRows, n) - 1));
  const float scale = kEdits ? 1 : float(p.scale * kLog2e);

  ask_tile<kRows, kD, kThreads>(q_tile, p.q.at<T>(bi, hi), int(p.q.row), first, n, d);
  ask_tile<kKeys, kD, kThreads>(k_tile, k, int(p.k.row), 0, m, d);
  cp_async_commit();
  Fragment<kD> o[kTiles] = {};
  RowSoftmax softmax[kTiles];
  for (int j0 = 0; j0 < seen; j0 += kKeys) {
    // Some query does not see some key. Not kept in a register from tile to tile: there are just enough.
    const bool edge = (kEdits && (p.bias.data || p.mask.data)) || j0 + kKeys > visible_columns(p, first, 0);
    cp_async_wait<0>();
    __syncthreads();
    ask_tile<kKeys, kD, kThreads>(v_tile, v, int(p.v.row), j0, m, e);
    cp_async_commit();
    Fragment<kKeys> s[kTiles];
    Weights<kKeys> weights[kTiles];
    Seen<kKeys> seen_keys[kTiles];
    multiply_rows<T, kD, kRows, kKeys>(q_tile, row, k_tile, s);
    cp_async_wait<0>();
    const bool special =
        __syncthreads_or(edge && p.hides() && special_in_tile<kKeys, kD, kThreads, T>(shared_memory() + kValuesAt));
    if (j0 + kKeys < seen) ask_tile<kKeys, kD, kThreads>(k_tile, k, int(p.k.row), j0 + kKeys, m, d);
    cp_async_commit();
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      float shrink[2];
      if constexpr (kEdits) edit_keys(p, HeadEdits<T>(p, bi, hi), first + row + t * 16, j0, s[t]);
      else if (edge) hide_keys(p, first + row + t * 16, j0, s[t]);
      soften(s[t], scale, softmax[t], shrink);
      shrink_sums(o[t], shrink);
      if (kEdits && p.threshold) drop_keys(p, bi, hi, first + row + t * 16, j0, s[t]);
      if (special) find_seen<kKeys>(s[t], seen_keys[t]);
      round_weights<T, kKeys>(s[t], weights[t]);
    }
    if (!special) {
      add_weighted_rows<T, kD, kKeys>(weights, v_tile, o);
    } else {
#pragma unroll
      for (int t = 0; t < kTiles; t++)
        add_visible_rows<T, kD, kKeys>(weights[t], v_tile, o[t],
                                       [&](int j, uint32_t(&ones)[4]) { seen_ones<T, kKeys>(seen_keys[t], j, ones); });
    }
  }
  cp_async_wait<0>();
#pragma unroll
  for (int t = 0; t < kTiles; t++) {
    float factors[2];
    finish_rows(softmax[t], scale, lse + int64_t(head) * n, first + row + t * 16, n, factors);
    write_rows<T, kD>(o[t], factors, o_out + int64_t(head) * n * e, first + row + t * 16, n, e);
  }
}

template <class T, int kD, int kTiles, bool kEdits>
void launch(const CudaCall& call, const AttentionProblem& p) {
  constexpr int kRows = kWarps * 16 * kTiles;
  const Config config{.grid = dim3(unsigned(p.b * p.h * ceil_div(p.n, kRows))),
                      .block = dim3(kThreads),
                      .shared = size_t(kFragmentTileBytes<kRows, kD> + 2 * kFragmentTileBytes<kKeys, kD>)};
  call.launch(forward<T, kD, kTiles, kEdits>, config, p, call.out[0].as<T>(), call.out[1].as<float>());
}
template <class T, int kD>
void launch(const CudaCall& call, const AttentionProblem& p) {
  const bool many = p.b * p.h * ceil_div(p.n, 128) >= call.device.multiprocessors;
  if (p.edits_scores() || !(p.scale > 0)) launch<T, kD, 1, true>(call, p);
  else if (p.n <= 64 || !many) launch<T, kD, 1, false>(call, p);
  else launch<T, kD, 2, false>(call, p);
}

}  // namespace

template <class T>
void attention_sm80(const CudaCall& call, const AttentionProblem& p) {
  const int64_t width = max_of(p.d, p.e);
  if (width <= 64) launch<T, 64>(call, p);
  else if (width <= 96) launch<T, 96>(call, p);
  else launch<T, 128>(call, p);
}
template void attention_sm80<Half>(const CudaCall&, const AttentionProblem&);
template void attention_sm80<Bfloat16>(const CudaCall&, const AttentionProblem&);

}  // namespace fovea::cuda
