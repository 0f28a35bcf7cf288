// What kernels over rows do with vectors: those cut short at the end of a row, stores past the caches, and loops.
// Included by per-instruction-set files only (see cpu/simd.h).
#pragma once
#include "core/arithmetic.h"
#include "cpu/simd.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class A>
FOVEA_INLINE Vec<A> lane_numbers() {
  Vec<A> v;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<A>; i++) v[i] = A(i);
  return v;
}
// The first `count` lanes of v, `fill` in the others.
template <class A>
FOVEA_INLINE Vec<A> first_lanes(Vec<A> v, int64_t count, A fill) {
  return lane_numbers<A>() < splat<A>(A(count)) ? v : splat<A>(fill);
}
// `count` is the constant kLanes<A> in the body of a loop, which leaves one full load or store there.
template <class A>
FOVEA_INLINE Vec<A> load(const A* p, int64_t count) {
  if (count == kLanes<A>) return load(p);
#if defined(__AVX512F__)
  if constexpr (sizeof(A) == 4) return (Vec<A>)_mm512_maskz_loadu_epi32(__mmask16((1u << count) - 1), p);
  else return (Vec<A>)_mm512_maskz_loadu_epi64(__mmask8((1u << count) - 1), p);
#else
  A lane[kLanes<A>] = {};
  for (int64_t i = 0; i < count; i++) lane[i] = p[i];
  return load(static_cast<const A*>(lane));
#endif
}
template <class A>
FOVEA_INLINE void store(A* p, Vec<A> v, int64_t count) {
  if (count == kLanes<A>) return store(p, v);
#if defined(__AVX512F__)
  if constexpr (sizeof(A) == 4) _mm512_mask_storeu_epi32(p, __mmask16((1u << count) - 1), (__m512i)v);
  else _mm512_mask_storeu_epi64(p, __mmask8((1u << count) - 1), (__m512i)v);
#else
  A lane[kLanes<A>];
  store(static_cast<A*>(lane), v);
  for (int64_t i = 0; i < count; i++) p[i] = lane[i];
#endif
}

// Elements of a float type in the type that is computed in, as many as a Vec of that has; `count` as above.
template <class T>
FOVEA_INLINE Vec<Compute<T>> load_wide(const T* p, int64_t count) {
  if constexpr (kIs16Bit<T>) {
    if (count == kLanes<float>) return widen(p);
    T some[kLanes<float>] = {};
    __builtin_memcpy(some, p, size_t(count) * sizeof(T));
    return widen(static_cast<const T*>(some));
  } else {
    return load(p, count);
  }
}

// Stores past the caches: for outputs too large to be found in them again, it saves reading what is overwritten.
// p must be aligned to a vector; fence_stores() must follow before another thread reads.
template <class A>
FOVEA_INLINE void store_past_caches(A* p, Vec<A> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#else
  store(p, v);
#endif
}
FOVEA_INLINE void fence_stores() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// For the bodies of the loops below: they are instantiated several times, and must not become calls.
#define FOVEA_FLAT __attribute__((always_inline))

// body(i, count) for every vector of [0, n); the last one may be short.
template <class A, class Body>
FOVEA_INLINE void for_vectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes<A> <= n; i += kLanes<A>) body(i, int64_t(kLanes<A>));
  if (i < n) body(i, n - i);
}

// Lane i: x[i step], for the `count` lanes there are; the others repeat the last.
template <class A>
FOVEA_INLINE Vec<A> load_apart(const A* x, int64_t step, int64_t count) {
  A lane[kLanes<A>];
  for (int64_t i = 0; i < kLanes<A>; i++) lane[i] = x[min_of(i, count - 1) * step];
  return load(static_cast<const A*>(lane));
}
template <class A>
FOVEA_INLINE void store_apart(A* x, int64_t step, Vec<A> v, int64_t count) {
  A lane[kLanes<A>];
  store(static_cast<A*>(lane), v);
  for (int64_t i = 0; i < count; i++) x[i * step] = lane[i];
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
