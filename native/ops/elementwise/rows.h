// Turns the functions of functions.h into Rows (driver.h), and picks the one for a dtype: 8-bit integers and bool are
// computed in int32, 16-bit floats in float32, so that four instances of each function serve nine dtypes.
#pragma once
#include "ops/elementwise/driver.h"
#include "ops/elementwise/gradients.h"
#include "ops/elementwise/narrow.h"

namespace fovea::FOVEA_ISA {
namespace {

// The last, partial vector of a row, padded with zeros.
template <class T>
FOVEA_INLINE Vec<T> load_part(const T* p, int64_t n) {
  Vec<T> v{};
  __builtin_memcpy(&v, p, size_t(n) * sizeof(T));
  return v;
}
template <class T>
FOVEA_INLINE void store_part(T* p, Vec<T> v, int64_t n) {
  __builtin_memcpy(p, &v, size_t(n) * sizeof(T));
}

// past_cache: `out` is aligned to a vector and nobody reads it soon.
template <bool past_cache, class T>
FOVEA_INLINE void put(T* p, Vec<T> v) {
  if constexpr (past_cache) stream(p, v);
  else store<T>(p, v);
}

template <class F, class T, bool past_cache = false>
bool unary_row(void* out, const void* const* in, int64_t n, const void* attrs) {
  F f(attrs);
  const T* x = static_cast<const T*>(in[0]);
  T* y = static_cast<T*>(out);
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    fetch_ahead(x + i);
    put<past_cache>(y + i, f(load(x + i)));
  }
  if (i < n) store_part<T>(y + i, f(load_part(x + i, n - i)), n - i);
  return true;
}

template <class F, class T, bool past_cache = false>
bool binary_row(void* out, const void* const* in, int64_t n, const void* attrs) {
  F f(attrs);
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  T* c = static_cast<T*>(out);
  int64_t i = 0;
  if constexpr (__is_base_of(OnScalars, F) && !(kSame<T, float> && requires { F::kVectorsOfFloat; })) {
    for (; i < n; i++) c[i] = f(a[i], b[i]);
    return !f.failed;
  } else {
    for (; i + kLanes<T> <= n; i += kLanes<T>) {
      fetch_ahead(a + i), fetch_ahead(b + i);
      put<past_cache>(c + i, f(load(a + i), load(b + i)));
    }
    if (i < n) store_part<T>(c + i, f(load_part(a + i, n - i), load_part(b + i, n - i)), n - i);
    return true;
  }
}

// 0 or 1 per lane of the mask.
template <class T, class M>
FOVEA_INLINE void store_mask(uint8_t* p, M mask, int64_t n) {
  uint8_t lanes[kLanes<T>];
  for (int i = 0; i < kLanes<T>; i++) lanes[i] = uint8_t(mask[i] & 1);
  __builtin_memcpy(p, lanes, size_t(n));
}
template <class F, class T, int operands>
bool mask_row(void* out, const void* const* in, int64_t n, const void*) {
  F f;
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[operands - 1]);
  uint8_t* c = static_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    bool whole = i + kLanes<T> <= n;
    int64_t count = whole ? kLanes<T> : n - i;
    Vec<T> x = whole ? load(a + i) : load_part(a + i, count);
    if constexpr (operands == 1) {
      store_mask<T>(c + i, f(x), count);
    } else {
      store_mask<T>(c + i, f(x, whole ? load(b + i) : load_part(b + i, count)), count);
    }
  }
  return true;
}

FOVEA_INLINE Dtype compute_type(Dtype t) {
  switch (t) {
    case Dtype::f64:
    case Dtype::i64:
    case Dtype::i32: return t;
    case Dtype::f32:
    case Dtype::f16:
    case Dtype::bf16: return Dtype::f32;
    default: return Dtype::i32;
  }
}
// f.operator()<T>() with T = float, double, int32_t or int64_t; floats_only leaves out the latter two.
template <bool floats_only, class F>
FOVEA_INLINE Row dispatch_compute(Dtype t, F&& f) {
  switch (compute_type(t)) {
    case Dtype::f64: return f.template operator()<double>();
    case Dtype::f32: return f.template operator()<float>();
    case Dtype::i64:
      if constexpr (!floats_only) return f.template operator()<int64_t>();
      else return nullptr;
    default:
      if constexpr (!floats_only) return f.template operator()<int32_t>();
      else return nullptr;
  }
}
// `past_cache` is the row function for float32 results that bypass the cache.
FOVEA_INLINE RowFunction same_types(Row row, Row past_cache, Dtype t, const char* error = nullptr) {
  Dtype c = compute_type(t);
  return {row, {c, c, c}, c, error, c == Dtype::f32 ? past_cache : nullptr};
}

template <class F, bool floats_only, class Attrs>
void unary(Call& call, const Attrs& attrs) {
  const View& x = call.in[0];
  Row row = dispatch_compute<floats_only>(x.dtype, []<class T>() -> Row { return unary_row<F, T>; });
  Walk w = walk_over(x);
  w.add(call.out[0]), w.add(x);
  if constexpr (kNarrows<F>)
    if (bytes_of(x.dtype) == 2) return run_walk(call, w, narrow_function<F, 1>(x.dtype), &attrs);
  run_walk(call, w, same_types(row, unary_row<F, float, true>, x.dtype), &attrs);
}

// a and b, or the scalar in place of b, or before a.
FOVEA_INLINE void add_operands(Walk& w, Call& call, const ScalarAttrs& attrs) {
  bool scalar_first = attrs.scalarFirst && !call.in[1].present();
  if (scalar_first) w.add(attrs.scalar);
  w.add(call.in[0]);
  if (!scalar_first) w.add(call.in[1], attrs.scalar);
}
FOVEA_INLINE Walk binary_walk(Call& call, const ScalarAttrs& attrs) {
  Walk w = walk_over(call.in[0]);
  w.in_place = call.out.size() == 0;
  w.add(w.in_place ? call.in[0] : call.out[0]);
  add_operands(w, call, attrs);
  return w;
}
constexpr const char* kDividesByZero = "an integer is divided by zero";
template <class F, bool floats_only>
void binary(Call& call, const ScalarAttrs& attrs) {
  Row row = dispatch_compute<floats_only>(call.in[0].dtype, []<class T>() -> Row { return binary_row<F, T>; });
  Walk w = binary_walk(call, attrs);
  if constexpr (kNarrows<F>)  // a number is not rounded to 16 bits
    if (bytes_of(call.in[0].dtype) == 2 && call.in[1].present())
      return run_walk(call, w, narrow_function<F, 2>(call.in[0].dtype), &attrs);
  run_walk(call, w, same_types(row, binary_row<F, float, true>, call.in[0].dtype, kDividesByZero), &attrs);
}
template <class F>
void compare(Call& call, const ScalarAttrs& attrs) {
  Dtype t = call.in[0].dtype, c = compute_type(t);
  Row row = dispatch_compute<false>(t, []<class T>() -> Row { return mask_row<F, T, 2>; });
  Walk w = binary_walk(call, attrs);
  run_walk(call, w, {row, {c, c, c}, Dtype::boolean}, nullptr);
}
template <class F>
void test(Call& call, const NoAttrs&) {
  Dtype t = call.in[0].dtype, c = compute_type(t);
  Row row = dispatch_compute<false>(t, []<class T>() -> Row { return mask_row<F, T, 1>; });
  Walk w = walk_over(call.in[0]);
  w.add(call.out[0]), w.add(call.in[0]);
  run_walk(call, w, {row, {c, c, c}, Dtype::boolean}, nullptr);
}
template <class F, class Attrs>
void backward(Call& call, const Attrs& attrs) {
  Row row = dispatch_compute<true>(call.in[0].dtype, []<class T>() -> Row { return binary_row<F, T>; });
  Walk w = walk_over(call.in[0]);
  w.add(call.out[0]), w.add(call.in[0]), w.add(call.in[1]);
  run_walk(call, w, same_types(row, binary_row<F, float, true>, call.in[0].dtype), &attrs);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
