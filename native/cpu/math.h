// Vector forms of the elementary functions. float: own range reductions and minimax polynomials (computed with the
// Remez algorithm in 40 digits, then rounded to float), at most 4 ULP on every instruction set, with IEEE special
// values (NaN, infinities, signed zeros, denormals). double: the C library, lane by lane.
//
//   exp exp2 expm1 decay log log2 log1p tanh sigmoid erf normal_tail sin cos pow each_lane
//
// Included by per-instruction-set files only, like simd.h. Nothing here needs fused multiply-add to be accurate.
#pragma once
#include "cpu/simd.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr float kInf = __builtin_inff();
constexpr float kLn2High = 0x1.63p-1f,
                kLn2Low = -0x1.bd0106p-13f;  // ln 2 in two parts; the first has 9 bits, so n * kLn2High is exact
constexpr float kRoundToInt = 0x1.8p23f;     // x + this - this is x rounded to even, for |x| < 2^22

// ---- helpers

FOVEA_INLINE Vec<int32_t> bits_of(Vec<float> x) { return (Vec<int32_t>)x; }
FOVEA_INLINE Vec<float> float_of(Vec<int32_t> x) { return (Vec<float>)x; }
template <class V>
FOVEA_INLINE V blend(decltype(V{} < V{}) m, V a, V b) {
  return m ? a : b;
}
FOVEA_INLINE Vec<float> abs(Vec<float> x) { return float_of(bits_of(x) & 0x7fffffff); }
FOVEA_INLINE Vec<double> abs(Vec<double> x) { return (Vec<double>)((Vec<int64_t>)x & INT64_MAX); }
FOVEA_INLINE Vec<float> copy_sign(Vec<float> magnitude, Vec<float> sign) {
  return float_of((bits_of(magnitude) & 0x7fffffff) | (bits_of(sign) & INT32_MIN));
}
template <class M>
FOVEA_INLINE bool any_lane(M mask) {
  M none{};
  return __builtin_memcmp(&mask, &none, sizeof mask) != 0;
}
// f of every element; the compiler turns what the machine can do (floor, sqrt) into vector instructions.
template <class V, class F>
FOVEA_INLINE V each_lane(V x, F f) {
  constexpr int lanes = int(sizeof(V) / sizeof(x[0]));
  for (int i = 0; i < lanes; i++) x[i] = f(x[i]);
  return x;
}
template <class V, class F>
FOVEA_INLINE V each_lane(V x, V y, F f) {
  constexpr int lanes = int(sizeof(V) / sizeof(x[0]));
  for (int i = 0; i < lanes; i++) x[i] = f(x[i], y[i]);
  return x;
}
// c[0] + c[1] x + c[2] x^2 + ...
template <class V, int n, class C>
FOVEA_INLINE V polynomial(V x, const C (&c)[n]) {
  V p = V{} + c[n - 1];
#pragma GCC unroll 16
  for (int i = n - 2; i >= 0; i--) p = p * x + c[i];
  return p;
}
// p 2^n for n in [-252, 254], in two factors so that neither overflows and only the last product rounds.
FOVEA_INLINE Vec<float> scale(Vec<float> p, Vec<int32_t> n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, _mm512_cvtepi32_ps((__m512i)n));  // the same bits, as it rounds once, too
#else
  Vec<int32_t> half = n >> 1;
  return p * float_of((half + 127) << 23) * float_of((n - half + 127) << 23);
#endif
}
FOVEA_INLINE Vec<int32_t> to_int(Vec<float> x) { return __builtin_convertvector(x, Vec<int32_t>); }

// ---- doubles in the width of floats, for what must be more exact than float on the way

struct Wide {
  Vec<double> first, second;
};
#if defined(__AVX512F__)
FOVEA_INLINE Wide widen(Vec<float> x) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
FOVEA_INLINE Vec<float> narrow(Wide x) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.first)), _mm512_cvtpd_ps(x.second), 1);
}
#elif defined(__AVX2__)
FOVEA_INLINE Wide widen(Vec<float> x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
FOVEA_INLINE Vec<float> narrow(Wide x) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(x.first)), _mm256_cvtpd_ps(x.second), 1);
}
#else
typedef float HalfVec __attribute__((vector_size(kVectorBytes / 2)));
FOVEA_INLINE Wide widen(Vec<float> x) {
  HalfVec half[2];
  __builtin_memcpy(half, &x, sizeof x);
  return {__builtin_convertvector(half[0], Vec<double>), __builtin_convertvector(half[1], Vec<double>)};
}
FOVEA_INLINE Vec<float> narrow(Wide x) {
  HalfVec half[2] = {__builtin_convertvector(x.first, HalfVec), __builtin_convertvector(x.second, HalfVec)};
  Vec<float> y;
  __builtin_memcpy(&y, half, sizeof y);
  return y;
}
#endif

// 2^x for |x| < 1000, relative error 2^-39.
FOVEA_INLINE Vec<double> exp2_wide(Vec<double> x) {
  constexpr double c[] = {0x1.62e42fef6c636p-1,  0x1.ebfbdff81d0a6p-3,  0x1.c6b08e07dc5f9p-5,  0x1.3b2ab725a6783p-7,
                          0x1.5d8714c0648cfp-10, 0x1.4308916b89e62p-13, 0x1.00f8400f64008p-16, 0x1.63f0340e4267fp-20};
  Vec<double> shifted = x + 0x1.8p52;
  Vec<double> f = x - (shifted - 0x1.8p52);
  Vec<double> p = polynomial(f, c) * f + 1.0;
  return (Vec<double>)((Vec<uint64_t>)p + ((Vec<uint64_t>)shifted << 52));
}
// log2 of a positive finite double, relative error 2^-50: x = 2^e m with m in [sqrt(1/2), sqrt(2)), an odd series in
// (m-1)/(m+1).
FOVEA_INLINE Vec<double> log2_wide(Vec<double> x) {
  constexpr double c[] = {0x1.71547652b82ffp+1, 0x1.ec709dc39ccd8p-1, 0x1.2776c5167af8dp-1, 0x1.a617569db643ap-2,
                          0x1.484fa4637696ap-2, 0x1.0bb87a5b3f518p-2, 0x1.f1772c5a5822bp-3};
  constexpr uint64_t root = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
  Vec<uint64_t> i = (Vec<uint64_t>)x - root + (uint64_t(1024) << 52);
  Vec<double> m = (Vec<double>)((i & ((uint64_t(1) << 52) - 1)) + root);
  Vec<double> e = (Vec<double>)((i >> 52) | 0x4330000000000000u) - (0x1p52 + 1024);
  Vec<double> s = (m - 1.0) / (m + 1.0);
  return e + s * polynomial(s * s, c);
}

// ---- exponentials

// e^r for |r| <= ln 2 / 2.
FOVEA_INLINE Vec<float> exp_near_zero(Vec<float> r) {
  constexpr float c[] = {4.999999404e-01f, 1.666651964e-01f, 4.166840017e-02f, 8.368850686e-03f, 1.381432055e-03f};
  return 1.f + (r + r * r * polynomial(r, c));
}
// e^x = 2^n e^r
FOVEA_INLINE Vec<float> exp(Vec<float> x) {
  x = blend(x > 89.f, splat(89.f), blend(x < -104.f, splat(-104.f), x));
  Vec<float> n = (x * 0x1.715476p0f + kRoundToInt) - kRoundToInt;
  Vec<float> r = (x - n * kLn2High) - n * kLn2Low;
  return scale(exp_near_zero(r), to_int(n));
}
// e^x for x <= 0 and factor e^x, the latter exact to the last bits even where e^x alone would be a denormal.
struct Decay {
  Vec<float> plain, times;
};
FOVEA_INLINE Decay decay(Vec<float> x, Vec<float> factor) {
  factor = blend(x < -170.f, factor * 0.f, factor);
  x = blend(x < -170.f, splat(-170.f), x);
  Vec<float> n = (x * 0x1.715476p0f + kRoundToInt) - kRoundToInt;
  Vec<float> p = exp_near_zero((x - n * kLn2High) - n * kLn2Low);
  return {scale(p, to_int(n)), scale(factor * p, to_int(n))};
}
FOVEA_INLINE Vec<float> exp2(Vec<float> x) {
  constexpr float c[] = {6.931472421e-01f, 2.402265221e-01f, 5.550310016e-02f,
                         9.617690928e-03f, 1.340679708e-03f, 1.559508382e-04f};
  x = blend(x > 129.f, splat(129.f), blend(x < -151.f, splat(-151.f), x));
  Vec<float> n = (x + kRoundToInt) - kRoundToInt;
  Vec<float> f = x - n;
  return scale(1.f + f * polynomial(f, c), to_int(n));
}
// 2^n (e^r - 1) + (2^n - 1); with half of 2^n, which does not overflow for n = 128.
FOVEA_INLINE Vec<float> expm1(Vec<float> x) {
  constexpr float c[] = {5.000000000e-01f, 1.666666716e-01f, 4.166632518e-02f,
                         8.333219215e-03f, 1.394342049e-03f, 1.996264473e-04f};
  x = blend(x > 89.f, splat(89.f), blend(x < -20.f, splat(-20.f), x));
  Vec<float> n = (x * 0x1.715476p0f + kRoundToInt) - kRoundToInt;
  Vec<float> r = (x - n * kLn2High) - n * kLn2Low;
  Vec<float> t = r + r * r * polynomial(r, c);
  Vec<float> half = float_of((to_int(n) + 126) << 23);
  Vec<float> y = 2.f * (half * t + (half - 0.5f));
  return blend(n == 0.f, blend(x == 0.f, x, t), y);
}

// ---- logarithms: x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))

struct LogParts {
  Vec<float> e, f;
};
FOVEA_INLINE LogParts log_parts(Vec<float> x) {
  constexpr int32_t root = 0x3f3504f3;  // bits of sqrt(1/2)
  Vec<int32_t> tiny = x < 0x1p-126f;
  Vec<int32_t> i = (Vec<int32_t>)((Vec<uint32_t>)blend(tiny, x * 0x1p25f, x) - uint32_t(root));
  Vec<float> e = __builtin_convertvector((i >> 23) - (tiny & 25), Vec<float>);
  return {e, float_of((i & 0x7fffff) + root) - 1.f};
}
// y where x is an ordinary argument of a logarithm that has its pole at `pole`.
FOVEA_INLINE Vec<float> log_special(Vec<float> x, Vec<float> y, float pole) {
  y = blend(x == kInf, x, y);
  y = blend(x == pole, splat(-kInf), y);
  return blend(x >= pole, y, splat(__builtin_nanf("")));
}
FOVEA_INLINE Vec<float> log_of_parts(LogParts p) {
  constexpr float c[] = {3.333331048e-01f,  -2.500000894e-01f, 2.000216693e-01f,  -1.666809022e-01f, 1.421855390e-01f,
                         -1.240308359e-01f, 1.189351156e-01f,  -1.169433594e-01f, 6.757574528e-02f};
  Vec<float> f = p.f, square = f * f;
  Vec<float> y = f * square * polynomial(f, c) - 0.5f * square;
  return (f + (y + p.e * kLn2Low)) + p.e * kLn2High;
}
FOVEA_INLINE Vec<float> log(Vec<float> x) { return log_special(x, log_of_parts(log_parts(x)), 0.f); }
FOVEA_INLINE Vec<float> log2(Vec<float> x) {
  constexpr float c[] = {-7.213473320e-01f, 4.808982015e-01f,  -3.606972098e-01f, 2.885695994e-01f, -2.396044433e-01f,
                         2.045475245e-01f,  -1.911238283e-01f, 1.865632832e-01f,  -1.102829501e-01f};
  constexpr float high = 0x1.714p0f, low = 0x1.47652cp-12f;  // log2(e) in two parts
  LogParts p = log_parts(x);
  Vec<float> f_high = float_of(bits_of(p.f) & int32_t(0xfffff000));  // f_high * high is exact
  Vec<float> rest = (p.f - f_high) * high + (p.f * low + p.f * p.f * polynomial(p.f, c));
  return log_special(x, (f_high * high + rest) + p.e, 0.f);
}
// The rounding error of 1 + x comes back as a first-order correction; where no exponent is taken out, f = x exactly.
FOVEA_INLINE Vec<float> log1p(Vec<float> x) {
  Vec<float> u = 1.f + x;
  LogParts p = log_parts(u);
  Vec<float> lost = blend(x > 1.f, 1.f - (u - x), x - (u - 1.f)) / u;
  p.f = blend(p.e == 0.f, x, p.f);
  Vec<float> y = log_of_parts(p) + blend(p.e == 0.f, splat(0.f), lost);
  return blend(x == 0.f, x, log_special(x, y, -1.f));
}

// ---- functions of the exponential

FOVEA_INLINE Vec<float> tanh(Vec<float> x) {
  constexpr float c[] = {-3.333333135e-01f, 1.333322078e-01f,  -5.394817889e-02f,
                         2.170689404e-02f,  -8.190013468e-03f, 2.152683912e-03f};
  Vec<float> a = abs(x), square = x * x;
  Vec<float> near = x + x * square * polynomial(square, c);
  Vec<float> far = 1.f - 2.f / (exp(2.f * a) + 1.f);
  return copy_sign(blend(a < 0.625f, near, far), x);
}
// 1 / (1 + e^-x), through e^-|x| so that the small end keeps its precision down to denormals.
FOVEA_INLINE Vec<float> sigmoid(Vec<float> x) {
  Vec<float> e = exp(-abs(x));
  Vec<float> r = 1.f / (1.f + e);
  return blend(x < 0.f, e * r, r);
}
// factor P(Z > u) of the normal distribution for u >= 0, as exp(-u^2 / 2) H(u). H is a polynomial in u - 1 up to 2, and
// beyond it 1/u times one in 1/u - 9/32; in both the constant term dominates, so that few rounding errors count.
// u^2 is taken in two parts, the first exact, since exp would magnify its rounding error.
FOVEA_INLINE Vec<float> normal_tail(Vec<float> u, Vec<float> factor) {
  constexpr float near[] = {2.615782917e-01f, -1.373640001e-01f, 6.210713089e-02f, -2.508522756e-02f,
                            9.255497716e-03f, -3.168229945e-03f, 1.014836133e-03f, -3.023037862e-04f,
                            8.790505672e-05f, -2.922808562e-05f, 7.337268016e-06f};
  constexpr float far[] = {3.729044795e-01f,  -1.555031985e-01f, -1.135718077e-01f, 3.330543041e-01f,
                           -3.370516002e-01f, -5.273140967e-02f, 8.919388056e-01f,  -1.933477521e+00f,
                           1.837707520e+00f,  3.408145666e+00f,  -1.024649906e+01f};
  Vec<int32_t> zero = u > 15.f;  // a denormal below the smallest
  u = blend(zero, splat(15.f), u);
  Vec<float> high = float_of(bits_of(u) & int32_t(0xfffff000));
  Vec<float> main = -0.5f * high * high, rest = -0.5f * (u - high) * (u + high);
  Vec<float> n = ((main + rest) * 0x1.715476p0f + kRoundToInt) - kRoundToInt;
  Vec<float> r = (main - n * kLn2High) + (rest - n * kLn2Low);

  Vec<float> inverse = 1.f / u;
  Vec<float> h = blend(u > 2.f, inverse * polynomial(inverse - 0.28125f, far), polynomial(u - 1.f, near));
  return scale(exp_near_zero(r) * h * blend(zero, factor * 0.f, factor), to_int(n));
}
FOVEA_INLINE Vec<float> erf(Vec<float> x) {
  constexpr float c[] = {1.283791661e-01f, -3.761263490e-01f, 1.128371507e-01f, -2.686050907e-02f,
                         5.203858949e-03f, -8.175639668e-04f, 8.513104694e-05f};
  Vec<float> a = abs(x), square = x * x;
  Vec<float> near = x + x * polynomial(square, c);
  Vec<float> far = 1.f - normal_tail(a * 0x1.6a09e6p0f, splat(2.f));
  return blend(a < 0.9f, near, copy_sign(far, x));
}

// ---- sine and cosine: x = n pi/2 + r, reduced in double; what is too large for that goes to the C library

constexpr float kLargestAngle = 0x1p20f;
struct Angle {
  Vec<float> r;
  Vec<int32_t> quadrant;
};
FOVEA_INLINE Angle reduce_angle(Vec<float> x) {
  auto turns = [](Vec<double> v) { return (v * 0x1.45f306dc9c883p-1 + 0x1.8p52) - 0x1.8p52; };
  auto rest = [](Vec<double> v, Vec<double> n) { return (v - n * 0x1.921fb544p0) - n * 0x1.0b4611a62633p-34; };
  Wide w = widen(x), n{turns(w.first), turns(w.second)};
  return {narrow({rest(w.first, n.first), rest(w.second, n.second)}), to_int(narrow(n))};
}
// The sine of r + quadrant pi/2, |r| <= pi/4.
FOVEA_INLINE Vec<float> sin_of(Angle a) {
  constexpr float s[] = {-1.666665524e-01f, 8.332187310e-03f, -1.951789745e-04f};
  constexpr float c[] = {4.166665301e-02f, -1.388760982e-03f, 2.446174949e-05f};
  Vec<float> z = a.r * a.r;
  Vec<float> sine = a.r + a.r * z * polynomial(z, s);
  Vec<float> cosine = 1.f - (0.5f * z - z * z * polynomial(z, c));
  Vec<float> y = blend((a.quadrant & 1) != 0, cosine, sine);
  return float_of(bits_of(y) ^ ((a.quadrant & 2) << 30));
}
FOVEA_INLINE Vec<float> sin(Vec<float> x) {
  if (any_lane(~(abs(x) <= kLargestAngle))) return each_lane(x, [](float v) { return __builtin_sinf(v); });
  return blend(x == 0.f, x, sin_of(reduce_angle(x)));
}
FOVEA_INLINE Vec<float> cos(Vec<float> x) {
  if (any_lane(~(abs(x) <= kLargestAngle))) return each_lane(x, [](float v) { return __builtin_cosf(v); });
  Angle a = reduce_angle(x);
  return sin_of({a.r, a.quadrant + 1});
}

// ---- x^y = 2^(y log2 |x|) in double, then the sign and the special cases of C's pow

FOVEA_INLINE Vec<float> pow(Vec<float> x, Vec<float> y) {
  auto power = [](Vec<double> v, Vec<double> e) {
    Vec<double> l = log2_wide(v);
    l = blend(v == 0.0, splat(-__builtin_inf()), blend(v < __builtin_inf(), l, v));
    Vec<double> t = e * l;
    return blend(t == t, exp2_wide(blend(t > 300.0, splat(300.0), blend(t < -300.0, splat(-300.0), t))), t);
  };
  Wide base = widen(abs(x)), exponent = widen(y);
  Vec<float> r = narrow({power(base.first, exponent.first), power(base.second, exponent.second)});
  Vec<int32_t> small = abs(y) < 0x1p24f;  // larger ones are even integers
  Vec<int32_t> i = to_int(blend(small, y, splat(0.f)));
  Vec<int32_t> integer = (small == 0) | (__builtin_convertvector(i, Vec<float>) == y),
               odd = small & integer & ((i & 1) != 0);
  Vec<int32_t> negative = bits_of(x) < 0;
  r = blend(negative & odd, -r, r);
  r = blend((x < 0.f) & (x > -kInf) & (integer == 0), splat(__builtin_nanf("")), r);
  r = blend((abs(x) == 1.f) & (abs(y) == kInf), splat(1.f), r);
  return blend((x == 1.f) | (y == 0.f), splat(1.f), r);
}

// ---- double

#define FOVEA_LANEWISE(name)                                           \
  FOVEA_INLINE Vec<double> name(Vec<double> x) {                       \
    return each_lane(x, [](double v) { return __builtin_##name(v); }); \
  }
FOVEA_LANEWISE(exp)
FOVEA_LANEWISE(exp2)
FOVEA_LANEWISE(expm1)
FOVEA_LANEWISE(log)
FOVEA_LANEWISE(log2)
FOVEA_LANEWISE(log1p)
FOVEA_LANEWISE(tanh)
FOVEA_LANEWISE(erf)
FOVEA_LANEWISE(sin)
FOVEA_LANEWISE(cos)
#undef FOVEA_LANEWISE
struct WideDecay {
  Vec<double> plain, times;
};
FOVEA_INLINE WideDecay decay(Vec<double> x, Vec<double> factor) {
  Vec<double> e = exp(x);
  return {e, factor * e};
}
FOVEA_INLINE Vec<double> sigmoid(Vec<double> x) {
  Vec<double> e = exp(-abs(x)), r = 1.0 / (1.0 + e);
  return blend(x < 0.0, e * r, r);
}
FOVEA_INLINE Vec<double> normal_tail(Vec<double> u, Vec<double> factor) {
  return factor * each_lane(u, [](double v) { return 0.5 * __builtin_erfc(v * 0x1.6a09e667f3bcdp-1); });
}
FOVEA_INLINE Vec<double> pow(Vec<double> x, Vec<double> y) {
  return each_lane(x, y, [](double a, double b) { return __builtin_pow(a, b); });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
