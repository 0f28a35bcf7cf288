// States of optimisers in 16 and 8 bits, the same on the CPU and on CUDA.
//
// bfloat16, or bytes with one float32 for every kStateRun elements, the largest magnitude L among them: "8-bit
// optimizers via block-wise quantization" (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861). A byte is a code c
// for |x| / L on a grid that is finer where values are larger; with `bits` bits of it, i = floor(log2 c) and j = c -
// 2^i + 1,
//   value(0) = 0,  value(c) = 10^(i + 1 - bits) (1 - 0.9 (1 - j / 2^i)),
// so 1 is on the grid and each power of ten has half the codes of the next. What has a sign takes 7 bits and a sign
// bit; averages of squares take 8, and are never rounded to 0 (in bytes), as they are divided by.
//
// Rounding up or down follows a sequence over elements and steps that fills [0, 1) evenly (Roberts 2018, "The
// unreasonable effectiveness of quasirandom sequences"), so that on average nothing is lost. Rounded to nearest, an
// average of decay 0.999 would stand still, since what it takes in is less than half the distance of neighbours.
#pragma once
#include "core/half.h"
#include "core/inline.h"

namespace fovea {

constexpr int64_t kStateRun = 256;

// Multiples of the inverse plastic number and of its square, modulo 1, in 32 bits.
FOVEA_INLINE uint32_t dither_of(int64_t element, int64_t step, int state) {
  return uint32_t(element) * 0xC13FA9A9u + uint32_t(step) * 0x91E10DA5u + uint32_t(state) * 0x9E3779B9u;
}

// Up with a probability of the share of the way to the next one.
FOVEA_INLINE Bfloat16 to_bfloat16_dithered(float x, uint32_t dither) {
  const uint32_t u = bits_of(x);
  const bool finite = (u & 0x7f800000u) != 0x7f800000u;
  const uint32_t whole = u | (u & 0x007fffffu ? 0x00400000u : 0u);  // a NaN stays one without its last bits
  return {uint16_t((finite ? u + (dither >> 16) : whole) >> 16)};
}

// The bits of |x|, in the order of the values, infinity behind them and NaN behind that.
FOVEA_INLINE int32_t magnitude_bits(float x) { return int32_t(bits_of(x) & 0x7fffffffu); }

FOVEA_INLINE float value_of_code(uint32_t code, int bits) {
  const float tens[8] = {1e-7f, 1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  const int i = int(bits_of(float(code)) >> 23) - 127;
  if (code == 0) return 0;
  const float place = float(code - (1u << i) + 1) / float(1u << i);
  return tens[i + 8 - bits] * (1 - 0.9f * (1 - place));
}
// For x from 0 to 1; NaN becomes 0.
FOVEA_INLINE uint32_t code_of_value(float x, int bits, uint32_t dither) {
  float scaled = x, codes = float(1u << (bits - 1));
  for (int k = 0; k < 7; k++) {
    const bool below = k < bits - 1 && !(scaled > 0.1f);
    scaled = below ? scaled * 10 : scaled, codes = below ? codes * 0.5f : codes;
  }
  // Below the least code there is 0, and no decade that begins at a tenth.
  const float share = codes > 1 ? 1 - (1 - scaled) * (1 / 0.9f) : scaled;
  const float place = codes * share + float(dither >> 8) * 0x1p-24f;
  // At most the last of its decade: x = 1 is on the grid, whatever was rounded on the way.
  return uint32_t(int32_t(codes) - 1 + int32_t(place > 0 ? (place < codes ? place : codes) : 0.0f));
}

// `x` of a run with the largest magnitude `largest`. A NaN or an infinity makes `largest` one, and so all of its run
// NaN.
FOVEA_INLINE uint8_t encode_signed(float x, float largest, uint32_t dither) {
  const uint32_t sign = bits_of(x) >> 31 << 7;
  return uint8_t(sign | code_of_value(float_of(uint32_t(magnitude_bits(x))) / largest, 7, dither));
}
FOVEA_INLINE uint8_t encode_positive(float x, float largest, uint32_t dither) {
  const uint32_t code = code_of_value(x / largest, 8, dither);
  const bool counts = x > 0 && magnitude_bits(largest) < 0x7f800000;  // of an infinity, 1e-7 would be one, too
  return uint8_t(code == 0 && counts ? 1u : code);
}
FOVEA_INLINE float decode_signed(uint32_t code) {
  const float magnitude = value_of_code(code & 127u, 7);
  return code & 128u ? -magnitude : magnitude;
}
FOVEA_INLINE float decode_positive(uint32_t code) { return value_of_code(code, 8); }

}  // namespace fovea
