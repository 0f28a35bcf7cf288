// Products of many rows with weights of 32 k to a scale, in the tile registers of AMX.
//
// A group is one step of a tile: integer sums of 16 rows and 16 channels, which are stored and added up as floats as
// multiply.h does it, so that results have the bits of every other way to multiply. Weights are unpacked to signed
// bytes before; activations are read where they lie, in blocks of up to 16 rows. What a tile reads behind the last row
// of a block ends up in sums that nobody reads. Adding up takes as long as multiplying: q6_K, with two scales for 32 k,
// would gain nothing.
#pragma once
#include "ops/quantized/tiles.h"

#if defined(__AMX_INT8__)

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kGroupsTogether = 8;  // whose sums are stored before they are added up; a block of K-quants
constexpr int64_t kTiledActivations = int64_t(1536) << 10;  // bytes of a unit, which stay in the second cache
static_assert(kActivationBytes == kGroup + 12 && kMaxHeight * kGroup <= kMaxHeight / 2 * kMaxActivationBytes,
              "a tile of a block of 8 rows or more, which all are, would end behind the workspace");

// sums[channel tile][group][16 rows][16 channels]
using GroupSums = int32_t[2][kGroupsTogether][kMaxHeight][kChannels];

// Unpacked groups of one or two tiles of channels, `kUnpackedBytes` apart, times a block of rows of `height`.
template <int Channels>
FOVEA_INLINE void multiply_groups(const uint8_t* weights, int64_t groups, const std::byte* x, int64_t height,
                                  GroupSums& sums) {
  order_memory();
  for (int64_t g = 0; g < groups; g++, weights += kUnpackedGroupBytes, x += height * kActivationBytes) {
    _tile_zero(0);
    _tile_loadd(4, x, kGroup);
    _tile_loadd(6, weights, 64);
    _tile_dpbssd(0, 4, 6);
    if constexpr (Channels == 2) {
      _tile_zero(1);
      _tile_loadd(7, weights + kUnpackedBytes, 64);
      _tile_dpbssd(1, 4, 7);
      _tile_stored(1, sums[1][g], 64);
    }
    _tile_stored(0, sums[0][g], 64);
  }
  order_memory();
}

// y[height][16] += what the sums of one tile of channels stand for.
template <class W>
FOVEA_INLINE void add_groups(const uint8_t* weights, int64_t groups, const std::byte* x, int64_t height, bool first,
                             const int32_t (*sums)[kMaxHeight][kChannels], float* y) {
  for (int64_t r = 0; r < height; r++, y += kChannels) {
    Vec<float> before = first ? Vec<float>{} : load(y), total = W::kGroups == 1 ? before : Vec<float>{};
    const std::byte *behind = x + height * kGroup + r * 4, *d = behind + 2 * height * 4;
    for (int64_t g = 0; g < groups; g++, behind += height * kActivationBytes) {
      const W group{weights + g * kUnpackedGroupBytes};
      d = behind + 2 * height * 4;
      total = add_sum<W>(total, load(sums[g][r]), group.scale(0, 0, 0), d);
      if constexpr (W::kMinima) total -= group.minimum(0, 0) * spread<float>(behind);
    }
    store(y, W::kGroups == 1 ? total : before + total * spread<float>(d));
  }
}

template <class W, int Channels>
__attribute__((noinline)) void multiply_block(const uint8_t* weights, int64_t groups, const std::byte* x,
                                              int64_t height, bool first, float* left, float* right) {
  static_assert(W::kParts == 1);
  alignas(64) GroupSums sums;
  multiply_groups<Channels>(weights, groups, x, height, sums);
  add_groups<W>(weights, groups, x, height, first, sums[0], left);
  if constexpr (Channels == 2) add_groups<W>(weights + kUnpackedBytes, groups, x, height, first, sums[1], right);
}

// Lines of the weights that come next, of which each block of rows fetches its share.
FOVEA_INLINE void fetch_weights(const uint8_t* from, int64_t bytes, int64_t block, int64_t blocks) {
  for (int64_t at = bytes * block / blocks / 64 * 64; at < bytes * (block + 1) / blocks; at += 64)
    __builtin_prefetch(from + at);
}

// sums[channel tile][rows][16] = x W^T for tiles t and, if there are two, t + 1.
template <QuantType Type, int Channels>
void multiply_group_tiles(const Product& p, const Rows& rows, int64_t t, uint8_t* place,
                          float (&sums)[2][kMaxTogether * kMaxHeight][kChannels]) {
  using W = Unpacked<Type>;
  const int64_t k = p.m.k;
  for (int64_t from = 0; from < k; from += kDepth) {
    const int64_t depth = min_of(kDepth, k - from), groups = depth / kGroup, next = from + depth;
    const int64_t bytes = min_of(kDepth, k - next) / block_of(Type) * p.block_bytes;
    for (int64_t c = 0; c < Channels; c++)
      unpack_tile<Type, true>(p.weights(t + c, from), depth, place + c * kUnpackedBytes);
    for (int64_t b = 0; b < rows.count; b++) {
      const int64_t row = rows.begin[b], height = rows.begin[b + 1] - row, at = row - rows.begin[0];
      for (int64_t c = 0; c < Channels; c++) fetch_weights(p.weights(t + c, next), bytes, b, rows.count);
      for (int64_t g = 0; g < groups; g += kGroupsTogether)
        multiply_block<W, Channels>(place + g * kUnpackedGroupBytes, min_of(kGroupsTogether, groups - g),
                                    p.activations(row, height, from + g * kGroup), height, from + g == 0, sums[0][at],
                                    sums[1][at]);
    }
  }
}

template <class S, QuantType Type>
void multiply_pass_in_group_tiles(const Product& p) {
  constexpr int64_t kPerUnit = kUnitChannels / kChannels;
  p.quantize();
  const int64_t tiles = p.m.tiles(), columns = ceil_div(tiles, kPerUnit), blocks = p.blocks.count;
  const int64_t together = clamp_to(kTiledActivations / (p.row_bytes * kMaxHeight), 1, min_of(blocks, kMaxTogether));
  p.call.parallel.for_each(ceil_div(blocks, together) * columns, [&](int64_t unit, int thread) {
    const int64_t block = unit / columns * together, tile = unit % columns * kPerUnit;
    const int64_t tile_end = min_of(tile + kPerUnit, tiles);
    const Rows rows(p.blocks, block, min_of(block + together, blocks));
    TileRegistersFor<kGroup> registers;
    alignas(64) float sums[2][kMaxTogether * kMaxHeight][kChannels];
    for (int64_t t = tile; t < tile_end; t += 2) {
      const int64_t channels = min_of(2, tile_end - t);
      for (int64_t c = 0; c < channels; c++) fetch_results<S>(p, rows, t + c);
      (channels == 2 ? multiply_group_tiles<Type, 2> : multiply_group_tiles<Type, 1>)(p, rows, t, p.place(thread),
                                                                                      sums);
      for (int64_t c = 0; c < channels; c++) finish<S>(p, rows, t + c, sums[c][0]);
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA

#endif
