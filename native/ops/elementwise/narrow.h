// Rows of 16-bit floats that are computed vector by vector, without float32 buffers in between: for the ops that models
// spend their time in.
#pragma once
#include "cpu/math_coarse.h"
#include "ops/elementwise/functions.h"
#include "ops/elementwise/move.h"

namespace fovea::FOVEA_ISA {
namespace {

// What stands for F in such rows; void: nothing does, and rows are converted.
template <class F>
struct NarrowOf {
  using type = void;
};
#define FOVEA_NARROW(F, Name, ...)                                                 \
  struct Name {                                                                    \
    explicit Name(const void*) {}                                                  \
    FOVEA_INLINE Vec<float> operator()(Vec<float> x) const { return __VA_ARGS__; } \
  };                                                                               \
  template <>                                                                      \
  struct NarrowOf<F> {                                                             \
    using type = Name;                                                             \
  };
FOVEA_NARROW(Exp, NarrowExp, coarse_exp(x))
FOVEA_NARROW(Silu, NarrowSilu, coarse_silu(x))
FOVEA_NARROW(Gelu, NarrowGelu, coarse_gelu(x))
FOVEA_NARROW(GeluTanh, NarrowGeluTanh, coarse_gelu_tanh(x))
#undef FOVEA_NARROW
template <>
struct NarrowOf<Add> {
  using type = Add;
};
template <>
struct NarrowOf<Sub> {
  using type = Sub;
};
template <>
struct NarrowOf<Mul> {
  using type = Mul;
};

template <class F, class T, int operands, bool past_cache>
bool narrow_row(void* out, const void* const* in, int64_t n, const void* attrs) {
  constexpr int64_t kStep = kLanes<float>;
  F f(attrs);
  auto pair = [&](const T* a, const T* b) {
    if constexpr (operands == 1) return narrow<T>(f(widen(a)), f(widen(a + kStep)));
    else return narrow<T>(f(widen(a), widen(b)), f(widen(a + kStep), widen(b + kStep)));
  };
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[operands - 1]);
  T* c = static_cast<T*>(out);
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    fetch_ahead(a + i);
    if constexpr (operands == 2) fetch_ahead(b + i);
    if constexpr (past_cache) stream(&c[i].bits, pair(a + i, b + i));
    else store(&c[i].bits, pair(a + i, b + i));
  }
  if (i == n) return true;
  T a_rest[2 * kStep] = {}, b_rest[2 * kStep] = {};
  const size_t bytes = size_t(n - i) * sizeof(T);
  __builtin_memcpy(a_rest, a + i, bytes), __builtin_memcpy(b_rest, b + i, bytes);
  const Vec<uint16_t> last = pair(a_rest, b_rest);
  __builtin_memcpy(c + i, &last, bytes);
  return true;
}

// Whether 16-bit operands of F are computed so, and the functions for type t.
template <class F>
constexpr bool kNarrows = !kSame<typename NarrowOf<F>::type, void>;
template <class F, int operands>
RowFunction narrow_function(Dtype t) {
  using N = typename NarrowOf<F>::type;
  if (t == Dtype::bf16)
    return {narrow_row<N, Bfloat16, operands, false>, {t, t, t}, t, nullptr, narrow_row<N, Bfloat16, operands, true>};
  return {narrow_row<N, Half, operands, false>, {t, t, t}, t, nullptr, narrow_row<N, Half, operands, true>};
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
