// One channel of a packed block (layout.h), as a thread reads it: on a GPU what blocks.h is on the CPU.
#pragma once
#include "cuda/convert.h"
#include "ops/quantized/layout.h"

namespace fovea::cuda {
namespace {

template <QuantType Type>
struct QuantTypeIs {
  static constexpr QuantType value = Type;
};
// Calls body with the QuantTypeIs of `type`.
template <class Body>
void dispatch_type(QuantType type, Body&& body) {
  switch (type) {
    case QuantType::q8_0: return body(QuantTypeIs<QuantType::q8_0>{});
    case QuantType::q4_0: return body(QuantTypeIs<QuantType::q4_0>{});
    case QuantType::q4_K: return body(QuantTypeIs<QuantType::q4_K>{});
    case QuantType::q6_K: return body(QuantTypeIs<QuantType::q6_K>{});
    case QuantType::int8: return body(QuantTypeIs<QuantType::int8>{});
  }
}

// A weight is scale (quant - kBias) - minimum, where quants of 8 bits already come signed.
template <QuantType Type>
struct PackedChannel {
  static constexpr int kGroups = int(block_of(Type) / kGroup);    // of a block
  static constexpr int kParts = Type == QuantType::q6_K ? 2 : 1;  // of a group, with a scale each
  static constexpr bool kMinima = Type == QuantType::q4_K;        // else they are 0
  static constexpr bool kBytes = group_bytes(Type) == 512;
  static constexpr int kBias = Type == QuantType::q4_0 ? 8 : Type == QuantType::q6_K ? 32 : 0;

  const uint8_t *tile, *block;
  int channel, group;  // the group in the block

  // Group `g` of all of the tile's.
  __device__ PackedChannel(const uint8_t* tile, int64_t g, int channel)
      : tile(tile),
        block(tile + tile_header_bytes(Type) + g / kGroups * packed_block_bytes(Type)),
        channel(channel),
        group(int(g % kGroups)) {}

  __device__ float scale(int part) const {
    if constexpr (Type == QuantType::int8) return reinterpret_cast<const float*>(tile)[channel];
    float d = half(0);
    if constexpr (Type == QuantType::q4_K) d *= float(block[(4 + group) * kChannels + channel]);
    if constexpr (Type == QuantType::q6_K) d *= float(int8_t(block[(2 + group * 2 + part) * kChannels + channel]));
    return d;
  }
  __device__ float minimum() const {
    if constexpr (!kMinima) return 0;
    return half(2 * kChannels) * float(block[(12 + group) * kChannels + channel]);
  }
  // Four quants, one to a byte, the lowest first.
  __device__ uint32_t quad(int j) const {
    if constexpr (kBytes) return word(j) ^ 0x80808080u;
    const uint32_t low = (word(j % 4) >> (j < 4 ? 0 : 4)) & 0x0f0f0f0fu;
    if constexpr (Type != QuantType::q6_K) return low;
    return low | ((word(4 + j % 2) >> (j / 2 * 2)) & 0x03030303u) << 4;
  }

 private:
  __device__ float half(int64_t at) const {
    return widen(Half{reinterpret_cast<const uint16_t*>(block + at)[channel]});
  }
  __device__ uint32_t word(int j) const {
    const uint8_t* quants = block + scale_bytes(Type) + group * group_bytes(Type);
    return reinterpret_cast<const uint32_t*>(quants)[j * kChannels + channel];
  }
};

}  // namespace
}  // namespace fovea::cuda
