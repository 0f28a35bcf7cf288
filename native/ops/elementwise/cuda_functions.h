// The functions proper, on single values of float, double, int32_t or int64_t. Integers wrap around. They mean what
// functions.h and gradients.h beside this file mean.
#pragma once
#include "cuda/math.h"
#include "ops/elementwise/attrs.h"
#include "ops/elementwise/cuda_map.h"

namespace fovea::cuda {
namespace {

template <class T>
using Unsigned = std::conditional_t<kSame<T, int32_t>, uint32_t, std::conditional_t<kSame<T, int64_t>, uint64_t, T>>;

// ---- one operand, numbers

struct Neg {
  template <class T>
  __device__ T operator()(T x) const {
    return T(-Unsigned<T>(x));
  }
};
struct Abs {
  template <class T>
  __device__ T operator()(T x) const {
    if constexpr (kIsFloat<T>) return T(fabs(x));
    else return x < 0 ? T(-Unsigned<T>(x)) : x;
  }
};
struct Sign {
  template <class T>
  __device__ T operator()(T x) const {
    if (x != x) return x;
    return T((x > 0) - (x < 0));
  }
};
struct Square {
  template <class T>
  __device__ T operator()(T x) const {
    return T(Unsigned<T>(x) * Unsigned<T>(x));
  }
};
struct Relu {
  template <class T>
  __device__ T operator()(T x) const {
    return x < 0 ? T(0) : x;
  }
};
#define FOVEA_ROUNDING(Name, function)                  \
  struct Name {                                         \
    template <class T>                                  \
    __device__ T operator()(T x) const {                \
      if constexpr (kIsFloat<T>) return T(function(x)); \
      else return x;                                    \
    }                                                   \
  };
FOVEA_ROUNDING(Floor, floor)
FOVEA_ROUNDING(Ceil, ceil)
FOVEA_ROUNDING(Round, rint)
FOVEA_ROUNDING(Trunc, trunc)
#undef FOVEA_ROUNDING

struct Clamp {
  double low, high;
  explicit Clamp(const ClampAttrs& attrs) : low(attrs.min), high(attrs.max) {}
  template <class T>
  __device__ T operator()(T x) const {
    T l = convert_one<double, T>(low), h = convert_one<double, T>(high), y = x < l ? l : x;
    return y > h ? h : y;
  }
};

// ---- one operand, floats

// The functions that CUDA names with an f behind for float: the overloads on double would be taken otherwise.
#define FOVEA_MATH(Name, in_float, in_double)                          \
  struct Name : Heavy {                                                \
    __device__ float operator()(float x) const { return in_float; }    \
    __device__ double operator()(double x) const { return in_double; } \
  };
FOVEA_MATH(Exp, expf(x), exp(x))
FOVEA_MATH(Expm1, expm1f(x), expm1(x))
FOVEA_MATH(Log, logf(x), log(x))
FOVEA_MATH(Log1p, log1pf(x), log1p(x))
FOVEA_MATH(Log2, log2f(x), log2(x))
FOVEA_MATH(Sqrt, sqrtf(x), sqrt(x))
FOVEA_MATH(Rsqrt, 1 / sqrtf(x), 1 / sqrt(x))
FOVEA_MATH(Reciprocal, 1 / x, 1 / x)
FOVEA_MATH(Sin, sinf(x), sin(x))
FOVEA_MATH(Cos, cosf(x), cos(x))
FOVEA_MATH(Tanh, tanhf(x), tanh(x))
FOVEA_MATH(Erf, erff(x), erf(x))
#undef FOVEA_MATH

// Of those with a long formula in float32, the 16-bit types have a shorter one.
struct Sigmoid {
  template <class T>
  __device__ T operator()(T x) const {
    return Logistic<T>(x).value;
  }
};
struct Silu {
  template <class T>
  __device__ T operator()(T x) const {
    return silu(x);
  }
};
struct Gelu : Heavy {
  template <class T>
  __device__ T operator()(T x) const {
    return gelu(x);
  }
};
struct GeluTanh : Heavy {
  template <class T>
  __device__ T operator()(T x) const {
    return gelu_tanh(x);
  }
};
struct ShortSigmoid {
  __device__ float operator()(float x) const { return ShortLogistic(x).value; }
};
struct ShortSilu {
  __device__ float operator()(float x) const { return short_times_sigmoid(x, x); }
};
struct ShortGelu {
  __device__ float operator()(float x) const { return short_gelu(x); }
};
struct ShortGeluTanh {
  __device__ float operator()(float x) const { return short_gelu_tanh(x); }
};
struct Softplus : Heavy {
  double beta, threshold;
  explicit Softplus(const SoftplusAttrs& attrs) : beta(attrs.beta), threshold(attrs.threshold) {}
  template <class T>
  __device__ T operator()(T x) const {
    T z = x * T(beta);
    return z > T(threshold) ? x : soft_maximum(z) / T(beta);
  }
};

// ---- two operands

#define FOVEA_WRAPPING(Name, op)                  \
  struct Name {                                   \
    template <class T>                            \
    __device__ T operator()(T a, T b) const {     \
      return T(Unsigned<T>(a) op Unsigned<T>(b)); \
    }                                             \
  };
FOVEA_WRAPPING(Add, +)
FOVEA_WRAPPING(Sub, -)
FOVEA_WRAPPING(Mul, *)
FOVEA_WRAPPING(Div, /)
#undef FOVEA_WRAPPING
struct Maximum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct Minimum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};
struct Atan2 : Heavy {
  __device__ float operator()(float y, float x) const { return atan2f(y, x); }
  __device__ double operator()(double y, double x) const { return atan2(y, x); }
};

// Integers divided by zero give 0 and raise the fault.
struct DividesIntegers : Heavy {
  Fault* fault = nullptr;
};
template <class T>
__device__ inline T modulo(T a, T b) {
  if constexpr (kSame<T, float>) return fmodf(a, b);
  else return fmod(a, b);
}
// a - b floor(a / b): the sign of b.
struct Remainder : DividesIntegers {
  template <class T>
  __device__ T operator()(T a, T b) const {
    T r;
    if constexpr (kIsFloat<T>) {
      r = modulo(a, b);
    } else {
      if (b == 0) raise(fault);
      if (b == 0 || b == -1) return 0;  // the lowest number % -1 overflows
      r = a % b;
    }
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
};
struct FloorDivide : DividesIntegers {
  template <class T>
  __device__ T operator()(T a, T b) const {
    if constexpr (!kIsFloat<T>) {
      if (b == 0) return raise(fault), T(0);
      if (b == -1) return T(-Unsigned<T>(a));
      T q = a / b;
      return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
    } else {
      if (b == 0) return a / b;
      // (a - r) / b is a whole number up to rounding, which the last step takes away.
      T r = modulo(a, b), q = (a - r) / b;
      if (r != 0 && (r < 0) != (b < 0)) q -= 1;
      if (q == 0) return T(copysign(T(0), a / b));
      T whole = T(floor(q));
      return q - whole > T(0.5) ? whole + 1 : whole;
    }
  }
};
// Of integers: negative exponents give 0, but for bases 1 and -1.
struct Pow : Heavy {
  template <class T>
  __device__ T operator()(T base, T exponent) const {
    if constexpr (kSame<T, float>) {
      return powf(base, exponent);
    } else if constexpr (kSame<T, double>) {
      return pow(base, exponent);
    } else {
      if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
      Unsigned<T> result = 1;
      for (Unsigned<T> power = base; exponent; exponent >>= 1, power *= power)
        if (exponent & 1) result *= power;
      return T(result);
    }
  }
};

#define FOVEA_COMPARISON(Name, op)               \
  struct Name {                                  \
    template <class T>                           \
    __device__ Bool operator()(T a, T b) const { \
      return {uint8_t(a op b)};                  \
    }                                            \
  };
FOVEA_COMPARISON(Eq, ==)
FOVEA_COMPARISON(Ne, !=)
FOVEA_COMPARISON(Lt, <)
FOVEA_COMPARISON(Le, <=)
#undef FOVEA_COMPARISON
struct IsZero {
  template <class T>
  __device__ Bool operator()(T x) const {
    return {uint8_t(x == 0)};
  }
};
struct IsNan {
  template <class T>
  __device__ Bool operator()(T x) const {
    return {uint8_t(x != x)};
  }
};
struct IsFinite {
  template <class T>
  __device__ Bool operator()(T x) const {
    return {uint8_t(x - x == x - x)};  // inf - inf is NaN; integers: always
  }
};

}  // namespace
}  // namespace fovea::cuda
