// Sums of four products of unsigned weights and signed activations, exact in int32, with what each instruction set has.
//
// A lane of a vector is one channel: its four bytes are consecutive k. x86 multiplies bytes by `vpdpbusd`, or, without
// it, splits them into 16 bits (even and odd bytes) for `pmaddwd`, since `pmaddubsw` would saturate; arm64 has `sdot`,
// for which weights of 8 bits become signed, or multiplies to 16 bits and adds neighbours.
#pragma once
#include "cpu/simd.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fovea::FOVEA_ISA {
namespace {

using Sums = Vec<int32_t>;

#if defined(__AVX512VNNI__)

constexpr int kMaxRows = 12;  // of activations at a time: 12 integer sums and 12 float ones of 32 registers
constexpr int64_t kQuadBytes = 4;
constexpr int kByteBias = 128;  // what is still to be subtracted from weights of 8 bits

using Quants = Vec<uint32_t>;
template <bool Bytes>
FOVEA_INLINE Quants prepare(Vec<uint32_t> w) {
  return w;
}
FOVEA_INLINE Sums dot(Sums sums, Quants w, const int8_t* quad) {
  // Through intrinsics gcc 12 loads what the instruction can broadcast itself, and copies sums: a fifth slower.
  typedef int32_t __attribute__((may_alias, aligned(1))) FourBytes;
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(w), "m"(*reinterpret_cast<const FourBytes*>(quad)));
  return sums;
}
FOVEA_INLINE void store_quads(const int32_t* x, int8_t* quads) {
  for (int i = 0; i < 32; i++) quads[i] = int8_t(x[i]);
}

#elif defined(__SSE2__)

constexpr int kMaxRows = kVectorBytes == 32 ? 4 : 2;
constexpr int64_t kQuadBytes = 8;  // k 0 and 2, then 1 and 3, as 16 bits
constexpr int kByteBias = 128;

struct Quants {
  Vec<uint32_t> even, odd;
};
template <bool Bytes>
FOVEA_INLINE Quants prepare(Vec<uint32_t> w) {
  return {w & 0x00ff00ffu, (w >> 8) & 0x00ff00ffu};
}
FOVEA_INLINE Sums multiply_add(Vec<uint32_t> w, int32_t x) {
#if defined(__AVX2__)
  return Sums(_mm256_madd_epi16(__m256i(w), _mm256_set1_epi32(x)));
#else
  return Sums(_mm_madd_epi16(__m128i(w), _mm_set1_epi32(x)));
#endif
}
FOVEA_INLINE Sums dot(Sums sums, const Quants& w, const int8_t* quad) {
  int32_t x[2];
  __builtin_memcpy(x, quad, 8);
  return sums + multiply_add(w.even, x[0]) + multiply_add(w.odd, x[1]);
}
FOVEA_INLINE void store_quads(const int32_t* x, int8_t* quads) {
  int16_t pairs[32];
  for (int i = 0; i < 32; i += 4)
    pairs[i] = int16_t(x[i]), pairs[i + 1] = int16_t(x[i + 2]), pairs[i + 2] = int16_t(x[i + 1]),
    pairs[i + 3] = int16_t(x[i + 3]);
  __builtin_memcpy(quads, pairs, sizeof pairs);
}

#else

constexpr int kMaxRows = 4;
constexpr int64_t kQuadBytes = 4;
constexpr int kByteBias = 0;  // `prepare` subtracts it

using Quants = int8x16_t;
template <bool Bytes>
FOVEA_INLINE Quants prepare(Vec<uint32_t> w) {
  return vreinterpretq_s8_u32(uint32x4_t(Bytes ? w ^ 0x80808080u : w));
}
FOVEA_INLINE Sums dot(Sums sums, Quants w, const int8_t* quad) {
  int32_t four;
  __builtin_memcpy(&four, quad, 4);
  int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
#if defined(__ARM_FEATURE_DOTPROD)
  return Sums(vdotq_s32(int32x4_t(sums), w, x));
#else
  int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
  int32x4_t high = vpaddlq_s16(vmull_high_s8(w, x));
  return sums + Sums(vpaddq_s32(low, high));
#endif
}
FOVEA_INLINE void store_quads(const int32_t* x, int8_t* quads) {
  for (int i = 0; i < 32; i++) quads[i] = int8_t(x[i]);
}

#endif

}  // namespace
}  // namespace fovea::FOVEA_ISA
