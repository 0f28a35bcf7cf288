// Tiles of 16-bit rows in shared memory and their products by warps, for the tensor-core kernels of attention.
//
// A tile of kRows rows lies in panels of 64 columns: rows of 128 bytes whose 16-byte chunks are permuted (chunk ^ row %
// 8), so that the eight that ldmatrix reads at once lie in different banks. TMA's 128-byte swizzle is the same
// permutation. Widths are padded to kD columns with zeros.
#pragma once
#include "cuda/ptx.h"
#include "ops/attention/cuda_problem.h"

namespace fovea::cuda {

constexpr int kChunk = 8;  // elements of 16 bytes
template <int kRows>
constexpr int kPanelBytes = kRows * 128;
template <int kRows, int kD>
constexpr int kFragmentTileBytes = (kD + 63) / 64 * kPanelBytes<kRows>;

// Where chunk `chunk` of a row lies in a tile.
template <int kRows>
__device__ __forceinline__ uint32_t chunk_offset(int row, int chunk) {
  return uint32_t(chunk / 8 * kPanelBytes<kRows> + row * 128 + ((chunk % 8 ^ row % 8) << 4));
}
// The address of chunk 2 step + odd of a row, from that of chunk `odd`: what is known at compile time comes last.
template <int kRows>
__device__ __forceinline__ uint32_t step_address(uint32_t origin, int step) {
  return (origin ^ uint32_t(step % 4 * 32)) + uint32_t(step / 4 * kPanelBytes<kRows>);
}

// How kThreads threads share the chunks of a tile: thread i has chunk i % kAcross of rows i / kAcross and every
// kStep-th after it, which lie kStep * 128 bytes apart.
template <int kRows, int kD, int kThreads>
struct TileShare {
  static constexpr int kAcross = kD <= 64 ? 8 : 16, kStep = kThreads / kAcross, kCount = kRows / kStep;
  static_assert(kStep % 8 == 0);
  int row = int(threadIdx.x) / kAcross, chunk = int(threadIdx.x) % kAcross;
  __device__ __forceinline__ bool takes_part() const { return chunk < kD / kChunk; }
  __device__ __forceinline__ uint32_t offset(int i) const {
    return chunk_offset<kRows>(row, chunk) + uint32_t(i * kStep * 128);
  }
};
// Asks for rows [first, first + kRows) by all kThreads threads; zeros beyond `rows` and `width`.
template <int kRows, int kD, int kThreads, class T>
__device__ __forceinline__ void ask_tile(uint32_t tile, const T* head, int stride, int first, int rows, int width) {
  const TileShare<kRows, kD, kThreads> share;
  if (!share.takes_part()) return;
  const T* from = head + int64_t(first + share.row) * stride + share.chunk * kChunk;
  int left = share.chunk * kChunk < width ? rows - first - share.row : 0;
  uint32_t to = tile + share.offset(0);
#pragma unroll 1
  for (int i = 0; i < share.kCount; i++) {
    cp_async_16(to, from, left > 0);
    from += share.kStep * stride, left -= share.kStep, to += share.kStep * 128;
  }
}

// The bits of the exponent, all set in what is infinite or NaN.
template <class T>
constexpr uint32_t kExponent = kSame<T, Half> ? 0x7c00 : 0x7f80;
template <class T>
__device__ __forceinline__ bool special_in_chunk(const std::byte* at) {
  constexpr uint32_t kLow = kExponent<T>, kHigh = kLow << 16;
  const uint4 chunk = *reinterpret_cast<const uint4*>(at);
  bool special = false;
  for (uint32_t pair : {chunk.x, chunk.y, chunk.z, chunk.w})
    special |= (pair & kLow) == kLow || (pair & kHigh) == kHigh;
  return special;
}
// Whether some element is infinite or NaN of those that this thread asked for, after it has waited for them.
template <int kRows, int kD, int kThreads, class T>
__device__ __forceinline__ bool special_in_tile(const std::byte* tile) {
  const TileShare<kRows, kD, kThreads> share;
  bool special = false;
  for (int i = 0; share.takes_part() && i < share.kCount; i++) special |= special_in_chunk<T>(tile + share.offset(i));
  return special;
}

// What a warp holds of a tile of products: c[4 t + ...] as mma leaves it, for 16 rows and kColumns columns.
template <int kColumns>
using Fragment = float[kColumns / 8][4];

// s[t] = rows [row + 16 t, row + 16 t + 16) of tile x times the kColumns rows of tile y.
template <class T, int kD, int kRows, int kColumns, int kTiles>
__device__ __forceinline__ void multiply_rows(uint32_t x, int row, uint32_t y, Fragment<kColumns> (&s)[kTiles]) {
  const int lane = int(threadIdx.x) % 32;
  const uint32_t left = x + chunk_offset<kRows>(row + lane % 16, lane / 16),
                 right = y + chunk_offset<kColumns>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
  for (int t = 0; t < kTiles; t++)
#pragma unroll
    for (int j = 0; j < kColumns / 8; j++) s[t][j][0] = s[t][j][1] = s[t][j][2] = s[t][j][3] = 0;
#pragma unroll
  for (int step = 0; step < kD / 16; step++) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; t++) ldmatrix_x4(a[t], step_address<kRows>(left, step) + uint32_t(t * 16 * 128));
#pragma unroll
    for (int j = 0; j < kColumns / 16; j++) {
      uint32_t b[4];
      ldmatrix_x4(b, step_address<kColumns>(right, step) + uint32_t(j * 16 * 128));
#pragma unroll
      for (int t = 0; t < kTiles; t++) {
        mma_m16n8k16<T>(s[t][2 * j], a[t], b[0], b[1]);
        mma_m16n8k16<T>(s[t][2 * j + 1], a[t], b[2], b[3]);
      }
    }
  }
}
// A fragment of weights, rounded, as the left operand of the next product: 16 columns each.
template <int kColumns>
using Weights = uint32_t[kColumns / 16][4];
template <class T, int kColumns>
__device__ __forceinline__ void round_weights(const Fragment<kColumns>& s, Weights<kColumns>& weights) {
#pragma unroll
  for (int j = 0; j < kColumns / 16; j++)
#pragma unroll
    for (int i = 0; i < 4; i++)
      weights[j][i] = pack_pair<T>(s[2 * j + i / 2][i % 2 * 2], s[2 * j + i / 2][i % 2 * 2 + 1]);
}
// o[t] += weights[t] times the kColumns rows of tile y.
template <class T, int kD, int kColumns, int kTiles>
__device__ __forceinline__ void add_weighted_rows(const Weights<kColumns> (&weights)[kTiles], uint32_t y,
                                                  Fragment<kD> (&o)[kTiles]) {
  const int lane = int(threadIdx.x) % 32;
  const uint32_t right = y + chunk_offset<kColumns>(lane % 16, lane / 16);
#pragma unroll
  for (int j = 0; j < kColumns / 16; j++)
#pragma unroll
    for (int step = 0; step < kD / 16; step++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, step_address<kColumns>(right, step) + uint32_t(j * 16 * 128));
#pragma unroll
      for (int t = 0; t < kTiles; t++) {
        mma_m16n8k16<T>(o[t][2 * step], weights[t][j], b[0], b[1]);
        mma_m16n8k16<T>(o[t][2 * step + 1], weights[t][j], b[2], b[3]);
      }
    }
}

// ---- values that are infinite or NaN, where keys are hidden: a weight of 0 must keep them out. Rare.

enum class Keep { finite, up, down };
// Of both elements of a pair: itself if finite, else 0; or 1 if it makes a sum +inf (infinite or NaN), else 0; or -inf.
template <class T, Keep kKeep>
__device__ __forceinline__ uint32_t keep_pair(uint32_t pair) {
  constexpr uint32_t kOne = kSame<T, Half> ? 0x3c00 : 0x3f80;
  uint32_t result = 0;
#pragma unroll
  for (int shift = 0; shift < 32; shift += 16) {
    const uint32_t x = pair >> shift & 0xffffu, magnitude = x & 0x7fffu;
    const bool special = magnitude >= kExponent<T>, nan = magnitude > kExponent<T>, negative = x != magnitude;
    if (kKeep == Keep::finite) result |= (special ? 0 : x) << shift;
    else result |= (special && (nan || negative == (kKeep == Keep::down)) ? kOne : 0u) << shift;
  }
  return result;
}
template <class T>
__device__ __forceinline__ bool special_in_pair(uint32_t pair) {
  return keep_pair<T, Keep::finite>(pair) != pair;
}
// c gains +inf or -inf where weights that are `seen` (1, or 0) meet such a value in the rows (b0, b1), NaN where they
// meet one.
template <class T>
__device__ __forceinline__ void add_special(float (&c)[4], const uint32_t (&seen)[4], uint32_t b0, uint32_t b1) {
  float up[4] = {};  // how many are seen; NaN is both
  mma_m16n8k16<T>(up, seen, keep_pair<T, Keep::up>(b0), keep_pair<T, Keep::up>(b1));
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (up[i] > 0) c[i] += kInfinity<float>;
  float down[4] = {};
  mma_m16n8k16<T>(down, seen, keep_pair<T, Keep::down>(b0), keep_pair<T, Keep::down>(b1));
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (down[i] > 0) c[i] -= kInfinity<float>;
}
// Two elements as an operand: 1 for what is seen, 0 for what is not.
template <class T>
__device__ __forceinline__ uint32_t pair_of_ones(bool low, bool high) {
  constexpr uint32_t kOne = kSame<T, Half> ? 0x3c00 : 0x3f80;
  return (low ? kOne : 0) | (high ? kOne << 16 : 0);
}
// One bit for each weight of a fragment: whether it is not 0, before it is rounded.
template <int kColumns>
using Seen = uint32_t[kColumns / 64];
template <int kColumns>
__device__ __forceinline__ void find_seen(const Fragment<kColumns>& s, Seen<kColumns>& seen) {
#pragma unroll
  for (int i = 0; i < kColumns / 64; i++) seen[i] = 0;
#pragma unroll
  for (int i = 0; i < kColumns / 2; i++) seen[i / 32] |= (s[i / 4][i % 4] != 0 ? 1u : 0u) << (i % 32);
}
template <class T, int kColumns>
__device__ __forceinline__ void seen_ones(const Seen<kColumns>& seen, int j, uint32_t (&ones)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t bits = seen[j / 4] >> (j % 4 * 8 + i * 2);
    ones[i] = pair_of_ones<T>(bits & 1, bits & 2);
  }
}
// add_weighted_rows for one tile of 16 rows. ones_of(j, ones): which weights of group j are seen, as an operand. The
// sums of what is finite are the same to the bit, so that a query does not change when a key that it cannot see becomes
// infinite.
template <class T, int kD, int kColumns, class OnesOf>
__device__ __forceinline__ void add_visible_rows(const Weights<kColumns>& weights, uint32_t y, Fragment<kD>& o,
                                                 OnesOf ones_of) {
  const int lane = int(threadIdx.x) % 32;
  const uint32_t right = y + chunk_offset<kColumns>(lane % 16, lane / 16);
#pragma unroll
  for (int j = 0; j < kColumns / 16; j++)
#pragma unroll
    for (int step = 0; step < kD / 16; step++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, step_address<kColumns>(right, step) + uint32_t(j * 16 * 128));
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint32_t b0 = b[2 * half], b1 = b[2 * half + 1];
        float(&sum)[4] = o[2 * step + half];
        mma_m16n8k16<T>(sum, weights[j], keep_pair<T, Keep::finite>(b0), keep_pair<T, Keep::finite>(b1));
        if (__any_sync(0xffffffffu, special_in_pair<T>(b0) || special_in_pair<T>(b1))) {
          uint32_t ones[4];
          ones_of(j, ones);
          add_special<T>(sum, ones, b0, b1);
        }
      }
    }
}

// ---- which keys are seen

// Query i sees the keys from j on that are fewer than this from it.
__device__ __forceinline__ int visible_columns(const AttentionProblem& p, int i, int j) {
  const int left = int(p.m) - j;
  return p.causal ? min(i - j + int(p.last_key) + 1, left) : left;
}
// ---- bias and mask of one head, with strides of 32 bits; see edited()

template <class T>
struct HeadEdits {
  const T* bias = nullptr;
  const Bool* mask = nullptr;
  int bias_row, bias_column, mask_row, mask_column;

  __device__ __forceinline__ HeadEdits(const AttentionProblem& p, int bi, int hi)
      : bias_row(int(p.bias.row)),
        bias_column(int(p.bias_column)),
        mask_row(int(p.mask.row)),
        mask_column(int(p.mask_column)) {
    if (p.bias.data) bias = p.bias.at<T>(bi, hi);
    if (p.mask.data) mask = p.mask.at<Bool>(bi, hi);
  }
  __device__ __forceinline__ float apply(int i, int j, float score) const {
    if (bias) score += float(kLog2e) * widen(bias[int64_t(i) * bias_row + int64_t(j) * bias_column]);
    if (mask && !widen(mask[int64_t(i) * mask_row + int64_t(j) * mask_column])) return -kInfinity<float>;
    return score;
  }
};

// ---- rows of a fragment: thread (lane / 4, lane % 4) has columns 8 j + 2 (lane % 4) and the next of rows lane / 4 and
// lane / 4 + 8; four neighbours share a row

template <class Combine>
__device__ __forceinline__ float across_quad(float x, Combine combine) {
  x = combine(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return combine(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
// Rows `first` + lane / 4 (times factors[0]) and that + 8 (times factors[1]) of a dense matrix of `rows` rows.
template <class T, int kD>
__device__ __forceinline__ void write_rows(const Fragment<kD>& o, const float (&factors)[2], T* matrix, int first,
                                           int rows, int width) {
  const int lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = first + lane / 4 + half * 8;
    if (row >= rows) continue;
    T* to = matrix + int64_t(row) * width + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < kD / 8; j++)
      if (j * 8 < width)
        *reinterpret_cast<uint32_t*>(to + j * 8) =
            pack_pair<T>(o[j][2 * half] * factors[half], o[j][2 * half + 1] * factors[half]);
  }
}

}  // namespace fovea::cuda
