// Vector types through the compiler's vector extensions: the same kernel source for every instruction set. Included by
// per-instruction-set files only; everything lives in an anonymous namespace inside fovea::FOVEA_ISA (see
// core/inline.h).
//
//   Vec<float>, Vec<double>, Vec<int32_t>, ...   one register of the instruction set; kLanes<T> elements
//   load, store                                  any alignment
//   masks                                        Vec of integers of the same width, all bits set or none (by `a < b`)
#pragma once
#include <cstdint>

#include "core/half.h"
#include "core/inline.h"

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__F16C__)
#include <immintrin.h>
#endif

namespace fovea::FOVEA_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;  // SSE2, NEON
#endif

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
struct MaskOf;
template <>
struct MaskOf<float> {
  using type = Vec<int32_t>;
};
template <>
struct MaskOf<double> {
  using type = Vec<int64_t>;
};
template <>
struct MaskOf<int32_t> {
  using type = Vec<int32_t>;
};
template <>
struct MaskOf<int64_t> {
  using type = Vec<int64_t>;
};
template <class T>
using Mask = typename MaskOf<T>::type;

template <class T>
FOVEA_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
FOVEA_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class T>
FOVEA_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};
}  // 0 + x would cost an addition and lose the sign of -0

FOVEA_INLINE Vec<float> select(Vec<int32_t> m, Vec<float> a, Vec<float> b) { return m ? a : b; }
FOVEA_INLINE Vec<double> select(Vec<int64_t> m, Vec<double> a, Vec<double> b) { return m ? a : b; }
FOVEA_INLINE Vec<int32_t> select(Vec<int32_t> m, Vec<int32_t> a, Vec<int32_t> b) { return m ? a : b; }
FOVEA_INLINE Vec<int64_t> select(Vec<int64_t> m, Vec<int64_t> a, Vec<int64_t> b) { return m ? a : b; }

// A NaN in b wins, one in a loses; kernels that must propagate NaN check for it themselves.
template <class V>
FOVEA_INLINE V max(V a, V b) {
  return a > b ? a : b;
}
template <class V>
FOVEA_INLINE V min(V a, V b) {
  return a < b ? a : b;
}

// Reductions across lanes, always in the same order: halves are folded onto each other.
template <class T>
FOVEA_INLINE T sum_lanes(Vec<T> v) {
  T lane[kLanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
#pragma GCC unroll 8
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  return lane[0];
}
template <class T>
FOVEA_INLINE T max_lanes(Vec<T> v) {
  T lane[kLanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
#pragma GCC unroll 8
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  return lane[0];
}

// ---- rows of storage types to and from the type that kernels compute in

// Dense row of any dtype -> float or double. The 16-bit loops vectorise; f16 uses the hardware where there is some.
template <class To, class From>
FOVEA_INLINE void convert_row(const From* from, To* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = To(from[i]);
}
FOVEA_INLINE void convert_row(const Bfloat16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = to_float(from[i]);
}
FOVEA_INLINE void convert_row(const float* from, Bfloat16* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = to_bfloat16(from[i]);
}
FOVEA_INLINE void convert_row(const Half* from, float* to, int64_t n) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < n; i++) to[i] = to_float(from[i]);
}
FOVEA_INLINE void convert_row(const float* from, Half* to, int64_t n) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < n; i++) to[i] = to_half(from[i]);
}

// The type a kernel computes in for values stored as T.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<Half> {
  using type = float;
};
template <>
struct ComputeOf<Bfloat16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

// dispatch_float(dtype, [&]<class T>() { ... }) with T = float, double, Half or Bfloat16.
template <class F>
FOVEA_INLINE void dispatch_float(Dtype t, F&& f) {
  switch (t) {
    case Dtype::f64: return f.template operator()<double>();
    case Dtype::f16: return f.template operator()<Half>();
    case Dtype::bf16: return f.template operator()<Bfloat16>();
    default: return f.template operator()<float>();
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
