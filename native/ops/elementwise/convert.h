// Dense rows of one dtype to another, for every pair:
//   to bool          x != 0 (NaN is true)
//   float to int     truncated; out of range becomes the nearest end of the range, NaN becomes 0, on every machine
//   int to int       modulo 2^bits
//   to float         rounded to nearest even; float64 and int64 reach the 16-bit types through float32 rounded to odd,
//                    so that they round once
#pragma once
#include "cpu/simd.h"
#include "ops/elementwise/move.h"

namespace fovea::FOVEA_ISA {
namespace {

using Convert = void (*)(const void* from, void* to, int64_t n);

template <class T>
constexpr bool kIsFloat = false;
template <>
constexpr bool kIsFloat<float> = true;
template <>
constexpr bool kIsFloat<double> = true;

template <class T>
FOVEA_INLINE T saturate(double x) {
  constexpr int bits = int(sizeof(T)) * 8;
  constexpr bool is_signed = T(-1) < T(0);
  constexpr T low = is_signed ? T(uint64_t(1) << (bits - 1)) : T(0), high = T(~low);
  constexpr double end = is_signed ? double(uint64_t(1) << (bits - 1)) : 2.0 * double(uint64_t(1) << (bits - 1));
  if (!(x > double(low))) return x != x ? T(0) : low;
  return x >= end ? high : T(x);
}
// float32 with its last bit set if it is inexact: rounding that to 16 bits gives the correctly rounded value.
FOVEA_INLINE float round_to_odd(double x) {
  float y = float(x);
  uint32_t bits = bits_of(y);
  if (double(y) == x || (bits & 1u) || x != x) return y;
  bool away = x < 0 ? double(y) < x : double(y) > x;
  return float_of(away ? bits - 1 : bits + 1);
}
FOVEA_INLINE double widest(float x) { return x; }
FOVEA_INLINE double widest(double x) { return x; }

template <class From, class To>
FOVEA_INLINE To convert_one(From x) {
  if constexpr (kIs16Bit<From>) {
    return convert_one<float, To>(to_float(x));
  } else if constexpr (kSame<From, Bool>) {
    return convert_one<uint8_t, To>(x.value);
  } else if constexpr (kSame<To, Bool>) {
    return Bool{uint8_t(x != From(0))};
  } else if constexpr (kIs16Bit<To>) {
    float y;
    if constexpr (sizeof(From) == 8) y = round_to_odd(double(x));
    else y = float(x);
    if constexpr (kSame<To, Half>) return to_half(y);
    else return to_bfloat16(y);
  } else if constexpr (kIsFloat<From> && !kIsFloat<To>) {
    return saturate<To>(widest(x));
  } else {
    return To(x);
  }
}

template <class From, class To>
void convert_any(const void* from, void* to, int64_t n) {
  const From* x = static_cast<const From*>(from);
  To* y = static_cast<To*>(to);
  if constexpr ((kIs16Bit<From> && kSame<To, float>) || (kIs16Bit<To> && kSame<From, float>)) {
    convert_row(x, y, n);
  } else {
    for (int64_t i = 0; i < n; i++) y[i] = convert_one<From, To>(x[i]);
  }
}

// f.operator()<T>() with the storage type of any dtype.
template <class F>
FOVEA_INLINE auto dispatch_any(Dtype t, F&& f) {
  switch (t) {
    case Dtype::f64: return f.template operator()<double>();
    case Dtype::f16: return f.template operator()<Half>();
    case Dtype::bf16: return f.template operator()<Bfloat16>();
    case Dtype::i32: return f.template operator()<int32_t>();
    case Dtype::i64: return f.template operator()<int64_t>();
    case Dtype::u8: return f.template operator()<uint8_t>();
    case Dtype::i8: return f.template operator()<int8_t>();
    case Dtype::boolean: return f.template operator()<Bool>();
    default: return f.template operator()<float>();
  }
}

// From float to what is not read soon: to memory past the cache that is aligned to a vector.
template <class To>
void narrow_past_cache(const void* from, void* to, int64_t n) {
  constexpr int64_t kStep = kLanes<float>;
  const float* x = static_cast<const float*>(from);
  To* y = static_cast<To*>(to);
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) stream(&y[i].bits, narrow<To>(load(x + i), load(x + i + kStep)));
  convert_row(x + i, y + i, n - i);
}

// nullptr: the same type, nothing to convert.
FOVEA_INLINE Convert converter(Dtype from, Dtype to) {
  if (from == to) return nullptr;
  return dispatch_any(from, [&]<class From>() -> Convert {
    return dispatch_any(to, [&]<class To>() -> Convert { return convert_any<From, To>; });
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
