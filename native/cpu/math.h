// Vector forms of the elementary functions. float: own range reductions and minimax polynomials (computed with the
// Remez algorithm in 30 to 40 digits, then rounded to float), at most 4 ULP on every instruction set, with IEEE special
// values (NaN, infinities, signed zeros, denormals). double: the C library, lane by lane (math_wide.h).
//
//   exp exp2 expm1 log log2 log1p softplus tanh sigmoid silu erf normal gelu gelu_tanh sin cos atan2 pow each_lane
//
// The worst errors in ULP, of all floats (sin, cos: up to kLargestAngle), without and with fused multiply-add:
//
//   exp 0.99, 1.02   tanh 1.24, 1.23   erf 1.32, 1.15   log 0.90, 0.87   sin 1.55, 1.54   cos 1.55, 1.54
//
// Included by per-instruction-set files only, like simd.h. What needs the exact rest of a product takes it from
// `product`, which works with and without fused multiply-add.
#pragma once
#include "cpu/math_base.h"
#include "cpu/math_wide.h"

namespace fovea::FOVEA_ISA {
namespace {

// ---- exponentials

// x = n ln 2 + r with |r| <= ln 2 / 2.
struct SplitExponent {
  Vec<float> n, r;
};
FOVEA_INLINE SplitExponent split_exponent(Vec<float> x) {
  Vec<float> n = (x * kLog2E + kRoundToInt) - kRoundToInt;  // cheaper than nearest()
  return {n, (x - n * kLn2High) - n * kLn2Low};
}
// e^r for |r| <= ln 2 / 2.
FOVEA_INLINE Vec<float> exp_near_zero(Vec<float> r) {
  constexpr float c[] = {4.999999404e-01f, 1.666651964e-01f, 4.166840017e-02f, 8.368850686e-03f, 1.381432055e-03f};
  return 1.f + (r + r * r * polynomial(r, c));
}
FOVEA_INLINE Vec<float> exp(Vec<float> x) {
  auto [n, r] = split_exponent(within(x, -104.f, 89.f));
  return scale(exp_near_zero(r), n);
}
// 2^f for |f| <= 1/2.
FOVEA_INLINE Vec<float> exp2_near_zero(Vec<float> f) {
  constexpr float c[] = {6.931472421e-01f, 2.402265221e-01f, 5.550310016e-02f,
                         9.617690928e-03f, 1.340679708e-03f, 1.559508382e-04f};
  return 1.f + f * polynomial(f, c);
}
FOVEA_INLINE Vec<float> exp2(Vec<float> x) {
  x = within(x, -151.f, 129.f);
  Vec<float> n = nearest(x);
  return scale(exp2_near_zero(x - n), n);
}
// 2^n (e^r - 1) + (2^n - 1); with half of 2^n, which does not overflow for n = 128.
FOVEA_INLINE Vec<float> expm1(Vec<float> x) {
  constexpr float c[] = {5.000000000e-01f, 1.666666716e-01f, 4.166632518e-02f,
                         8.333219215e-03f, 1.394342049e-03f, 1.996264473e-04f};
  auto [n, r] = split_exponent(within(x, -20.f, 89.f));
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
// f is the fraction of 1 + x, whose rounding error comes back into it; where no exponent is taken out, f is x itself.
FOVEA_INLINE Vec<float> log1p(Vec<float> x) {
  Vec<float> u = 1.f + x, v = u - 1.f;
  Vec<float> lost = (1.f - (u - v)) + (x - v);
  LogParts p = log_parts(u);
  p.f += scale(lost, -p.e);
  return blend(x == 0.f, x, log_special(x, log_of_parts(p), -1.f));
}
// ln(1 + e^z) = max(z, 0) + ln(1 + t), t = e^-|z|; ln(1 + t) = 2 artanh(w), w = t / (2 + t) <= 1/3.
FOVEA_INLINE Vec<float> softplus(Vec<float> z) {
  constexpr float c[] = {6.666666865e-01f, 3.999907672e-01f, 2.862460613e-01f,
                         2.110354602e-01f, 2.801290751e-01f, -1.369431168e-01f};
  auto [n, r] = split_exponent(at_least(-abs(z), -104.f));
  Vec<float> t = scale(exp_near_zero(r), n), w = t / (2.f + t), square = w * w;
  Vec<float> tail = 2.f * w + w * square * polynomial(square, c);
  return at_least(z, 0.f) + blend(t < 0x1p-60f, t, tail);  // 2 w is coarser than t where that is a denormal
}

// ---- functions of the exponential

// Near 0 an odd polynomial of a = |x|, further out 1 - 1 / d with d = (e^2a + 1) / 2 and e^2a = 2^n e^2r.
FOVEA_INLINE Vec<float> tanh(Vec<float> x) {
  constexpr float c[] = {-3.333329856e-01f, 1.333192438e-01f, -5.378383026e-02f, 2.079597861e-02f, -5.895168055e-03f};
  // (e^2r - 1) / 2 = r + r^2 polynomial(r), |r| <= ln 2 / 4
  constexpr float e[] = {1.000000000e+00f, 6.666607857e-01f, 3.333296478e-01f, 1.339021176e-01f, 4.464150965e-02f};
  Vec<float> a = at_most(abs(x), 10.f), square = a * a, n = nearest(a * (2.f * kLog2E));
  Vec<float> r = (a - n * (0.5f * kLn2High)) - n * (0.5f * kLn2Low), power = power_of_two(n);
  Vec<float> far = 1.f - 1.f / (power * (r + r * r * polynomial(r, e)) + (0.5f * power + 0.5f));
  return copy_sign(blend(a < 0.6f, a + a * square * polynomial(square, c), far), x);
}
// factor / (1 + e^-z) for -170 < z < 60 or NaN. With z = n ln 2 + r it is 2^n factor / (2^n + e^-r), where the power
// outside is applied last, so that small results keep their precision down to denormals.
FOVEA_INLINE Vec<float> times_sigmoid(Vec<float> factor, Vec<float> n, Vec<float> exp_of_minus_r) {
  return scale(factor / (power_of_two(n) + exp_of_minus_r), n);
}
FOVEA_INLINE Vec<float> sigmoid(Vec<float> x) {
  auto [n, r] = split_exponent(within(x, -170.f, 60.f));
  return times_sigmoid(splat(1.f), n, exp_near_zero(-r));
}
FOVEA_INLINE Vec<float> silu(Vec<float> x) {
  auto [n, r] = split_exponent(within(x, -170.f, 60.f));
  return times_sigmoid(blend(x < -170.f, x * 0.f, x), n, exp_near_zero(-r));
}
// x / (1 + e^-z), z = k1 x + k3 x^3: x (1 + tanh(z / 2)) / 2. An error in z is magnified |z| times for x < 0, so that z
// is summed in two parts, in units of ln 2, and the nearest integer n taken from the larger.
FOVEA_INLINE Vec<float> gelu_tanh(Vec<float> x) {
  constexpr double log2e = 0x1.71547652b82fep0;
  constexpr float k1 = float(kGeluTanh1 * log2e), k1_low = float(kGeluTanh1 * log2e - double(k1));
  constexpr float k3 = float(kGeluTanh3 * log2e), k3_low = float(kGeluTanh3 * log2e - double(k3));
  Vec<float> h = within(x, -11.f, 6.f);  // beyond, the result is -0 or x
  ExactProduct square = product(h, h), cube = product(h, square.main), linear = product(splat(k1), h),
               cubic = product(splat(k3), cube.main);
  Vec<float> sum = linear.main + cubic.main, n = nearest(sum), back = sum - linear.main;
  Vec<float> rest = (linear.main - (sum - back)) + (cubic.main - back);  // Knuth's: sum + rest is exact
  rest += (linear.rest + k1_low * h) + (cubic.rest + k3_low * cube.main);
  rest += k3 * (cube.rest + h * square.rest);
  Vec<float> f = (sum - n) + rest;
  return times_sigmoid(blend(x < -11.f, x * 0.f, x), n, exp2_near_zero(-f));
}
// The normal distribution at u in [0, 14.5]: its density is 2^n factor / sqrt(2 pi) and P(Z > u) is
// 2^n factor above / below. 2^n factor = e^(-u^2 / 2), with the square in two parts since exp magnifies its error; in
// the polynomials no terms cancel.
struct Normal {
  Vec<float> n, factor_less_1, above, below;
};
FOVEA_INLINE Normal normal(Vec<float> u) {
  constexpr float c[] = {
      0.5f, 1.249999851e-01f, 2.083314955e-02f, 2.604275011e-03f, 2.615265781e-04f, 2.158487586e-05f};
  ExactProduct square = product(u, u);
  Vec<float> n = nearest(square.main * (-0.5f * kLog2E));
  Vec<float> r = ((-square.main - n * (2.f * kLn2High)) - n * (2.f * kLn2Low)) - square.rest;  // twice the exponent
  // Pairs of terms in powers of the square: few roundings, and the square's own cancels in the quotient.
  Vec<float> s = square.main;
  Vec<float> above =
      (0.5f + u * 4.380727410e-01f) + s * ((1.830703765e-01f + u * 4.057765007e-02f) + s * 4.108049441e-03f);
  Vec<float> below = (1.f + u * 1.674030423e+00f) +
                     s * ((1.201819062e+00f + u * 4.690356553e-01f) + s * (1.017196104e-01f + u * 1.029723138e-02f));
  return {n, r * polynomial(r, c), above, below};
}
// x P(Z < x). Near 0 it is x (1/2 + x polynomial(x^2)), further out max(x, 0) - u P(Z > u), u = |x|: u above / below is
// close to its limit at infinity there, and the difference from it a small quotient, so that few rounding errors count.
FOVEA_INLINE Vec<float> gelu(Vec<float> x) {
  constexpr float limit = 3.989470005e-01f;
  constexpr float c[] = {3.989422770e-01f, -6.649025353e-02f, 9.972196719e-03f, -1.181212933e-03f, 1.031344618e-04f};
  Vec<float> u = at_most(abs(x), 14.5f), s = u * u;
  Normal z = normal(u);
  Vec<float> missing = (3.989470180e-01f + u * 1.678493661e-01f) +
                       s * ((4.138942768e-02f + u * 4.049970521e-03f) + s * 3.084480996e-06f);
  Vec<float> w = limit - missing / z.below;
  Vec<float> far = at_least(x, -0.f) - scale(w + w * z.factor_less_1, z.n);
  Vec<float> y = blend(u < 0.7f, x * (0.5f + x * polynomial(s, c)), far);
  return blend(x == -kInf, splat(__builtin_nanf("")), y);
}
// Near 0 an odd polynomial, further out 1 - 2^p(|x|).
FOVEA_INLINE Vec<float> erf(Vec<float> x) {
  constexpr float c[] = {1.283791661e-01f, -3.761262596e-01f, 1.128358543e-01f, -2.685381286e-02f,
                         5.188327748e-03f, -8.010194288e-04f, 7.853861462e-05f};
  constexpr float d[] = {1.244328996e-05f, -1.628489971e+00f, -9.156404734e-01f, -1.543695331e-01f,
                         3.521903232e-02f, -5.693002604e-03f, 5.711779231e-04f,  -2.635241617e-05f};
  Vec<float> a = at_most(abs(x), 4.f), square = x * x;
  Vec<float> near = x + x * polynomial(square, c);
  Vec<float> p = polynomial(a, d), n = nearest(p);
  Vec<float> far = 1.f - scale(exp2_near_zero(p - n), n);
  return blend(a < 1.f, near, copy_sign(far, x));
}

// ---- angles

// x = n pi/2 + r, |r| <= pi/4, in floats where multiply-add is fused and in doubles elsewhere; what is too large for
// that goes to the C library.
constexpr float kLargestAngle = 0x1p17f;
struct Angle {
  Vec<float> r;
  Vec<int32_t> quadrant;
};
FOVEA_INLINE Angle reduce_angle(Vec<float> x) {
#if defined(FOVEA_FUSES)
  Vec<float> shifted = fused(x, splat(0x1.45f306p-1f), splat(kRoundToInt)), n = kRoundToInt - shifted;  // -n
  Vec<float> r = fused(n, splat(0x1.921fb6p0f), x);
  r = fused(n, splat(-0x1.777a5cp-25f), r);
  return {fused(n, splat(-0x1.ee59dap-50f), r), bits_of(shifted)};
#else
  auto turns = [](Vec<double> v) { return (v * 0x1.45f306dc9c883p-1 + 0x1.8p52) - 0x1.8p52; };
  auto rest = [](Vec<double> v, Vec<double> n) { return (v - n * 0x1.921fb544p0) - n * 0x1.0b4611a62633p-34; };
  Wide w = widen(x), n{turns(w.first), turns(w.second)};
  return {narrow({rest(w.first, n.first), rest(w.second, n.second)}), to_int(narrow(n))};
#endif
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
// The angle of (x, y): arctan of the smaller over the larger magnitude, mirrored at pi/4, at pi/2 and at the x axis.
FOVEA_INLINE Vec<float> atan2(Vec<float> y, Vec<float> x) {
  constexpr float c[] = {-3.333332837e-01f, 1.999741197e-01f, -1.423836499e-01f, 1.076695174e-01f,
                         -7.756604999e-02f, 4.552311823e-02f, -1.773803309e-02f, 3.252444323e-03f};
  constexpr float half_pi = 0x1.921fb6p0f, half_pi_low = -0x1.777a5cp-25f;
  Vec<float> ax = abs(x), ay = abs(y);
  Vec<int32_t> steep = ay > ax;
  Vec<float> large = blend(steep, ay, ax), small = blend(steep, ax, ay);
  Vec<float> t = blend(small == large, splat(1.f), small / large);  // of two infinities, too
  t = blend(large == 0.f, splat(0.f), t);
  Vec<float> square = t * t, a = t + t * square * polynomial(square, c);
  a = blend(steep, half_pi - (a - half_pi_low), a);
  a = blend(bits_of(x) < 0, 2.f * half_pi - (a - 2.f * half_pi_low), a);
  return blend((x == x) & (y == y), copy_sign(a, y), x + y);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
