// A tile of 16 channels times a block of rows: y[H][16] = x W^T.
//
//   y = sum over blocks of d_x (sum over parts of scale (sum of q_w q_x) - sum over groups of minimum (sum of q_x))
//
// The integer sums of a part are those of every instruction set; the floats around them are added in the same order
// whatever H is. Row for row, results so do not depend on how many rows there are.
#pragma once
#include <utility>

#include "cpu/rows.h"
#include "ops/quantized/activations.h"
#include "ops/quantized/blocks.h"

namespace fovea::FOVEA_ISA {
namespace {

// One go of a block of rows over some blocks of a tile.
struct Pass {
  bool first;            // y is not yet there
  const uint8_t* ahead;  // weights to prefetch into the second cache,
  int64_t ahead_bytes;   // as many with each group
  const uint8_t* near;   // and into the first, or nullptr
  FOVEA_INLINE void prefetch(int64_t group) const {
    const uint8_t* at = ahead + group * ahead_bytes;
#pragma GCC unroll 1
    for (int64_t i = 0; i < ahead_bytes; i += 64) {
      __builtin_prefetch(at + i, 0, 2);
      if (near) __builtin_prefetch(near + group * ahead_bytes + i);
    }
  }
};
// A number of the activations, in all lanes.
template <class T>
FOVEA_INLINE Vec<T> spread(const std::byte* from) {
  T x;
  __builtin_memcpy(&x, from, sizeof x);
  return splat(x);
}

// sums[r] += what quads [Begin, End) of a group give for row r.
template <bool Bytes, int H, int Begin, int End, class Load>
FOVEA_INLINE void add_quads(Sums (&sums)[H], const std::byte* group, Load&& load_quad) {
#pragma GCC unroll 8
  for (int j = Begin; j < End; j++) {
    Quants w = prepare<Bytes>(load_quad(j));
#pragma GCC unroll 12
    for (int r = 0; r < H; r++)
      sums[r] = dot(sums[r], w, reinterpret_cast<const int8_t*>(group) + (r * 8 + j) * kQuadBytes);
  }
}

// What a part of a group adds: scale (integer sum), times d where the block is no longer than the group.
template <class W>
FOVEA_INLINE Vec<float> add_sum(Vec<float> total, Sums integers, Vec<float> scale, const std::byte* d) {
  Vec<float> sum = __builtin_convertvector(integers, Vec<float>);
  if constexpr (W::kGroups == 1) return total + sum * scale * spread<float>(d);
  else return total + sum * scale;
}

// One part of a group.
template <class W, int H, int Part>
FOVEA_INLINE void add_part(const W& weights, int g, int v, const std::byte* group, Vec<float> (&total)[H][kVectors]) {
  constexpr int kQuads = 8 / W::kParts;
  const std::byte* start = group + H * 8 * kQuadBytes;
  Sums sums[H];
#pragma GCC unroll 12
  for (int r = 0; r < H; r++) sums[r] = W::kMinima ? Sums{} : spread<int32_t>(start + (Part * H + r) * 4);
  add_quads<W::kBytes, H, Part * kQuads, (Part + 1) * kQuads>(
      sums, group, [&](int j) FOVEA_FLAT { return weights.quants(g, j, v); });
  Vec<float> scale = weights.scale(g, Part, v);
#pragma GCC unroll 12
  for (int r = 0; r < H; r++) total[r][v] = add_sum<W>(total[r][v], sums[r], scale, start + (2 * H + r) * 4);
  if constexpr (W::kMinima) {
    Vec<float> minimum = weights.minimum(g, v);
#pragma GCC unroll 12
    for (int r = 0; r < H; r++) total[r][v] -= minimum * spread<float>(start + r * 4);
  }
}

// y holds [H][16].
template <class W, int H>
void multiply_rows(const uint8_t* tile, int64_t k, const std::byte* x, const Pass& pass, float* y) {
  constexpr int L = kLanes<float>;
  int64_t blocks = k / (W::kGroups * kGroup);
  if (pass.first)
#pragma GCC unroll 1
    for (int i = 0; i < H * kVectors; i++) store(y + i * L, Vec<float>{});
  Vec<float> total[H][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < H; r++)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) total[r][v] = W::kGroups > 1 ? Vec<float>{} : load(y + r * kChannels + v * L);
#pragma GCC unroll 1
  for (int64_t b = 0; b < blocks; b++) {
    W weights{tile + b * W::kBlockBytes};
#pragma GCC unroll 1
    for (int g = 0; g < W::kGroups; g++, x += H * kActivationBytes) {
      pass.prefetch(b * W::kGroups + g);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) {
        add_part<W, H, 0>(weights, g, v, x, total);
        if constexpr (W::kParts == 2) add_part<W, H, 1>(weights, g, v, x, total);
      }
    }
    if constexpr (W::kGroups > 1) {
      const std::byte* d = x - 4 * H;
#pragma GCC unroll 12
      for (int r = 0; r < H; r++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) {
          float* at = y + r * kChannels + v * L;
          store(at, load(at) + total[r][v] * spread<float>(d + r * 4));
          total[r][v] = Vec<float>{};
        }
    }
  }
  if constexpr (W::kGroups == 1)
#pragma GCC unroll 12
    for (int r = 0; r < H; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) store(y + r * kChannels + v * L, total[r][v]);
}

// int8: integers over all of k, then one scale for the channel and one for the row.
template <int H>
void multiply_rows_int8(const uint8_t* tile, int64_t k, const std::byte* x, const Pass& pass, float* y) {
  constexpr QuantType kType = QuantType::int8;
  constexpr int L = kLanes<float>;
  int64_t groups = blocks_of(kType, k);
  const std::byte* behind = x + H * 8 * kQuadBytes;
  Sums sums[H][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < H; r++)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) sums[r][v] = groups ? spread<int32_t>(behind + r * 4) : Sums{};
  const uint8_t* group = tile + tile_header_bytes(kType);
#pragma GCC unroll 1
  for (int64_t g = 0; g < groups; g++, group += group_bytes(kType), x += H * kActivationBytes) {
    pass.prefetch(g);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) {
      Sums part[H];
#pragma GCC unroll 12
      for (int r = 0; r < H; r++) part[r] = sums[r][v];
      add_quads<true, H, 0, 8>(part, x, [&](int j) FOVEA_FLAT { return load_quad(group, j, v); });
#pragma GCC unroll 12
      for (int r = 0; r < H; r++) sums[r][v] = part[r];
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; v++) {
    Vec<float> scale = load(reinterpret_cast<const float*>(tile) + v * L);
#pragma GCC unroll 12
    for (int r = 0; r < H; r++) {
      Vec<float> d = groups ? spread<float>(behind + (2 * H + r) * 4) : Vec<float>{};
      store(y + r * kChannels + v * L, __builtin_convertvector(sums[r][v], Vec<float>) * scale * d);
    }
  }
}

using MultiplyRows = void (*)(const uint8_t* tile, int64_t k, const std::byte* x, const Pass& pass, float* y);

// of[height - 1], one instance per height, so that rows are cut into nearly equal blocks. `W` is void for int8.
template <class W, class = std::make_integer_sequence<int, kMaxRows>>
struct RowKernels;
template <class W, int... I>
struct RowKernels<W, std::integer_sequence<int, I...>> {
  static constexpr MultiplyRows of[] = {[] {
    if constexpr (kSame<W, void>) return &multiply_rows_int8<I + 1>;
    else return &multiply_rows<W, I + 1>;
  }()...};
};

// How a type is multiplied: by `packed`, or, after `unpack`, by `unpacked`.
struct Method {
  const MultiplyRows *packed, *unpacked = nullptr;
  void (*unpack)(const uint8_t* tile, int64_t k, uint8_t* to) = nullptr;
};
template <QuantType Type>
FOVEA_INLINE Method either_way() {
  return {RowKernels<Packed<Type>>::of, RowKernels<Unpacked<Type>>::of, unpack_tile<Type, false>};
}
FOVEA_INLINE Method method_of(QuantType type) {
  switch (type) {
    case QuantType::q8_0: return {RowKernels<Packed<QuantType::q8_0>>::of};
    case QuantType::q4_0: return either_way<QuantType::q4_0>();
    case QuantType::q4_K: return either_way<QuantType::q4_K>();
    case QuantType::q6_K: return either_way<QuantType::q6_K>();
    default: return {RowKernels<void>::of};
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
