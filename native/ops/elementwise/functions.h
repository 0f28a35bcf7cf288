// The functions proper: one struct per op, called on vectors of float, double, int32_t or int64_t; those that derive
// from OnScalars are called on single values instead, since no instruction set has them for vectors (integer division,
// fmod), but on vectors of float if they have kVectorsOfFloat. Integers wrap around. A constructor takes the op's
// attributes.
#pragma once
#include "cpu/math.h"
#include "ops/elementwise/attrs.h"
#include "ops/elementwise/convert.h"

namespace fovea::FOVEA_ISA {
namespace {

struct OnScalars {
  bool failed = false;
};

template <class T>
struct UnsignedOf {
  using type = T;
};
template <>
struct UnsignedOf<int32_t> {
  using type = uint32_t;
};
template <>
struct UnsignedOf<int64_t> {
  using type = uint64_t;
};
template <class V>
using Element = __typeof__(V{}[0] + V{}[0]);
// The vector as unsigned integers, whose overflow is defined; floats as they are.
template <class V>
FOVEA_INLINE auto unsign(V x) {
  return (Vec<typename UnsignedOf<Element<V>>::type>)x;
}
template <class V>
constexpr bool kFloatVector = kIsFloat<Element<V>>;

#define FOVEA_STATELESS(Name) \
  Name() = default;           \
  explicit Name(const void*) {}

// ---- one operand, numbers

struct Neg {
  FOVEA_STATELESS(Neg)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    return (V)-unsign(x);
  }
};
struct Abs {
  FOVEA_STATELESS(Abs)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    if constexpr (kFloatVector<V>) return abs(x);
    else return x < 0 ? (V)-unsign(x) : x;
  }
};
struct Sign {
  FOVEA_STATELESS(Sign)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    V one = V{} + 1, y = x > 0 ? one : x < 0 ? -one : V{};
    return x == x ? y : x;
  }
};
struct Square {
  FOVEA_STATELESS(Square)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    return (V)(unsign(x) * unsign(x));
  }
};
struct Relu {
  FOVEA_STATELESS(Relu)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    return x < 0 ? V{} : x;
  }
};

// floor, ceil, round (halves to even), trunc: integers are what they are already.
#define FOVEA_ROUNDING(Name, function)                                         \
  struct Name {                                                                \
    FOVEA_STATELESS(Name)                                                      \
    FOVEA_INLINE Vec<float> operator()(Vec<float> x) {                         \
      return each_lane(x, [](float v) { return __builtin_##function##f(v); }); \
    }                                                                          \
    FOVEA_INLINE Vec<double> operator()(Vec<double> x) {                       \
      return each_lane(x, [](double v) { return __builtin_##function(v); });   \
    }                                                                          \
    template <class V>                                                         \
    FOVEA_INLINE V operator()(V x) {                                           \
      return x;                                                                \
    }                                                                          \
  };
FOVEA_ROUNDING(Floor, floor)
FOVEA_ROUNDING(Ceil, ceil)
FOVEA_ROUNDING(Round, rint)
FOVEA_ROUNDING(Trunc, trunc)
#undef FOVEA_ROUNDING

struct Clamp {
  double low, high;
  explicit Clamp(const void* attrs)
      : low(static_cast<const ClampAttrs*>(attrs)->min), high(static_cast<const ClampAttrs*>(attrs)->max) {}
  template <class V>
  FOVEA_INLINE V bound(double x) {
    return V{} + convert_one<double, Element<V>>(x);
  }
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    V l = bound<V>(low), h = bound<V>(high), y = x < l ? l : x;
    return y > h ? h : y;
  }
};

// ---- one operand, floats

#define FOVEA_MATH(Name, expression) \
  struct Name {                      \
    FOVEA_STATELESS(Name)            \
    template <class V>               \
    FOVEA_INLINE V operator()(V x) { \
      return expression;             \
    }                                \
  };
FOVEA_MATH(Exp, exp(x))
FOVEA_MATH(Expm1, expm1(x))
FOVEA_MATH(Log, log(x))
FOVEA_MATH(Log1p, log1p(x))
FOVEA_MATH(Log2, log2(x))
FOVEA_MATH(Reciprocal, 1 / x)
FOVEA_MATH(Sin, sin(x))
FOVEA_MATH(Cos, cos(x))
FOVEA_MATH(Tanh, tanh(x))
FOVEA_MATH(Sigmoid, sigmoid(x))
FOVEA_MATH(Erf, erf(x))
FOVEA_MATH(Gelu, gelu(x))
FOVEA_MATH(GeluTanh, gelu_tanh(x))
FOVEA_MATH(Silu, silu(x))
#undef FOVEA_MATH
FOVEA_INLINE Vec<float> square_root(Vec<float> x) {
  return each_lane(x, [](float v) { return __builtin_sqrtf(v); });
}
FOVEA_INLINE Vec<double> square_root(Vec<double> x) {
  return each_lane(x, [](double v) { return __builtin_sqrt(v); });
}
struct Sqrt {
  FOVEA_STATELESS(Sqrt)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    return square_root(x);
  }
};
struct Rsqrt {
  FOVEA_STATELESS(Rsqrt)
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    return 1 / square_root(x);
  }
};

struct Softplus {
  double beta, threshold;
  explicit Softplus(const void* attrs)
      : beta(static_cast<const SoftplusAttrs*>(attrs)->beta),
        threshold(static_cast<const SoftplusAttrs*>(attrs)->threshold) {}
  template <class V>
  FOVEA_INLINE V operator()(V x) {
    using T = Element<V>;
    V z = x * T(beta), y = softplus(z);
    if (beta != 1) y = y / T(beta);  // the second division would cost as much as all the rest
    return z > T(threshold) ? x : y;
  }
};

// ---- two operands

#define FOVEA_WRAPPING(Name, op)          \
  struct Name {                           \
    FOVEA_STATELESS(Name)                 \
    template <class V>                    \
    FOVEA_INLINE V operator()(V a, V b) { \
      return (V)(unsign(a) op unsign(b)); \
    }                                     \
  };
FOVEA_WRAPPING(Add, +)
FOVEA_WRAPPING(Sub, -)
FOVEA_WRAPPING(Mul, *)
FOVEA_WRAPPING(Div, /)
#undef FOVEA_WRAPPING
struct Maximum {
  FOVEA_STATELESS(Maximum)
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) {
    return (a > b) | (a != a) ? a : b;
  }
};
struct Minimum {
  FOVEA_STATELESS(Minimum)
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) {
    return (a < b) | (a != a) ? a : b;
  }
};
struct Atan2 {
  FOVEA_STATELESS(Atan2)
  template <class V>
  FOVEA_INLINE V operator()(V y, V x) {
    return atan2(y, x);
  }
};

FOVEA_INLINE float modulo(float a, float b) { return __builtin_fmodf(a, b); }
FOVEA_INLINE double modulo(double a, double b) { return __builtin_fmod(a, b); }

// fmod of lanes for which plain(a, b): the quotient is a whole number of few bits, so that a - b trunc(a / b) is exact,
// and too far by at most one b if the quotient was rounded up.
FOVEA_INLINE bool plain(Vec<float> a, Vec<float> b) {
  return !any_lane(~((abs(a / b) < 0x1p22f) & (abs(b) > 0x1p-100f) & (abs(b) < kInf)));
}
FOVEA_INLINE Vec<float> modulo(Vec<float> a, Vec<float> b) {
  Vec<float> q = __builtin_convertvector(to_int(a / b), Vec<float>), r = exact_rest(a, q, b);
  r += blend((r < 0.f) & (a > 0.f), abs(b), blend((r > 0.f) & (a < 0.f), -abs(b), splat(0.f)));
  return copy_sign(r, a);
}

// a - b floor(a / b): the sign of b.
struct Remainder : OnScalars {
  static constexpr bool kVectorsOfFloat = true;
  explicit Remainder(const void*) {}
  FOVEA_INLINE Vec<float> operator()(Vec<float> a, Vec<float> b) {
    if (!plain(a, b)) return each_lane(a, b, [this](float x, float y) { return (*this)(x, y); });
    Vec<float> r = modulo(a, b);
    return blend((r != 0.f) & ((r < 0.f) != (b < 0.f)), r + b, r);
  }
  template <class T>
  FOVEA_INLINE T operator()(T a, T b) {
    if constexpr (!kIsFloat<T>) {
      if (b == 0) failed = true;
      if (b == 0 || b == -1) return 0;  // the lowest number % -1 traps
      T r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    } else {
      T r = modulo(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
  }
};
struct FloorDivide : OnScalars {
  static constexpr bool kVectorsOfFloat = true;
  explicit FloorDivide(const void*) {}
  FOVEA_INLINE Vec<float> operator()(Vec<float> a, Vec<float> b) {
    if (!plain(a, b)) return each_lane(a, b, [this](float x, float y) { return (*this)(x, y); });
    Vec<float> r = modulo(a, b), q = nearest((a - r) / b);  // a whole number up to rounding
    q = blend((r != 0.f) & ((r < 0.f) != (b < 0.f)), q - 1.f, q);
    return blend(q == 0.f, copy_sign(q, a / b), q);
  }
  template <class T>
  FOVEA_INLINE T operator()(T a, T b) {
    if constexpr (!kIsFloat<T>) {
      using U = typename UnsignedOf<T>::type;
      if (b == 0) return failed = true, T(0);
      if (b == -1) return T(U(0) - U(a));
      T q = a / b;
      return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
    } else {
      if (b == 0) return a / b;
      // (a - r) / b is a whole number up to rounding, which the last step takes away.
      T r = modulo(a, b), q = (a - r) / b;
      if (r != 0 && (r < 0) != (b < 0)) q -= 1;
      if (q == 0) return __builtin_copysign(T(0), a / b);
      T whole = T(__builtin_floor(q));
      return q - whole > T(0.5) ? whole + 1 : whole;
    }
  }
};
struct PowFloat {
  FOVEA_STATELESS(PowFloat)
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) {
    return pow(a, b);
  }
};
// Negative exponents give 0, but for bases 1 and -1.
struct PowInt : OnScalars {
  explicit PowInt(const void*) {}
  template <class T>
  FOVEA_INLINE T operator()(T base, T exponent) {
    using U = typename UnsignedOf<T>::type;
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    U result = 1;
    for (U power = U(base); exponent; exponent >>= 1, power *= power)
      if (exponent & 1) result *= power;
    return T(result);
  }
};

// ---- comparisons, and tests of one operand: masks

#define FOVEA_COMPARISON(Name, op)           \
  struct Name {                              \
    template <class V>                       \
    FOVEA_INLINE auto operator()(V a, V b) { \
      return a op b;                         \
    }                                        \
  };
FOVEA_COMPARISON(Eq, ==)
FOVEA_COMPARISON(Ne, !=)
FOVEA_COMPARISON(Lt, <)
FOVEA_COMPARISON(Le, <=)
FOVEA_COMPARISON(Gt, >)
FOVEA_COMPARISON(Ge, >=)
#undef FOVEA_COMPARISON
struct IsNan {
  template <class V>
  FOVEA_INLINE auto operator()(V x) {
    return x != x;
  }
};
struct IsFinite {
  template <class V>
  FOVEA_INLINE auto operator()(V x) {
    return x - x == x - x;
  }
};  // inf - inf is NaN; integers: always

}  // namespace
}  // namespace fovea::FOVEA_ISA
