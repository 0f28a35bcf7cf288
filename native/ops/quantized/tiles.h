// int8 products of many rows in the tile registers of AMX: sums[32][32] = x W^T over all of k, in int32.
//
// A packed block of 64 k of 16 channels is a tile as it lies, [16 quads][16 channels][4 k]. Activations are brought
// from the blocks of rows that other products read to tiles [16 rows][64 k]; what is missing of rows or of k is zero.
// The sums are the integers of every other way to multiply, and so are the floats that are made of them.
#pragma once
#include "cpu/tiles_amx.h"
#include "ops/quantized/product.h"

#if defined(__AMX_INT8__)

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kSide = 16, kTileDepth = 64, kTileBytes = 1024;
constexpr int64_t kUnitRows = 256;  // whose tiles stay in the second cache
constexpr int64_t kUnitChannels = 128;
constexpr int64_t kRunGroups = 16;  // 16 KB of weights of two tiles

// Where the activations of a pass lie as tiles, [32 rows][64 k][2][16 rows][64], then d and the start of each row's
// sums.
struct TiledRows {
  int64_t rows, depths;
  std::byte* base;
  FOVEA_INLINE TiledRows(const Call& call, const Matrix& m)
      : rows(round_up(min_of(call.in[0].shape[0], kPassRows), 2 * kSide)),
        depths(ceil_div(m.k, kTileDepth)),
        base(call.workspace + activation_workspace(call.in[0].shape[0], m.k)) {}
  FOVEA_INLINE int8_t* pair(int64_t i) const { return reinterpret_cast<int8_t*>(base) + i * depths * 2 * kTileBytes; }
  FOVEA_INLINE float* scales() const { return reinterpret_cast<float*>(pair(rows / (2 * kSide))); }
  FOVEA_INLINE int32_t* starts() const { return reinterpret_cast<int32_t*>(scales() + rows); }
};

// Row `row` of a pass, which is row r of a block of H.
FOVEA_INLINE void tile_row(const Product& p, const TiledRows& to, int64_t row, int64_t r, int64_t H,
                           const std::byte* block) {
  int64_t groups = blocks_of(QuantType::int8, p.m.k);
  int8_t* line = to.pair(row / (2 * kSide)) + row % (2 * kSide) * kTileDepth;
  for (int64_t g = 0; g < groups; g++)
    __builtin_memcpy(line + g / 2 * 2 * kTileBytes + g % 2 * kGroup, block + g * H * kActivationBytes + r * kGroup,
                     kGroup);
  if (groups % 2) __builtin_memset(line + groups / 2 * 2 * kTileBytes + kGroup, 0, kGroup);
  const std::byte* first = block + H * kGroup;  // what lies behind the quads of the first group,
  const std::byte* last = first + (groups - 1) * H * kActivationBytes;
  __builtin_memcpy(to.starts() + row, first + r * 4, 4);
  __builtin_memcpy(to.scales() + row, last + (2 * H + r) * 4, 4);
}

FOVEA_INLINE void tile_rows(const Product& p, const TiledRows& to) {
  static_assert(8 * kQuadBytes == kGroup);
  p.call.parallel.for_range(p.blocks.count, 4, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++)
      for (int64_t r = 0; r < p.blocks.height(b); r++)
        tile_row(p, to, p.blocks.begin(b) + r, r, p.blocks.height(b),
                 p.activations(p.blocks.begin(b), p.blocks.height(b), 0));
  });
  for (int64_t row = p.blocks.rows; row < round_up(p.blocks.rows, 2 * kSide); row++)
    for (int64_t d = 0; d < to.depths; d++)
      __builtin_memset(to.pair(row / (2 * kSide)) + d * 2 * kTileBytes + row % (2 * kSide) * kTileDepth, 0, kTileDepth);
}

// Weights of two tiles that are multiplied next, of which each step fetches some lines.
struct NextWeights {
  const uint8_t *left, *right;
  int64_t lines;  // of each, per step
  FOVEA_INLINE void fetch(int64_t step) const {
    for (int64_t i = step * lines * 64; i < (step + 1) * lines * 64; i += 64) {
      __builtin_prefetch(left + i);
      __builtin_prefetch(right + i);
    }
  }
};

// sums[32][32] of one pair of row tiles and one or two tiles of channels over `groups` of k, added to what is there
// unless they are the first. A last block of 32 k is completed by zeros.
template <int Channels>
__attribute__((noinline)) void multiply_int8(const int8_t* x, const uint8_t* left, const uint8_t* right, int64_t groups,
                                             bool first, const NextWeights& next, int32_t* sums) {
  constexpr int64_t kPitch = 2 * kChannels;
  int32_t* const lower = sums + kSide * kPitch;
  alignas(64) uint8_t rest[2][kTileBytes];
  order_memory();
  if (first) {
    _tile_zero(0);
    _tile_zero(2);
    if constexpr (Channels == 2) _tile_zero(1);
    if constexpr (Channels == 2) _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kPitch * 4);
    _tile_loadd(2, lower, kPitch * 4);
    if constexpr (Channels == 2) _tile_loadd(1, sums + kChannels, kPitch * 4);
    if constexpr (Channels == 2) _tile_loadd(3, lower + kChannels, kPitch * 4);
  }
  for (int64_t g = 0; g < groups; g += 2, x += 2 * kTileBytes, left += kTileBytes, right += kTileBytes) {
    if (g + 1 == groups) {
      __builtin_memset(rest, 0, sizeof rest);
      __builtin_memcpy(rest[0], left, kTileBytes / 2);
      if constexpr (Channels == 2) __builtin_memcpy(rest[1], right, kTileBytes / 2);
      left = rest[0], right = rest[1];
      order_memory();
    }
    next.fetch(g / 2);
    _tile_loadd(6, left, 64);
    _tile_loadd(4, x, 64);
    _tile_dpbsud(0, 4, 6);
    if constexpr (Channels == 2) _tile_loadd(7, right, 64);
    if constexpr (Channels == 2) _tile_dpbsud(1, 4, 7);
    _tile_loadd(5, x + kTileBytes, 64);
    _tile_dpbsud(2, 5, 6);
    if constexpr (Channels == 2) _tile_dpbsud(3, 5, 7);
  }
  _tile_stored(0, sums, kPitch * 4);
  _tile_stored(2, lower, kPitch * 4);
  if constexpr (Channels == 2) _tile_stored(1, sums + kChannels, kPitch * 4);
  if constexpr (Channels == 2) _tile_stored(3, lower + kChannels, kPitch * 4);
  order_memory();
}

// y for rows [row, row + count) of a tile of channels, from their sums.
template <class S>
FOVEA_INLINE void finish_tile(const Product& p, const TiledRows& x, int64_t row, int64_t count, int64_t t,
                              const int32_t* sums) {
  int64_t first = t * kChannels, channels = min_of(kChannels, p.m.n - first);
  Vec<float> scale = load(reinterpret_cast<const float*>(p.call.in[1].as<uint8_t>() + t * p.tile_bytes));
  float bias[kChannels] = {}, line[kChannels];
  if (p.call.in[2].present()) convert_row(p.call.in[2].as<S>() + first, bias, channels);
  S* y = p.call.out[0].as<S>() + (p.first_row + row) * p.m.n + first;
  for (int64_t r = 0; r < count; r++, y += p.m.n, sums += 2 * kChannels) {
    Vec<int32_t> sum = load(sums) + splat(x.starts()[row + r]);
    Vec<float> product = __builtin_convertvector(sum, Vec<float>) * scale * splat(x.scales()[row + r]);
    asm("" : "+v"(product));  // rounded before the bias is added, as where there are fewer rows
    store(line, product + load(bias));
    convert_row(line, y, channels);
  }
}

// sums[pair of row tiles] of rows [row, end) and tiles of channels t and, if there are two, t + 1. Where there are many
// rows, kRunGroups of k at a time stay in the first cache while all rows pass over them.
template <class S>
FOVEA_INLINE void multiply_channels(const Product& p, const TiledRows& x, int64_t row, int64_t end, int64_t t,
                                    int64_t channels, int32_t (*sums)[2 * kSide * 2 * kChannels]) {
  constexpr int64_t kTileLines = kTileBytes / 64;
  const int64_t groups = blocks_of(p.m.type, p.m.k), pairs = ceil_div(end - row, 2 * kSide);
  const int64_t run = pairs > 1 ? kRunGroups : groups, bytes = group_bytes(p.m.type);
  const uint8_t* left = p.call.in[1].as<uint8_t>() + t * p.tile_bytes + tile_header_bytes(p.m.type);
  for (int64_t g = 0; g < groups; g += run) {
    const int64_t length = min_of(run, groups - g);
    for (int64_t pair = 0; pair < pairs; pair++) {
      // Rows of y are far apart: their lines are fetched long before they are written.
      const int64_t rows = ceil_div(2 * kSide, ceil_div(groups, run)), from = row + pair * 2 * kSide + g / run * rows;
      S* y = p.call.out[0].as<S>() + (p.first_row + from) * p.m.n + t * kChannels;
      for (int64_t r = 0; r < min_of(rows, end - from); r++)
        for (int64_t c = 0; c < channels * kChannels; c += 64 / int64_t(sizeof(S)))
          __builtin_prefetch(y + r * p.m.n + c, 1, 2);
      // Further k of these channels, or the next ones' first.
      const uint8_t* ahead = left + (g + length < groups ? (g + length) * bytes : 2 * p.tile_bytes);
      const int64_t lines = ceil_div(kTileLines, pairs);
      ahead += pair * lines * ceil_div(length, 2) * 64;
      (channels == 2 ? multiply_int8<2> : multiply_int8<1>)(x.pair(row / (2 * kSide) + pair) + g / 2 * 2 * kTileBytes,
                                                            left + g * bytes, left + p.tile_bytes + g * bytes, length,
                                                            g == 0, {ahead, ahead + p.tile_bytes, lines}, sums[pair]);
    }
  }
}

template <class S>
void multiply_pass_in_tiles(const Product& p) {
  p.quantize();
  TiledRows x(p.call, p.m);
  tile_rows(p, x);
  int64_t tiles = p.m.tiles(), per_unit = kUnitChannels / kChannels, columns = ceil_div(tiles, per_unit);
  p.call.parallel.for_each(ceil_div(p.blocks.rows, kUnitRows) * columns, [&](int64_t unit, int) {
    int64_t begin = unit / columns * kUnitRows, end = min_of(begin + kUnitRows, p.blocks.rows);
    int64_t tile = unit % columns * per_unit, tile_end = min_of(tile + per_unit, tiles);
    TileRegisters registers;
    alignas(64) int32_t sums[kUnitRows / (2 * kSide)][2 * kSide * 2 * kChannels];
    for (int64_t t = tile; t < tile_end; t += 2) {
      multiply_channels<S>(p, x, begin, end, t, min_of(2, tile_end - t), sums);
      for (int64_t row = begin; row < end; row += 2 * kSide)
        for (int64_t side = 0; side < min_of(2, tile_end - t); side++)
          finish_tile<S>(p, x, row, min_of(2 * kSide, end - row), t + side,
                         sums[(row - begin) / (2 * kSide)] + side * kChannels);
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA

#endif
