// Where quantised weights [n, k] lie in memory, for kernels and for what sizes their tensors.
//
// In a GGUF file each row is a series of blocks. Here 16 rows (output channels) are interleaved into a tile, so that
// one vector holds four consecutive k of 16 channels, and a tile is a series of blocks, too; rows beyond n are zeros. A
// group of 32 k holds bytes [8 quads][16 channels][4 k]; with 4 bits, quads 4 to 7 are the high halves of bytes 0 to 3;
// of 6 bits the upper two of quad j are bits 2 (j / 2) and following of byte quad j % 2 behind the low ones.
//
//   type   k of a block   bytes of a block of a row in a file; what a block of 16 channels holds here; a weight
//   q8_0   32             34     d[16] f16, group (q + 128); d q
//   q4_0   32             18     d[16] f16, group (q + 8); d q
//   q4_K   256            144    d[16], dmin[16] f16, scale[8][16], min[8][16] bytes, 8 groups (q);
//                                d scale q - dmin min
//   q6_K   256            210    d[16] f16, scale[16][16] signed bytes, 8 groups (q + 32); d scale q
//   int8   32, padded     none   d[16] f32 once before all blocks, group (q + 128); d q
//
// The scales of q4_K have 6 bits there and a byte here: 3 % more to read, and nothing to unpack. Both forms hold the
// same numbers, so that going back and forth loses nothing.
#pragma once
#include "core/arithmetic.h"

namespace fovea {

enum class QuantType : int64_t { q8_0, q4_0, q4_K, q6_K, int8 };
constexpr int64_t kQuantTypes = 5;

constexpr int64_t kChannels = 16;                     // of a tile
constexpr int64_t kGroup = 32;                        // k of a group
constexpr int64_t kMaxBlock = 256;                    // k of the longest block
constexpr int64_t kMaxSide = (int64_t(1) << 31) - 1;  // of n and k, so that no size below overflows
constexpr int64_t kMaxInt8Depth = 133143;             // k 127^2 must fit 31 bits, since int8 sums all of k as integers

constexpr FOVEA_INLINE bool is_k_quant(QuantType t) { return t == QuantType::q4_K || t == QuantType::q6_K; }
// k that belong to one block.
constexpr FOVEA_INLINE int64_t block_of(QuantType t) { return is_k_quant(t) ? kMaxBlock : kGroup; }
// What k must be a multiple of.
constexpr FOVEA_INLINE int64_t divisor_of(QuantType t) { return t == QuantType::int8 ? 1 : block_of(t); }
constexpr FOVEA_INLINE int64_t blocks_of(QuantType t, int64_t k) { return ceil_div(k, block_of(t)); }

// Bytes of a block of one row in a file; int8 has no such form.
constexpr FOVEA_INLINE int64_t gguf_block_bytes(QuantType t) {
  switch (t) {
    case QuantType::q8_0: return 34;
    case QuantType::q4_0: return 18;
    case QuantType::q4_K: return 144;
    case QuantType::q6_K: return 210;
    default: return 0;
  }
}
constexpr FOVEA_INLINE int64_t gguf_bytes(QuantType t, int64_t n, int64_t k) {
  return n * blocks_of(t, k) * gguf_block_bytes(t);
}

// Bytes of the scales at the front of a packed block, and of a group of quants behind them.
constexpr FOVEA_INLINE int64_t scale_bytes(QuantType t) {
  switch (t) {
    case QuantType::q4_K: return 4 * kChannels + 2 * 8 * kChannels;
    case QuantType::q6_K: return 2 * kChannels + 16 * kChannels;
    case QuantType::int8: return 0;
    default: return 2 * kChannels;
  }
}
constexpr FOVEA_INLINE int64_t group_bytes(QuantType t) {
  int64_t bits = t == QuantType::q6_K ? 6 : t == QuantType::q4_0 || t == QuantType::q4_K ? 4 : 8;
  return kGroup * kChannels * bits / 8;
}
constexpr FOVEA_INLINE int64_t packed_block_bytes(QuantType t) {
  return scale_bytes(t) + block_of(t) / kGroup * group_bytes(t);
}
constexpr FOVEA_INLINE int64_t tile_header_bytes(QuantType t) { return t == QuantType::int8 ? 4 * kChannels : 0; }
constexpr FOVEA_INLINE int64_t tile_bytes(QuantType t, int64_t k) {
  return tile_header_bytes(t) + blocks_of(t, k) * packed_block_bytes(t);
}
constexpr FOVEA_INLINE int64_t packed_bytes(QuantType t, int64_t n, int64_t k) {
  return ceil_div(n, kChannels) * tile_bytes(t, k);
}

// ---- activations, quantised while a product runs: a workspace, in passes over at most this many rows

constexpr int64_t kPassRows = 1020;
constexpr int64_t kMaxActivationBytes =
    8 * 8 + 12;  // of a group of one row with any instruction set, see activations.h

// From this many rows on, weights of less than 8 bits are unpacked before they are multiplied, each thread's in a place
// of its own behind the activations: kDepth of k of up to two tiles. Tile registers take those of q8_0 so, too.
constexpr int64_t kUnpackRows = 32;
constexpr FOVEA_INLINE bool unpacks(QuantType t, int64_t rows) { return rows >= kUnpackRows && group_bytes(t) < 512; }
constexpr int64_t kUnpackedGroupBytes = kGroup * kChannels + 2 * 4 * kChannels;  // and two rows of floats
constexpr int64_t kDepth = 512;  // k of a tile that stay in the first cache while blocks of rows pass over them
constexpr int64_t kUnpackedBytes = kDepth / kGroup * kUnpackedGroupBytes;

constexpr FOVEA_INLINE int64_t activation_workspace(int64_t rows, int64_t k) {
  return round_up(min_of(rows, kPassRows) * blocks_of(QuantType::q8_0, k) * kMaxActivationBytes, 64);
}
// int8 products of as many rows run in tile registers where there are some: then activations lie there a second time.
constexpr int64_t kLeastTiledRows = 16;
constexpr FOVEA_INLINE int64_t tiled_bytes(QuantType t, int64_t rows, int64_t k) {
  if (t != QuantType::int8 || rows < kLeastTiledRows) return 0;
  return round_up(min_of(rows, kPassRows), 32) * (round_up(k, 64) + 8);
}
constexpr FOVEA_INLINE int64_t product_workspace(QuantType t, int64_t rows, int64_t k, int64_t threads) {
  int64_t place = t != QuantType::int8 && rows >= kUnpackRows ? 2 * kUnpackedBytes : 0;
  return activation_workspace(rows, k) + threads * place + tiled_bytes(t, rows, k);
}

}  // namespace fovea
