// Rows of random numbers whose bits do not depend on the instruction set: everything is computed in float64 by
// additions, products, quotients and square roots that IEEE 754 fixes, each of them rounded (rounded.h).
//
//   uniform   word / 2^32 (float32: its upper 24 bits); float64: 53 bits, 32 of stream 0 and 21 of stream 1
//   normal    Box and Muller 1958: words (0, 1) and (2, 3) of a block give sqrt(-2 ln u) times cosine and sine of 2 pi
//   v
#pragma once
#include "core/random.h"
#include "ops/elementwise/move.h"
#include "ops/random/rounded.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kRow = 512;  // elements made at a time, a multiple of 4 and of any vector

// The lower halves of 64-bit lanes times m.
FOVEA_INLINE Vec<uint64_t> low_times(Vec<uint64_t> x, uint32_t m) {
#if defined(__AVX512F__)
  return (Vec<uint64_t>)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(m));
#elif defined(__AVX2__)
  return (Vec<uint64_t>)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(m));
#else
  for (int i = 0; i < kLanes<uint64_t>; i++) x[i] = uint64_t(uint32_t(x[i])) * m;
  return x;
#endif
}
struct Source {
  uint64_t seed, offset;
  // Words 0 and 1, and 2 and 3, of the blocks that `block` counts, in the halves of 64-bit lanes: philox of
  // core/random.h, a block to a lane. The upper half of a lane is rubbish on the way.
  struct Words {
    Vec<uint64_t> first, second;
  };
  FOVEA_INLINE Words blocks(Vec<uint64_t> block, uint32_t stream) const {
    Vec<uint64_t> c0 = block, c1 = block >> 32, c2 = Vec<uint64_t>{} + stream, c3{};
    auto k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
      Vec<uint64_t> p0 = low_times(c0, 0xD2511F53u), p1 = low_times(c2, 0xCD9E8D57u);
      c0 = (p1 >> 32) ^ c1 ^ k0, c2 = (p0 >> 32) ^ c3 ^ k1, c1 = p1, c3 = p0;
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    constexpr uint64_t low = 0xffffffff;
    return {(c0 & low) | (c1 << 32), (c2 & low) | (c3 << 32)};
  }
  // Words of elements [first, first + kRow), first a multiple of 4.
  void words(int64_t first, uint32_t stream, uint32_t* out) const {
    constexpr int lanes = kLanes<uint64_t>;
    constexpr std::make_index_sequence<size_t(lanes)> all;
    Vec<uint64_t> block = Vec<uint64_t>{} + (offset + uint64_t(first) / 4);
    for (int i = 0; i < lanes; i++) block[i] += uint64_t(i);
    for (int64_t i = 0; i < kRow; i += 4 * lanes, block += uint64_t(lanes)) {
      Words w = blocks(block, stream);
      Vec<uint64_t> pair[2] = {interleave<Vec<uint64_t>, lanes, 0>(w.first, w.second, all),
                               interleave<Vec<uint64_t>, lanes, 1>(w.first, w.second, all)};
      __builtin_memcpy(out + i, pair, sizeof pair);
    }
  }
};

// Uniform numbers of [0, 1) in `bits` = 24 or 53 bits.
template <int bits>
void uniform_row(const Source& source, int64_t first, double* u) {
  alignas(64) uint32_t high[kRow], low[kRow];
  source.words(first, 0, high);
  if constexpr (bits == 53) source.words(first, 1, low);
  for (int64_t i = 0; i < kRow; i++) {
    if constexpr (bits == 24) u[i] = double(int32_t(high[i] >> 8)) * 0x1p-24;
    else u[i] = double(uint64_t(high[i]) << 21 | low[i] >> 11) * 0x1p-53;
  }
}

struct SineCosine {
  Two sine, cosine;
};
// Of 2 pi v, v in [0, 1): v = quarter / 4 + r with |r| <= 1/8, which is exact.
FOVEA_INLINE SineCosine rounded_turn(Two v) {
  constexpr double s[] = {0x1.921fb54442d18p+2, -0x1.4abbce625be41p+5, 0x1.466bc677586fbp+6, -0x1.32d2cce2d4de6p+6,
                          0x1.50782fc9db6a7p+5, -0x1.e300634564eebp+3, 0x1.e3eeb4f135888p+1};
  constexpr double c[] = {0x1.0000000000000p+0, -0x1.3bd3cc9be45dep+4, 0x1.03c1f081b5aaap+6, -0x1.55d3c7e3c8d55p+6,
                          0x1.e1f5068303519p+5, -0x1.a6d1ec3cc9bdcp+4, 0x1.f9cc15731675dp+2, -0x1.b2584dd595250p+0};
  auto shifted = [](Vec<double> x) { return x * 4.0 + 0x1.8p52; };
  Two r = both(v, [&](Vec<double> x) { return x - (shifted(x) - 0x1.8p52) * 0.25; });
  Two z = both(r, [](Vec<double> x) { return rounded(x * x); });
  Two sine = rounded_polynomial(z, s), cosine = rounded_polynomial(z, c);
  auto placed = [&](Vec<double> x, Vec<double> si, Vec<double> co, Vec<double>& sine_to, Vec<double>& cosine_to) {
    Vec<int64_t> q = (Vec<int64_t>)shifted(x), odd = (q & 1) != 0;
    Vec<int64_t> sine_sign = (q & 2) << 62, cosine_sign = ((q + 1) & 2) << 62;
    sine_to = (Vec<double>)((Vec<int64_t>)blend(odd, co, si) ^ sine_sign);
    cosine_to = (Vec<double>)((Vec<int64_t>)blend(odd, si, co) ^ cosine_sign);
  };
  SineCosine y;
  placed(v.a, r.a * sine.a, cosine.a, y.sine.a, y.cosine.a);
  placed(v.b, r.b * sine.b, cosine.b, y.sine.b, y.cosine.b);
  return y;
}

// Pairs of uniform numbers, the first of (0, 1], the second of [0, 1), in `bits` = 32 or 53 bits.
template <int bits>
struct UniformPairs;
template <>
struct UniformPairs<32> {
  alignas(64) uint64_t words[kRow / 2];  // a pair each
  UniformPairs(const Source& source, int64_t first) { source.words(first, 0, reinterpret_cast<uint32_t*>(words)); }
  // A whole number below 2^52 under the exponent of 2^52 is that number behind 2^52.
  static FOVEA_INLINE Vec<double> fraction(Vec<uint64_t> word) {
    return ((Vec<double>)(word | 0x4330000000000000u) - 0x1p52) * 0x1p-32;
  }
  FOVEA_INLINE Vec<double> radii(int64_t i) const { return fraction(load(words + i) & 0xffffffffu) + 0x1p-32; }
  FOVEA_INLINE Vec<double> angles(int64_t i) const { return fraction(load(words + i) >> 32); }
};
template <>
struct UniformPairs<53> {
  alignas(64) double radius[kRow / 2], angle[kRow / 2];
  UniformPairs(const Source& source, int64_t first) {
    alignas(64) double u[kRow];
    uniform_row<53>(source, first, u);
    for (int64_t i = 0; i < kRow / 2; i++) radius[i] = u[2 * i] + 0x1p-53, angle[i] = u[2 * i + 1];
  }
  FOVEA_INLINE Vec<double> radii(int64_t i) const { return load(radius + i); }
  FOVEA_INLINE Vec<double> angles(int64_t i) const { return load(angle + i); }
};

// Normal numbers: mean + std times the standard ones.
template <int bits>
void normal_row(const Source& source, int64_t first, double mean, double std, double* z) {
  UniformPairs<bits> u(source, first);
  constexpr int lanes = kLanes<double>;
  constexpr std::make_index_sequence<size_t(lanes)> all;
  auto pairs = [&](Vec<double> radius, Vec<double> cosine, Vec<double> sine, double* to) {
    Vec<double> x = rounded((radius * cosine) * std) + mean, y = rounded((radius * sine) * std) + mean;
    store<double>(to, interleave<Vec<double>, lanes, 0>(x, y, all));
    store<double>(to + lanes, interleave<Vec<double>, lanes, 1>(x, y, all));
  };
  for (int64_t i = 0; i < kRow / 2; i += 2 * lanes) {
    Two r = both(rounded_log({u.radii(i), u.radii(i + lanes)}),
                 [](Vec<double> v) { return each_lane(v * -2.0, [](double x) { return __builtin_sqrt(x); }); });
    SineCosine turn = rounded_turn({u.angles(i), u.angles(i + lanes)});
    pairs(r.a, turn.cosine.a, turn.sine.a, z + 2 * i);
    pairs(r.b, turn.cosine.b, turn.sine.b, z + 2 * (i + lanes));
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
