// float32 <-> float16 and bfloat16, rounded to nearest even, NaN kept quiet (IEEE 754-2019, 5.4.2), in plain integer
// arithmetic, so that every instruction set and the host give the same bits. Kernels convert whole rows with the vector
// forms in cpu/simd.h, which must agree with these.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/dtype.h"

namespace fovea {

FOVEA_INLINE uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  return u;
}
FOVEA_INLINE float float_of(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}

FOVEA_INLINE Bfloat16 to_bfloat16(float x) {
  uint32_t u = bits_of(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t((u >> 16) | 0x40u)};
  return {uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
FOVEA_INLINE float to_float(Bfloat16 x) { return float_of(uint32_t(x.bits) << 16); }

FOVEA_INLINE Half to_half(float x) {
  uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu))};
  if (magnitude >= 0x47800000u) return {uint16_t(sign | 0x7c00u)};  // 65536 and above; 65520..65535 round up below
  if (magnitude >= 0x38800000u) {                                   // normal
    uint32_t rebased = magnitude - 0x38000000u;
    return {uint16_t(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13))};
  }
  // Subnormal: adding 0.5 moves the wanted bits to the bottom of the mantissa, and the addition itself rounds to even.
  float shifted = float_of(magnitude) + 0.5f;
  return {uint16_t(sign | (bits_of(shifted) - 0x3f000000u))};
}
FOVEA_INLINE float to_float(Half x) {
  uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u)
    return float_of(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13) | (magnitude > 0x7c00u ? 0x400000u : 0u));
  if (magnitude >= 0x400u) return float_of(sign | ((magnitude << 13) + 0x38000000u));
  float value = float(magnitude) * 0x1p-24f;  // exact
  return float_of(sign | bits_of(value));
}

}  // namespace fovea
