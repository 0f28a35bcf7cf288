// Blocks of weights to integers, C channels at a time, for the CPU and for a GPU: compiled without fused multiply-add
// (native/sources.json), so that every instruction set and every device give the same integers.
//
//   q8_0  d = max |w| / 127, q = round(w / d), halves away from zero; q4_0  d = (the w of largest |w|) / -8,
//         q = floor(w / d + 8.5), at most 15: as ggml's reference does
//   q4_K, q6_K  sub-blocks by search.h; their scales are rounded to 6 or 8 bits of the block's, then q to the nearest
//   int8  d = max |w| / 127 over all k of the channel, q = round(w / d), ties to even
//
// A block (int8: a channel) of weights with a NaN or an infinity becomes NaN throughout.
#pragma once
#include "ops/quantized/codes.h"
#include "ops/quantized/search.h"

namespace fovea {

constexpr int32_t kInfinity = 0x7f800000;
FOVEA_INLINE int32_t magnitude_bits(float x) { return int32_t(bits_of(x) & 0x7fffffffu); }

// What max |x| / 127 is made of: the bits of the largest magnitude, of NaN where one was not finite.
FOVEA_INLINE float largest_of(int32_t bits) { return float_of(bits >= kInfinity ? 0x7fc00000u : uint32_t(bits)); }
// max |x| for each of C channels, NaN if some x is not finite.
template <int C>
FOVEA_INLINE void largest(const float (*x)[C], int64_t k, float (&top)[C]) {
  int32_t bits[C] = {};
  for (int64_t i = 0; i < k; i++)
    for (int64_t c = 0; c < C; c++) {
      int32_t b = magnitude_bits(x[i][c]);
      bits[c] = b > bits[c] ? b : bits[c];
    }
  for (int64_t c = 0; c < C; c++) top[c] = largest_of(bits[c]);
}
FOVEA_INLINE bool finite(float x) { return magnitude_bits(x) < kInfinity; }
// max |w| / 127, and NaN with the same bits on every device.
FOVEA_INLINE float step_of(float top) { return finite(top) ? top / 127 : top; }
// 1 / d, or 0 where that is no number: what is so small counts as zero.
FOVEA_INLINE float inverse_of(float d) {
  float inverse = 1 / d;
  return finite(inverse) ? inverse : 0;
}

template <int C>
FOVEA_INLINE void quantize_q8_0(const float (*x)[C], Codes<C>& codes) {
  Lanes<C> top, inverse;
  largest(x, 32, top);
  for (int64_t c = 0; c < C; c++) {
    float d = step_of(top[c]);
    codes.d[c] = to_half(d).bits, inverse[c] = inverse_of(d);
  }
  for (int64_t i = 0; i < 32; i++)
    for (int64_t c = 0; c < C; c++) {
      float v = finite(x[i][c]) ? clamp_float(x[i][c] * inverse[c], -127, 127) : 0;
      int32_t whole = int32_t(v);
      float rest = v - float(whole);
      codes.quants[i][c] = uint8_t(whole + (rest >= 0.5f) - (rest <= -0.5f) + 128);
    }
}

template <int C>
FOVEA_INLINE void quantize_q4_0(const float (*x)[C], Codes<C>& codes) {
  Lanes<C> top, extreme = {}, inverse;
  largest(x, 32, top);
  for (int64_t i = 0; i < 32; i++)
    for (int64_t c = 0; c < C; c++)
      extreme[c] = __builtin_fabsf(x[i][c]) > __builtin_fabsf(extreme[c]) ? x[i][c] : extreme[c];
  for (int64_t c = 0; c < C; c++) {
    float d = finite(top[c]) ? extreme[c] / -8 : top[c];
    codes.d[c] = to_half(d).bits, inverse[c] = inverse_of(d);
  }
  for (int64_t i = 0; i < 32; i++)
    for (int64_t c = 0; c < C; c++) {
      float v = finite(x[i][c]) ? clamp_float(x[i][c] * inverse[c] + 8.5f, 0, 15) : 0;
      codes.quants[i][c] = uint8_t(v);
    }
}

template <int C>
FOVEA_INLINE void quantize_q4_K(const float (*x)[C], Codes<C>& codes) {
  Lanes<C> top, scales[8], minima[8], top_scale = {}, top_minimum = {};
  largest(x, 256, top);
  for (int64_t s = 0; s < 8; s++) {
    search_affine(x + s * 32, scales[s], minima[s]);
    for (int64_t c = 0; c < C; c++) {
      top_scale[c] = scales[s][c] > top_scale[c] ? scales[s][c] : top_scale[c];
      top_minimum[c] = -minima[s][c] > top_minimum[c] ? -minima[s][c] : top_minimum[c];
    }
  }
  for (int64_t c = 0; c < C; c++) {
    Half d = to_half(finite(top[c]) ? top_scale[c] / 63 : top[c]), dmin = to_half(top_minimum[c] / 63);
    codes.d[c] = d.bits, codes.dmin[c] = finite(top[c]) ? dmin.bits : uint16_t(0);
    float d_inverse = inverse_of(to_float(d)), dmin_inverse = inverse_of(to_float(Half{codes.dmin[c]}));
    for (int64_t s = 0; s < 8; s++) {
      bool sound = finite(top[c]);
      float scale = sound ? nearest(clamp_float(scales[s][c] * d_inverse, 0, 63)) : 0;
      float minimum = sound ? nearest(clamp_float(-minima[s][c] * dmin_inverse, 0, 63)) : 0;
      codes.scales[s][c] = uint8_t(scale), codes.mins[s][c] = uint8_t(minimum);
      float inverse = inverse_of(to_float(d) * scale), offset = to_float(Half{codes.dmin[c]}) * minimum;
      for (int64_t i = s * 32; i < (s + 1) * 32; i++)
        codes.quants[i][c] = sound ? uint8_t(nearest(clamp_float((x[i][c] + offset) * inverse, 0, 15))) : 0;
    }
  }
}

template <int C>
FOVEA_INLINE void quantize_q6_K(const float (*x)[C], Codes<C>& codes) {
  Lanes<C> top, scales[16], top_scale = {};
  largest(x, 256, top);
  for (int64_t s = 0; s < 16; s++) {
    search_symmetric(x + s * 16, scales[s]);
    for (int64_t c = 0; c < C; c++)
      top_scale[c] = __builtin_fabsf(scales[s][c]) > __builtin_fabsf(top_scale[c]) ? scales[s][c] : top_scale[c];
  }
  for (int64_t c = 0; c < C; c++) {
    bool sound = finite(top[c]);
    Half d = to_half(sound ? top_scale[c] / -128 : top[c]);
    float d_inverse = inverse_of(to_float(d));
    codes.d[c] = d.bits;
    for (int64_t s = 0; s < 16; s++) {
      float scale = sound ? nearest(clamp_float(scales[s][c] * d_inverse, -128, 127)) : 0;
      codes.scales[s][c] = uint8_t(int8_t(scale));
      float inverse = inverse_of(to_float(d) * scale);
      for (int64_t i = s * 16; i < (s + 1) * 16; i++)
        codes.quants[i][c] = uint8_t((sound ? nearest(clamp_float(x[i][c] * inverse, -32, 31)) : 0) + 32);
    }
  }
}

template <int C>
FOVEA_INLINE void quantize_int8(const float (*x)[C], Codes<C>& codes) {
  for (int64_t c = 0; c < C; c++) {
    float inverse = inverse_of(codes.channel[c]);
    for (int64_t i = 0; i < 32; i++) {
      float v = finite(x[i][c]) ? nearest(clamp_float(x[i][c] * inverse, -127, 127)) : 0;
      codes.quants[i][c] = uint8_t(v + 128);
    }
  }
}

template <int C>
FOVEA_INLINE void quantize_block(QuantType type, const float (*x)[C], Codes<C>& codes) {
  switch (type) {
    case QuantType::q8_0: return quantize_q8_0(x, codes);
    case QuantType::q4_0: return quantize_q4_0(x, codes);
    case QuantType::q4_K: return quantize_q4_K(x, codes);
    case QuantType::q6_K: return quantize_q6_K(x, codes);
    case QuantType::int8: return quantize_int8(x, codes);
  }
}

}  // namespace fovea
