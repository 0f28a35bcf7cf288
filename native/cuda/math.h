// Functions that CUDA C++ lacks, or has without the relative precision that their tails need: at most 4 ULP in float32,
// which take no float64 (most devices have next to none). The formulas and polynomials are those of cpu/math.h.
#pragma once
#include "cuda/ptx.h"

namespace fovea::cuda {
namespace {

constexpr double kGeluTanh1 = 1.5957691216057308, kGeluTanh3 = kGeluTanh1 * 0.044715;  // 2 sqrt(2 / pi)
constexpr double kNormalDensity = 0.3989422804014327;                                  // 1 / sqrt(2 pi)

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float magnitude(float x) { return fabsf(x); }
__device__ inline double magnitude(double x) { return fabs(x); }

// c[0] + c[1] x + c[2] x^2 + ...
template <int n>
__device__ inline float polynomial(float x, const float (&c)[n]) {
  float p = c[n - 1];
#pragma unroll
  for (int i = n - 2; i >= 0; i--) p = fmaf(p, x, c[i]);
  return p;
}
// NaN stays NaN.
__device__ inline float at_most(float x, float limit) { return limit < x ? limit : x; }
__device__ inline float within(float x, float low, float high) {
  float y = at_most(x, high);
  return low > y ? low : y;
}
// 2^n for whole n <= 127; 0 for n < -126.
__device__ inline float power_of_two(float n) { return __int_as_float((int(n < -127 ? -127 : n) + 127) << 23); }
// p 2^n for whole n in [-252, 254], in two factors so that neither overflows and only the last product rounds.
__device__ inline float scale(float p, float n) {
  int whole = int(n), half = whole >> 1;
  return p * __int_as_float((half + 127) << 23) * __int_as_float((whole - half + 127) << 23);
}
// 2^f for |f| <= 1/2.
__device__ inline float exp2_near_zero(float f) {
  constexpr float c[] = {6.931472421e-01f, 2.402265221e-01f, 5.550310016e-02f,
                         9.617690928e-03f, 1.340679708e-03f, 1.559508382e-04f};
  return 1 + f * polynomial(f, c);
}
// a b = main + rest exactly.
struct ExactProduct {
  float main, rest;
};
__device__ inline ExactProduct product(float a, float b) {
  float main = __fmul_rn(a, b);
  return {main, fmaf(a, b, -main)};
}

// 1 / (1 + e^-x) and what is left to 1; neither overflows.
template <class T>
struct Logistic {
  T value, rest;
  __device__ explicit Logistic(T x) {
    T e = exponential(-magnitude(x)), r = 1 / (1 + e);
    value = x < 0 ? e * r : r, rest = x < 0 ? r : e * r;
  }
};

// x / (1 + e^-x). Far out, e^x alone would be too small to be precise, but not times x.
__device__ inline float silu(float x) {
  constexpr float far = -64, shift = 32, back = 1.2664165549094176e-14f;  // e^-32
  if (x < far) return x * expf(x + shift) * back;
  return x * Logistic<float>(x).value;
}
__device__ inline double times_sigmoid(double factor, double z) {
  double e = exp(-fabs(z));
  return (z < 0 ? factor * e : factor) / (1 + e);
}
__device__ inline double silu(double x) { return times_sigmoid(x, x); }

// x / (1 + e^-z), z = k1 x + k3 x^3. An error in z is magnified |z| times for x < 0, so that z is summed in two parts,
// in units of ln 2, and the nearest integer n taken from the larger; with z = n ln 2 + r it is 2^n x / (2^n + e^-r).
__device__ inline float gelu_tanh(float x) {
  constexpr double log2e = 0x1.71547652b82fep0;
  constexpr float k1 = float(kGeluTanh1 * log2e), k1_low = float(kGeluTanh1 * log2e - double(k1));
  constexpr float k3 = float(kGeluTanh3 * log2e), k3_low = float(kGeluTanh3 * log2e - double(k3));
  float h = within(x, -11.f, 6.f);  // beyond, the result is -0 or x
  ExactProduct square = product(h, h), cube = product(h, square.main), linear = product(k1, h),
               cubic = product(k3, cube.main);
  float sum = linear.main + cubic.main, n = rintf(sum), above = sum - linear.main;
  float rest = (linear.main - (sum - above)) + (cubic.main - above);  // Knuth's: sum + rest is exact
  rest += (linear.rest + k1_low * h) + (cubic.rest + k3_low * cube.main);
  rest += k3 * (cube.rest + h * square.rest);
  float f = (sum - n) + rest, factor = x < -11.f ? x * 0.f : x;
  return scale(factor / (power_of_two(n) + exp2_near_zero(-f)), n);
}
__device__ inline double gelu_tanh(double x) { return times_sigmoid(x, x * (kGeluTanh1 + kGeluTanh3 * x * x)); }

// P(Z > u) of the normal distribution is e^(-u^2 / 2) above / below, for u in [0, 14.5] and s = u^2.
struct NormalQuotient {
  float above, below;
  __device__ NormalQuotient(float u, float s) {
    above = (0.5f + u * 4.380727410e-01f) + s * ((1.830703765e-01f + u * 4.057765007e-02f) + s * 4.108049441e-03f);
    below = (1.f + u * 1.674030423e+00f) +
            s * ((1.201819062e+00f + u * 4.690356553e-01f) + s * (1.017196104e-01f + u * 1.029723138e-02f));
  }
};
// e^(-u^2 / 2) = 2^n factor, with the square in two parts since exp magnifies its error.
struct NormalPower {
  float n, factor_less_1, square;
  __device__ explicit NormalPower(float u) {
    constexpr float log2e = 0x1.715476p0f, ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
    constexpr float c[] = {
        0.5f, 1.249999851e-01f, 2.083314955e-02f, 2.604275011e-03f, 2.615265781e-04f, 2.158487586e-05f};
    ExactProduct exact = product(u, u);
    square = exact.main;
    n = rintf(square * (-0.5f * log2e));
    float r = ((-square - n * (2 * ln2_high)) - n * (2 * ln2_low)) - exact.rest;  // twice the exponent
    factor_less_1 = r * polynomial(r, c);
  }
};
constexpr float kNormalEnd = 14.5f;  // e^(-u^2 / 2) is 0 beyond

// x P(Z < x). Near 0 it is x (1/2 + x polynomial(x^2)), further out max(x, 0) - u P(Z > u), u = |x|: u above / below is
// close to its limit at infinity there, and the difference from it a small quotient.
__device__ inline float gelu(float x) {
  constexpr float limit = 3.989470005e-01f;
  constexpr float c[] = {3.989422770e-01f, -6.649025353e-02f, 9.972196719e-03f, -1.181212933e-03f, 1.031344618e-04f};
  float u = at_most(fabsf(x), kNormalEnd), s = u * u;
  if (u < 0.7f) return x * (0.5f + x * polynomial(s, c));
  NormalPower z(u);
  float missing = (3.989470180e-01f + u * 1.678493661e-01f) +
                  s * ((4.138942768e-02f + u * 4.049970521e-03f) + s * 3.084480996e-06f);
  float w = limit - missing / NormalQuotient(u, z.square).below;
  float y = (x > 0 ? x : -0.f) - scale(w + w * z.factor_less_1, z.n);
  return x == -INFINITY ? NAN : y;
}
// d(x P(x)) = P(x) + x p(x)
__device__ inline float gelu_slope(float x) {
  float u = at_most(fabsf(x), kNormalEnd);
  NormalPower z(u);
  NormalQuotient q(u, z.square);
  float power = scale(1 + z.factor_less_1, z.n), tail = power * (q.above / q.below);
  return (x < 0 ? tail : 1 - tail) + x * (power * float(kNormalDensity));
}

// P(Z > u) for u >= 0. Rounding of u / sqrt 2 is magnified u^2 times, so what was lost is added to first order:
// -e^(-a^2) / sqrt pi per unit of a.
__device__ inline double normal_tail(double u) {
  double a = __dmul_rn(u, 0x1.6a09e667f3bcdp-1);
  if (!(a < 40)) return 0.5 * erfc(a);
  double lost = fma(u, 0x1.6a09e667f3bcdp-1, -a) - u * 0x1.bdd3413b26456p-55;
  return 0.5 * erfc(a) - lost * 0x1.20dd750429b6dp-1 * exp(-a * a);
}
__device__ inline double normal_below(double x) {
  double tail = normal_tail(fabs(x));
  return x < 0 ? tail : 1 - tail;
}
__device__ inline double gelu(double x) { return x * normal_below(x); }
__device__ inline double gelu_slope(double x) { return normal_below(x) + x * (exp(x * x * -0.5) * kNormalDensity); }

// ln(1 + e^z)
__device__ inline float soft_maximum(float z) { return fmaxf(z, 0) + log1pf(expf(-fabsf(z))); }
__device__ inline double soft_maximum(double z) { return fmax(z, 0.0) + log1p(exp(-fabs(z))); }

// ---- the same for results in 16 bits, to which 2^-15 of error is nothing: the device's own approximations

struct ShortLogistic {
  float value, rest;
  __device__ explicit ShortLogistic(float x) {
    float e = __expf(-fabsf(x)), r = __fdividef(1, 1 + e);
    value = x < 0 ? e * r : r, rest = x < 0 ? r : e * r;
  }
};
__device__ inline float short_times_sigmoid(float factor, float z) {
  float e = __expf(-fabsf(z));
  return __fdividef(z < 0 ? factor * e : factor, 1 + e);
}
__device__ inline float short_gelu_tanh(float x) {
  return short_times_sigmoid(x, x * (float(kGeluTanh1) + float(kGeluTanh3) * x * x));
}
// P(Z > u) is e^(-u^2 / 2) above / below within 2^-15, for u in [0, 14.5].
struct ShortNormal {
  float power, tail;  // e^(-u^2 / 2) and P(Z > u)
  __device__ explicit ShortNormal(float u) {
    constexpr float above[] = {5.000124696e-01f, 2.789855212e-01f, 6.282761629e-02f};
    constexpr float below[] = {1.f, 1.356627222e+00f, 7.042722411e-01f, 1.573163270e-01f};
    float root = exp2_fast(u * u * -0.36067376f);  // of the power, which may be below the normal numbers
    power = root * root, tail = (root * polynomial(u, above)) * (reciprocal_fast(polynomial(u, below)) * root);
  }
};
// -inf times 0 is NaN, as it must be.
__device__ inline float short_gelu(float x) {
  float u = at_most(fabsf(x), kNormalEnd);
  return (x < 0 ? x * 0.f : x) - u * ShortNormal(u).tail;
}
__device__ inline float short_gelu_slope(float x) {
  ShortNormal z(at_most(fabsf(x), kNormalEnd));
  return (x < 0 ? z.tail : 1 - z.tail) + x * (z.power * float(kNormalDensity));
}
// d(x s(x)) = s (1 + x (1 - s))
template <class T, class Sigmoid>
__device__ inline T silu_slope(T x) {
  Sigmoid s(x);
  return s.value * (1 + x * s.rest);
}
// d(x s(z)) = s + x s (1 - s) dz/dx; beyond 12 the second term is 0, and held there so that infinities do not meet
// zeros.
template <class T, class Sigmoid>
__device__ inline T gelu_tanh_slope(T x) {
  T h = x > 12 ? 12 : x < -12 ? -12 : x;
  Sigmoid s(h * (T(kGeluTanh1) + T(kGeluTanh3) * h * h));
  return s.value + h * (s.value * s.rest) * (T(kGeluTanh1) + T(3 * kGeluTanh3) * h * h);
}

}  // namespace
}  // namespace fovea::cuda
