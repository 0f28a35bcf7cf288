// Rows of random numbers whose bits do not depend on the instruction set: everything is computed in float64 by
// additions, products, quotients and square roots that IEEE 754 fixes, and `rounded` keeps the compiler from fusing a
// product with a sum, which only some machines can do.
//
//   uniform   word / 2^32 (float32: its upper 24 bits); float64: 53 bits, 32 of stream 0 and 21 of stream 1
//   normal    Box and Muller 1958: words (0, 1) and (2, 3) of a block give sqrt(-2 ln u) times cosine and sine of 2 pi
//   v
#pragma once
#include "core/random.h"
#include "cpu/math.h"

namespace fovea::FOVEA_ISA {
namespace {

FOVEA_INLINE Vec<double> rounded(Vec<double> x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#else
  asm("" : "+w"(x));
#endif
  return x;
}
template <int n>
FOVEA_INLINE Vec<double> rounded_polynomial(Vec<double> x, const double (&c)[n]) {
  Vec<double> p = splat(c[n - 1]);
#pragma GCC unroll 16
  for (int i = n - 2; i >= 0; i--) p = rounded(p * x) + c[i];
  return p;
}

constexpr int64_t kRow = 512;  // elements made at a time, a multiple of 4 and of any vector

struct Source {
  uint64_t seed, offset;
  // Words of elements [first, first + kRow), first a multiple of 4.
  void words(int64_t first, uint32_t stream, uint32_t* out) const {
    uint64_t block = offset + uint64_t(first) / 4;
    constexpr int lanes = 32;  // blocks side by side, which the compiler turns into vectors
    alignas(64) uint32_t word[4][lanes];
    for (int64_t i = 0; i < kRow / 4; i += lanes, out += 4 * lanes) {
      for (int j = 0; j < lanes; j++) {
        PhiloxBlock b = philox(seed, block + uint64_t(i + j), stream);
        word[0][j] = b.word[0], word[1][j] = b.word[1], word[2][j] = b.word[2], word[3][j] = b.word[3];
      }
      for (int j = 0; j < lanes; j++)
        for (int k = 0; k < 4; k++) out[4 * j + k] = word[k][j];
    }
  }
};

// Uniform numbers of [0, 1) in `bits` = 24, 32 or 53 bits.
void uniform_row(const Source& source, int64_t first, int bits, double* u) {
  alignas(64) uint32_t high[kRow], low[kRow];
  source.words(first, 0, high);
  if (bits == 53) source.words(first, 1, low);
  for (int64_t i = 0; i < kRow; i++) {
    if (bits == 24) u[i] = double(high[i] >> 8) * 0x1p-24;
    else if (bits == 32) u[i] = double(high[i]) * 0x1p-32;
    else u[i] = double(uint64_t(high[i]) << 21 | low[i] >> 11) * 0x1p-53;
  }
}

// ln x for x in (0, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), an odd series in (m - 1) / (m + 1).
FOVEA_INLINE Vec<double> rounded_log(Vec<double> x) {
  constexpr double c[] = {0x1.71547652b82ffp+1, 0x1.ec709dc39ccd8p-1, 0x1.2776c5167af8dp-1, 0x1.a617569db643ap-2,
                          0x1.484fa4637696ap-2, 0x1.0bb87a5b3f518p-2, 0x1.f1772c5a5822bp-3};
  constexpr uint64_t root = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
  Vec<uint64_t> i = (Vec<uint64_t>)x - root + (uint64_t(1024) << 52);
  Vec<double> m = (Vec<double>)((i & ((uint64_t(1) << 52) - 1)) + root);
  Vec<double> e = (Vec<double>)((i >> 52) | 0x4330000000000000u) - (0x1p52 + 1024);
  Vec<double> s = (m - 1.0) / (m + 1.0);
  return (e + rounded(s * rounded_polynomial(rounded(s * s), c))) * 0x1.62e42fefa39efp-1;
}
struct SineCosine {
  Vec<double> sine, cosine;
};
// Of 2 pi v, v in [0, 1): v = quarter / 4 + r with |r| <= 1/8, which is exact.
FOVEA_INLINE SineCosine rounded_turn(Vec<double> v) {
  constexpr double s[] = {0x1.921fb54442d18p+2, -0x1.4abbce625be41p+5, 0x1.466bc677586fbp+6, -0x1.32d2cce2d4de6p+6,
                          0x1.50782fc9db6a7p+5, -0x1.e300634564eebp+3, 0x1.e3eeb4f135888p+1};
  constexpr double c[] = {0x1.0000000000000p+0, -0x1.3bd3cc9be45dep+4, 0x1.03c1f081b5aaap+6, -0x1.55d3c7e3c8d55p+6,
                          0x1.e1f5068303519p+5, -0x1.a6d1ec3cc9bdcp+4, 0x1.f9cc15731675dp+2, -0x1.b2584dd595250p+0};
  Vec<double> shifted = v * 4.0 + 0x1.8p52, quarter = shifted - 0x1.8p52, r = v - quarter * 0.25, z = rounded(r * r);
  Vec<double> sine = r * rounded_polynomial(z, s), cosine = rounded_polynomial(z, c);
  Vec<int64_t> q = (Vec<int64_t>)shifted, odd = (q & 1) != 0, lower = (q & 2) << 62;  // the sign of the sine
  Vec<int64_t> left = ((q + 1) & 2) << 62;                                            // the sign of the cosine
  return {(Vec<double>)((Vec<int64_t>)blend(odd, cosine, sine) ^ lower),
          (Vec<double>)((Vec<int64_t>)blend(odd, sine, cosine) ^ left)};
}

// Standard normal numbers; u of the logarithm is taken from (0, 1].
void normal_row(const Source& source, int64_t first, int bits, double* z) {
  alignas(64) double u[kRow], radius[kRow / 2], angle[kRow / 2];
  uniform_row(source, first, bits, u);
  double smallest = bits == 53 ? 0x1p-53 : 0x1p-32;
  for (int64_t i = 0; i < kRow / 2; i++) radius[i] = u[2 * i] + smallest, angle[i] = u[2 * i + 1];
  for (int64_t i = 0; i < kRow / 2; i += kLanes<double>) {
    Vec<double> r = each_lane(rounded_log(load(radius + i)) * -2.0, [](double x) { return __builtin_sqrt(x); });
    SineCosine turn = rounded_turn(load(angle + i));
    store<double>(radius + i, r * turn.cosine), store<double>(angle + i, r * turn.sine);
  }
  for (int64_t i = 0; i < kRow / 2; i++) z[2 * i] = radius[i], z[2 * i + 1] = angle[i];
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
