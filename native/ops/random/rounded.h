// Functions of float64 whose bits do not depend on the instruction set: `rounded` keeps the compiler from fusing a
// product with a sum, which only some machines can do. And the uniform numbers of draws, 53 bits each.
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
// Two vectors side by side, since one alone waits for its own operations most of the time.
struct Two {
  Vec<double> a, b;
};
template <class F>
FOVEA_INLINE Two both(Two x, F f) {
  return {f(x.a), f(x.b)};
}
template <int n>
FOVEA_INLINE Two rounded_polynomial(Two x, const double (&c)[n]) {
  Two p = {splat(c[n - 1]), splat(c[n - 1])};
#pragma GCC unroll 16
  for (int i = n - 2; i >= 0; i--) p.a = rounded(p.a * x.a) + c[i], p.b = rounded(p.b * x.b) + c[i];
  return p;
}

// ln x for x in (0, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), an odd series in (m - 1) / (m + 1).
FOVEA_INLINE Two rounded_log(Two x) {
  constexpr double c[] = {0x1.71547652b82ffp+1, 0x1.ec709dc39ccd8p-1, 0x1.2776c5167af8dp-1, 0x1.a617569db643ap-2,
                          0x1.484fa4637696ap-2, 0x1.0bb87a5b3f518p-2, 0x1.f1772c5a5822bp-3};
  constexpr uint64_t root = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
  auto shifted = [](Vec<double> v) { return (Vec<uint64_t>)v - root + (uint64_t(1024) << 52); };
  Two e =
      both(x, [&](Vec<double> v) { return (Vec<double>)((shifted(v) >> 52) | 0x4330000000000000u) - (0x1p52 + 1024); });
  Two s = both(x, [&](Vec<double> v) {
    Vec<double> m = (Vec<double>)((shifted(v) & ((uint64_t(1) << 52) - 1)) + root);
    return (m - 1.0) / (m + 1.0);
  });
  Two p = rounded_polynomial(both(s, [](Vec<double> v) { return rounded(v * v); }), c);
  return {(e.a + rounded(s.a * p.a)) * 0x1.62e42fefa39efp-1, (e.b + rounded(s.b * p.b)) * 0x1.62e42fefa39efp-1};
}
FOVEA_INLINE double rounded_log(double x) { return rounded_log({splat(x), splat(x)}).a[0]; }

// [0, 1): 32 bits of the element's word in `stream` and 21 of that in the next.
FOVEA_INLINE double uniform53(uint64_t seed, uint64_t offset, uint64_t element, uint32_t stream) {
  const uint64_t high = philox_word(seed, offset, element, stream),
                 low = philox_word(seed, offset, element, stream + 1);
  return double(high << 21 | low >> 11) * 0x1p-53;
}
// When category j arrives in the exponential race of `row`, in which the first arrival is a draw by weight.
FOVEA_INLINE double arrival(uint64_t seed, uint64_t offset, uint64_t row, int64_t j, double weight) {
  return -rounded_log(uniform53(seed, offset, row, uint32_t(2 + 2 * j)) + 0x1p-53) / weight;
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
