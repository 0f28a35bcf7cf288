// One value of any dtype to any other, by the rules of convert.h beside this file:
//   to bool          x != 0 (NaN is true)
//   float to int     truncated; out of range becomes the nearest end of the range, NaN becomes 0
//   int to int       modulo 2^bits
//   to float         rounded to nearest even; float64 and int64 reach the 16-bit types through float32 rounded to odd,
//                    so that they round once
#pragma once
#include "cuda/convert.h"

namespace fovea::cuda {

template <class T>
constexpr bool kIsFloat = kSame<T, float> || kSame<T, double>;
template <class T>
constexpr bool kIs16Bit = kSame<T, Half> || kSame<T, Bfloat16>;

template <class T>
FOVEA_INLINE T saturate(double x) {
  constexpr int bits = int(sizeof(T)) * 8;
  constexpr bool is_signed = T(-1) < T(0);
  constexpr T low = is_signed ? T(uint64_t(1) << (bits - 1)) : T(0), high = T(~low);
  constexpr double end = is_signed ? double(uint64_t(1) << (bits - 1)) : 2.0 * double(uint64_t(1) << (bits - 1));
  if (!(x > double(low))) return x != x ? T(0) : low;
  return x >= end ? high : T(x);
}

FOVEA_INLINE float round_to_odd(double x) {
  float y = float(x);
  uint32_t bits = bits_of(y);
  if (double(y) == x || (bits & 1u) || x != x) return y;
  bool away = x < 0 ? double(y) < x : double(y) > x;
  return float_of(away ? bits - 1 : bits + 1);
}

template <class From, class To>
FOVEA_INLINE To convert_one(From x) {
  if constexpr (kSame<From, To>) {
    return x;
  } else if constexpr (kIs16Bit<From>) {
    return convert_one<float, To>(widen(x));
  } else if constexpr (kSame<From, Bool>) {
    return convert_one<uint8_t, To>(x.value);
  } else if constexpr (kSame<To, Bool>) {
    return Bool{uint8_t(x != From(0))};
  } else if constexpr (kIs16Bit<To>) {
    if constexpr (sizeof(From) == 8) return narrow<To>(round_to_odd(double(x)));
    else return narrow<To>(float(x));
  } else if constexpr (kIsFloat<From> && !kIsFloat<To>) {
    return saturate<To>(double(x));
  } else {
    return To(x);
  }
}

}  // namespace fovea::cuda
