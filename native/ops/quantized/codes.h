// Channels of a block as plain numbers, between a file's blocks, packed blocks and weights: what repacking, quantising
// and dequantising go through, 16 channels at a time on the CPU, one to a thread on a GPU. Quants are unsigned, as the
// layout says (layout.h).
#pragma once
#include "core/half.h"
#include "ops/quantized/layout.h"

namespace fovea {

template <int C>
struct Codes {
  uint8_t quants[kMaxBlock][C];
  uint16_t d[C], dmin[C];
  uint8_t scales[16][C], mins[8][C];  // of 16 k (q6_K, signed) or 32 (q4_K)
  float channel[C];                   // int8 alone: the scale of all k
};

// ---- packed: channels [first, first + C) of 16

template <class T, int C>
FOVEA_INLINE void store_channels(const T (&from)[C], int64_t first, uint8_t* to) {
  for (int64_t c = 0; c < C; c++) __builtin_memcpy(to + (first + c) * int64_t(sizeof(T)), &from[c], sizeof(T));
}
template <class T, int C>
FOVEA_INLINE void load_channels(const uint8_t* from, int64_t first, T (&to)[C]) {
  for (int64_t c = 0; c < C; c++) __builtin_memcpy(&to[c], from + (first + c) * int64_t(sizeof(T)), sizeof(T));
}

template <int C>
FOVEA_INLINE void store_group(QuantType type, const uint8_t (*quants)[C], int64_t first, uint8_t* to) {
  for (int64_t c = 0; c < C; c++)
    for (int64_t i = 0; i < 4; i++) {
      uint8_t* at = to + (first + c) * 4 + i;
      auto quant = [&](int64_t quad) { return int(quants[quad * 4 + i][c]); };
      if (group_bytes(type) == 512) {
        for (int64_t quad = 0; quad < 8; quad++) at[quad * 64] = uint8_t(quant(quad));
        continue;
      }
      for (int64_t quad = 0; quad < 4; quad++) at[quad * 64] = uint8_t((quant(quad) & 15) | quant(quad + 4) << 4);
      if (type != QuantType::q6_K) continue;
      for (int64_t odd = 0; odd < 2; odd++) {
        int high = 0;
        for (int pair = 0; pair < 4; pair++) high |= quant(pair * 2 + odd) >> 4 << (pair * 2);
        at[(4 + odd) * 64] = uint8_t(high);
      }
    }
}
template <int C>
FOVEA_INLINE void load_group(QuantType type, const uint8_t* from, int64_t first, uint8_t (*quants)[C]) {
  for (int64_t quad = 0; quad < 8; quad++)
    for (int64_t c = 0; c < C; c++)
      for (int64_t i = 0; i < 4; i++) {
        const uint8_t* at = from + (first + c) * 4 + i;
        if (group_bytes(type) == 512) {
          quants[quad * 4 + i][c] = at[quad * 64];
          continue;
        }
        int low = (at[quad % 4 * 64] >> (quad < 4 ? 0 : 4)) & 15;
        int high = type == QuantType::q6_K ? (at[(4 + quad % 2) * 64] >> (quad / 2 * 2)) & 3 : 0;
        quants[quad * 4 + i][c] = uint8_t(low | high << 4);
      }
}

template <int C>
FOVEA_INLINE void store_packed(QuantType type, const Codes<C>& codes, uint8_t* to, int64_t first = 0) {
  if (type != QuantType::int8) store_channels(codes.d, first, to);
  if (type == QuantType::q4_K) {
    store_channels(codes.dmin, first, to + 2 * kChannels);
    for (int64_t g = 0; g < 8; g++) {
      store_channels(codes.scales[g], first, to + (4 + g) * kChannels);
      store_channels(codes.mins[g], first, to + (12 + g) * kChannels);
    }
  }
  if (type == QuantType::q6_K)
    for (int64_t s = 0; s < 16; s++) store_channels(codes.scales[s], first, to + (2 + s) * kChannels);
  for (int64_t g = 0; g < block_of(type) / kGroup; g++)
    store_group<C>(type, codes.quants + g * kGroup, first, to + scale_bytes(type) + g * group_bytes(type));
}
template <int C>
FOVEA_INLINE void load_packed(QuantType type, const uint8_t* from, Codes<C>& codes, int64_t first = 0) {
  if (type != QuantType::int8) load_channels(from, first, codes.d);
  if (type == QuantType::q4_K) {
    load_channels(from + 2 * kChannels, first, codes.dmin);
    for (int64_t g = 0; g < 8; g++) {
      load_channels(from + (4 + g) * kChannels, first, codes.scales[g]);
      load_channels(from + (12 + g) * kChannels, first, codes.mins[g]);
    }
  }
  if (type == QuantType::q6_K)
    for (int64_t s = 0; s < 16; s++) load_channels(from + (2 + s) * kChannels, first, codes.scales[s]);
  for (int64_t g = 0; g < block_of(type) / kGroup; g++)
    load_group<C>(type, from + scale_bytes(type) + g * group_bytes(type), first, codes.quants + g * kGroup);
}

// ---- the blocks of a file

// q4_K keeps eight scales and eight minima of 6 bits in 12 bytes: bytes 0 to 3 and 4 to 7 hold the first four of each
// and, in their top bits, what bytes 8 to 11 (a nibble of scale, a nibble of minimum) lack of the others.
template <int C>
FOVEA_INLINE void read_scales(const uint8_t* bytes, int64_t c, Codes<C>& codes) {
  for (int i = 0; i < 4; i++) {
    codes.scales[i][c] = bytes[i] & 63, codes.mins[i][c] = bytes[i + 4] & 63;
    codes.scales[i + 4][c] = uint8_t((bytes[i + 8] & 15) | (bytes[i] >> 6) << 4);
    codes.mins[i + 4][c] = uint8_t(bytes[i + 8] >> 4 | (bytes[i + 4] >> 6) << 4);
  }
}
template <int C>
FOVEA_INLINE void write_scales(const Codes<C>& codes, int64_t c, uint8_t* bytes) {
  for (int i = 0; i < 4; i++) {
    int scale = codes.scales[i + 4][c] & 63, minimum = codes.mins[i + 4][c] & 63;
    bytes[i] = uint8_t((codes.scales[i][c] & 63) | (scale >> 4) << 6);
    bytes[i + 4] = uint8_t((codes.mins[i][c] & 63) | (minimum >> 4) << 6);
    bytes[i + 8] = uint8_t((scale & 15) | (minimum & 15) << 4);
  }
}

// One channel of a block; the bits of floats are moved, not interpreted.
template <int C>
FOVEA_INLINE void read_gguf(QuantType type, const uint8_t* from, int64_t c, Codes<C>& codes) {
  auto quant = [&](int64_t i) -> uint8_t& { return codes.quants[i][c]; };
  __builtin_memcpy(&codes.d[c], from + (type == QuantType::q6_K ? 208 : 0), 2);
  switch (type) {
    case QuantType::q8_0:
      for (int64_t i = 0; i < 32; i++) quant(i) = from[2 + i] ^ 128;
      return;
    case QuantType::q4_0:
      for (int64_t i = 0; i < 32; i++) quant(i) = (from[2 + i % 16] >> (i / 16 * 4)) & 15;
      return;
    case QuantType::q4_K:
      __builtin_memcpy(&codes.dmin[c], from + 2, 2);
      read_scales(from + 4, c, codes);
      for (int64_t i = 0; i < 256; i++) quant(i) = (from[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4)) & 15;
      return;
    case QuantType::q6_K:
      for (int64_t i = 0; i < 256; i++) {
        int64_t half = i / 128, part = i / 32 % 4, at = i % 32;
        int low = from[half * 64 + part % 2 * 32 + at] >> (part / 2 * 4) & 15;
        quant(i) = uint8_t(low | (from[128 + half * 32 + at] >> (part * 2) & 3) << 4);
      }
      for (int64_t i = 0; i < 16; i++) codes.scales[i][c] = from[192 + i];
      return;
    default: return;
  }
}
template <int C>
FOVEA_INLINE void write_gguf(QuantType type, const Codes<C>& codes, int64_t c, uint8_t* to) {
  auto quant = [&](int64_t i) { return codes.quants[i][c]; };
  __builtin_memset(to, 0, size_t(gguf_block_bytes(type)));
  __builtin_memcpy(to + (type == QuantType::q6_K ? 208 : 0), &codes.d[c], 2);
  switch (type) {
    case QuantType::q8_0:
      for (int64_t i = 0; i < 32; i++) to[2 + i] = quant(i) ^ 128;
      return;
    case QuantType::q4_0:
      for (int64_t i = 0; i < 32; i++) to[2 + i % 16] |= uint8_t(quant(i) << (i / 16 * 4));
      return;
    case QuantType::q4_K:
      __builtin_memcpy(to + 2, &codes.dmin[c], 2);
      write_scales(codes, c, to + 4);
      for (int64_t i = 0; i < 256; i++) to[16 + i / 64 * 32 + i % 32] |= uint8_t(quant(i) << (i / 32 % 2 * 4));
      return;
    case QuantType::q6_K:
      for (int64_t i = 0; i < 256; i++) {
        int64_t half = i / 128, part = i / 32 % 4, at = i % 32;
        to[half * 64 + part % 2 * 32 + at] |= uint8_t((quant(i) & 15) << (part / 2 * 4));
        to[128 + half * 32 + at] |= uint8_t(quant(i) >> 4 << (part * 2));
      }
      for (int64_t i = 0; i < 16; i++) to[192 + i] = codes.scales[i][c];
      return;
    default: return;
  }
}

// ---- weights

// Weights i of channel c, i below the block's length. Each product but the last is exact in float32 (11 bits times 8 or
// 6), so that there is one rounding, whether or not multiply and add are fused.
template <int C>
FOVEA_INLINE void decode(QuantType type, const Codes<C>& codes, int64_t c, float* weights) {
  float d = to_float(Half{codes.d[c]});
  switch (type) {
    case QuantType::q8_0:
      for (int64_t i = 0; i < 32; i++) weights[i] = d * float(codes.quants[i][c] - 128);
      return;
    case QuantType::q4_0:
      for (int64_t i = 0; i < 32; i++) weights[i] = d * float(codes.quants[i][c] - 8);
      return;
    case QuantType::q4_K:
      for (int64_t i = 0; i < 256; i++) {
        float scale = d * float(codes.scales[i / 32][c]);
        float minimum = to_float(Half{codes.dmin[c]}) * float(codes.mins[i / 32][c]);
        weights[i] = scale * float(codes.quants[i][c]) - minimum;
      }
      return;
    case QuantType::q6_K:
      for (int64_t i = 0; i < 256; i++)
        weights[i] = d * float(int8_t(codes.scales[i / 16][c])) * float(codes.quants[i][c] - 32);
      return;
    case QuantType::int8:
      for (int64_t i = 0; i < 32; i++) weights[i] = codes.channel[c] * float(codes.quants[i][c] - 128);
  }
}

}  // namespace fovea
