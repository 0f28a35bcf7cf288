// The numbers of numbers.h beside this file, bit for bit: float64 additions, products, quotients and square roots that
// IEEE 754 fixes, in the same order, and never fused (__dmul_rn), on one value at a time.
#pragma once
#include "core/random.h"
#include "cuda/kernel.h"

namespace fovea::cuda {
namespace {

struct Source {
  uint64_t seed, offset;
  __device__ PhiloxBlock block(int64_t i, uint32_t stream) const { return philox(seed, offset + uint64_t(i), stream); }
};

template <int n>
__device__ inline double rounded_polynomial(double x, const double (&c)[n]) {
  double p = c[n - 1];
  for (int i = n - 2; i >= 0; i--) p = __dadd_rn(__dmul_rn(p, x), c[i]);
  return p;
}
__device__ inline uint64_t double_bits(double x) { return uint64_t(__double_as_longlong(x)); }
__device__ inline double double_of(uint64_t bits) { return __longlong_as_double(int64_t(bits)); }

// ln x for x in (0, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), an odd series in (m - 1) / (m + 1).
__device__ inline double rounded_log(double x) {
  const double c[] = {0x1.71547652b82ffp+1, 0x1.ec709dc39ccd8p-1, 0x1.2776c5167af8dp-1, 0x1.a617569db643ap-2,
                      0x1.484fa4637696ap-2, 0x1.0bb87a5b3f518p-2, 0x1.f1772c5a5822bp-3};
  constexpr uint64_t root = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
  uint64_t shifted = double_bits(x) - root + (uint64_t(1024) << 52);
  double e = double(int64_t(shifted >> 52) - 1024);
  double m = double_of((shifted & ((uint64_t(1) << 52) - 1)) + root);
  double s = __ddiv_rn(__dadd_rn(m, -1.0), __dadd_rn(m, 1.0));
  double p = rounded_polynomial(__dmul_rn(s, s), c);
  return __dmul_rn(__dadd_rn(e, __dmul_rn(s, p)), 0x1.62e42fefa39efp-1);
}

// Sine and cosine of 2 pi v, v in [0, 1): v = quarter / 4 + r with |r| <= 1/8, which is exact.
struct Turn {
  double sine, cosine;
};
__device__ inline Turn rounded_turn(double v) {
  const double s[] = {0x1.921fb54442d18p+2, -0x1.4abbce625be41p+5, 0x1.466bc677586fbp+6, -0x1.32d2cce2d4de6p+6,
                      0x1.50782fc9db6a7p+5, -0x1.e300634564eebp+3, 0x1.e3eeb4f135888p+1};
  const double c[] = {0x1.0000000000000p+0, -0x1.3bd3cc9be45dep+4, 0x1.03c1f081b5aaap+6, -0x1.55d3c7e3c8d55p+6,
                      0x1.e1f5068303519p+5, -0x1.a6d1ec3cc9bdcp+4, 0x1.f9cc15731675dp+2, -0x1.b2584dd595250p+0};
  double shifted = __dadd_rn(__dmul_rn(v, 4.0), 0x1.8p52);
  double r = __dadd_rn(v, -__dmul_rn(__dadd_rn(shifted, -0x1.8p52), 0.25));
  double z = __dmul_rn(r, r), sine = __dmul_rn(r, rounded_polynomial(z, s)), cosine = rounded_polynomial(z, c);
  uint64_t quarter = double_bits(shifted);
  Turn turn = quarter & 1 ? Turn{cosine, sine} : Turn{sine, cosine};
  turn.sine = double_of(double_bits(turn.sine) ^ ((quarter & 2) << 62));
  turn.cosine = double_of(double_bits(turn.cosine) ^ (((quarter + 1) & 2) << 62));
  return turn;
}

// Box and Muller: two normal numbers from a radius of (0, 1] and an angle of [0, 1).
struct Pair {
  double first, second;
};
__device__ inline Pair normal_pair(double radius, double angle, double mean, double deviation) {
  double r = __dsqrt_rn(__dmul_rn(rounded_log(radius), -2.0));
  Turn turn = rounded_turn(angle);
  return {__dadd_rn(__dmul_rn(__dmul_rn(r, turn.cosine), deviation), mean),
          __dadd_rn(__dmul_rn(__dmul_rn(r, turn.sine), deviation), mean)};
}

__device__ inline double uniform24(uint32_t high) { return __dmul_rn(double(high >> 8), 0x1p-24); }
__device__ inline double uniform53(uint32_t high, uint32_t low) {
  return __dmul_rn(double(uint64_t(high) << 21 | low >> 11), 0x1p-53);
}

}  // namespace
}  // namespace fovea::cuda
