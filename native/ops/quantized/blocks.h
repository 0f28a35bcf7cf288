// What a product reads of a packed block of each type (layout.h): the scale of a part of a group as floats, and quads
// of quants. `vector` says which channels, where an instruction set takes several vectors for 16.
//
//   kGroups       groups of 32 k in the block            kParts   parts of a group that have scales of their own
//   kMinima       weights are scale q - minimum          kBytes   whether quants have 8 bits
//   kBlockBytes   from one block to the next             kBias    what is subtracted from a quant
#pragma once
#include "ops/quantized/dot.h"
#include "ops/quantized/layout.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int kVectors = int(kChannels) / kLanes<float>;  // of 16 channels

FOVEA_INLINE Vec<float> load_halves(const uint8_t* from) {
#if defined(__AVX512F__)
  return Vec<float>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__)
  return Vec<float>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  Half halves[kLanes<float>];
  float floats[kLanes<float>];
  __builtin_memcpy(halves, from, sizeof halves);
  for (int i = 0; i < kLanes<float>; i++) floats[i] = to_float(halves[i]);
  return load(floats);
#endif
}
template <class Byte>
FOVEA_INLINE Vec<float> load_bytes(const uint8_t* from) {
#if defined(__AVX512F__)
  __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return Vec<float>(
      _mm512_cvtepi32_ps(kSame<Byte, int8_t> ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes)));
#elif defined(__AVX2__)
  __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return Vec<float>(
      _mm256_cvtepi32_ps(kSame<Byte, int8_t> ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes)));
#else
  float floats[kLanes<float>];
  for (int i = 0; i < kLanes<float>; i++) floats[i] = float(Byte(from[i]));
  return load(floats);
#endif
}
FOVEA_INLINE Vec<uint32_t> load_quad(const uint8_t* group, int64_t quad, int vector) {
  Vec<uint32_t> w;
  __builtin_memcpy(&w, group + quad * 64 + vector * kVectorBytes, sizeof w);
  return w;
}
FOVEA_INLINE Vec<uint32_t> load_nibbles(const uint8_t* group, int64_t quad, int vector) {
  Vec<uint32_t> w = load_quad(group, quad % 4, vector);
  return (quad < 4 ? w : w >> 4) & 0x0f0f0f0fu;
}

template <QuantType>
struct Packed;

// The two types of one f16 scale for 32 k.
struct PackedSimple {
  static constexpr int kGroups = 1, kParts = 1;
  static constexpr bool kMinima = false;
  const uint8_t* block;
  FOVEA_INLINE Vec<float> scale(int, int, int vector) const { return load_halves(block + vector * 2 * kLanes<float>); }
};
template <>
struct Packed<QuantType::q8_0> : PackedSimple {
  static constexpr bool kBytes = true;
  static constexpr uint32_t kBias = 128;
  static constexpr int64_t kBlockBytes = 544;
  FOVEA_INLINE Vec<uint32_t> quants(int, int quad, int vector) const { return load_quad(block + 32, quad, vector); }
};
template <>
struct Packed<QuantType::q4_0> : PackedSimple {
  static constexpr bool kBytes = false;
  static constexpr uint32_t kBias = 8;
  static constexpr int64_t kBlockBytes = 288;
  FOVEA_INLINE Vec<uint32_t> quants(int, int quad, int vector) const { return load_nibbles(block + 32, quad, vector); }
};
template <>
struct Packed<QuantType::q4_K> {
  static constexpr int kGroups = 8, kParts = 1;
  static constexpr bool kMinima = true, kBytes = false;
  static constexpr uint32_t kBias = 0;
  static constexpr int64_t kBlockBytes = 2368;
  const uint8_t* block;
  FOVEA_INLINE Vec<float> product(int halves, int bytes, int group, int vector) const {
    return load_halves(block + halves + vector * 2 * kLanes<float>) *
           load_bytes<uint8_t>(block + bytes + group * 16 + vector * kLanes<float>);
  }
  FOVEA_INLINE Vec<float> scale(int group, int, int vector) const { return product(0, 64, group, vector); }
  FOVEA_INLINE Vec<float> minimum(int group, int vector) const { return product(32, 192, group, vector); }
  FOVEA_INLINE Vec<uint32_t> quants(int group, int quad, int vector) const {
    return load_nibbles(block + 320 + group * 256, quad, vector);
  }
};
template <>
struct Packed<QuantType::q6_K> {
  static constexpr int kGroups = 8, kParts = 2;
  static constexpr bool kMinima = false, kBytes = false;
  static constexpr uint32_t kBias = 32;
  static constexpr int64_t kBlockBytes = 3360;
  const uint8_t* block;
  FOVEA_INLINE Vec<float> scale(int group, int part, int vector) const {
    return load_halves(block + vector * 2 * kLanes<float>) *
           load_bytes<int8_t>(block + 32 + (group * 2 + part) * 16 + vector * kLanes<float>);
  }
  FOVEA_INLINE Vec<uint32_t> quants(int group, int quad, int vector) const {
    const uint8_t* low = block + 288 + group * 384;
    Vec<uint32_t> high = load_quad(low + 256, quad % 2, vector);
    int shift = quad / 2 * 2;
    high = shift < 4 ? high << (4 - shift) : high >> (shift - 4);
    return load_nibbles(low, quad, vector) | (high & 0x30303030u);
  }
};

// A tile of one of the smaller types with a byte for each quant and floats for scales: many rows read it many times.
// Group after group: quants [8][16][4], scales of the parts [16], minima [16].
template <QuantType Type>
struct Unpacked {
  using From = Packed<Type>;
  static constexpr int kGroups = From::kGroups, kParts = From::kParts;
  static constexpr bool kMinima = From::kMinima, kBytes = From::kBytes;
  static constexpr int64_t kBlockBytes = kGroups * kUnpackedGroupBytes;
  const uint8_t* block;
  FOVEA_INLINE Vec<float> floats(int group, int row, int vector) const {
    const uint8_t* at = block + group * kUnpackedGroupBytes + kGroup * kChannels;
    return load(reinterpret_cast<const float*>(at) + row * kChannels + vector * kLanes<float>);
  }
  FOVEA_INLINE Vec<float> scale(int group, int part, int vector) const { return floats(group, part, vector); }
  FOVEA_INLINE Vec<float> minimum(int group, int vector) const { return floats(group, 1, vector); }
  FOVEA_INLINE Vec<uint32_t> quants(int group, int quad, int vector) const {
    return load_quad(block + group * kUnpackedGroupBytes, quad, vector);
  }
};
// Quants stay as they are, or, if `Signed`, lose their bias.
template <QuantType Type, bool Signed>
void unpack_tile(const uint8_t* tile, int64_t k, uint8_t* to) {
  using W = Packed<Type>;
  constexpr uint32_t kEach = 0x01010101u, kUp = (128 - W::kBias) * kEach;  // no byte carries into the next
  for (int64_t b = 0; b < blocks_of(Type, k); b++) {
    W weights{tile + b * W::kBlockBytes};
    for (int g = 0; g < W::kGroups; g++, to += kUnpackedGroupBytes)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) {
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
          Vec<uint32_t> quants = weights.quants(g, quad, v);
          if constexpr (Signed) quants = (quants + kUp) ^ (128 * kEach);
          store(reinterpret_cast<uint32_t*>(to + quad * 64 + v * kVectorBytes), quants);
        }
        float* floats = reinterpret_cast<float*>(to + kGroup * kChannels) + v * kLanes<float>;
        for (int part = 0; part < W::kParts; part++) store(floats + part * kChannels, weights.scale(g, part, v));
        if constexpr (W::kMinima) store(floats + kChannels, weights.minimum(g, v));
      }
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
