// Vector types through the compiler's vector extensions: the same kernel source for every instruction set. Included by
// per-instruction-set files only; everything lives in an anonymous namespace inside fovea::FOVEA_ISA (see
// core/inline.h).
//
//   Vec<float>, Vec<double>, Vec<int32_t>, ...   one register of the instruction set; kLanes<T> elements
//   load, store                                  any alignment
//   masks                                        Vec of integers of the same width, all bits set or none (by `a < b`)
#pragma once
#include <cstdint>

#include "core/arithmetic.h"
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
// Asks for what a loop that takes its time over each vector will read some vectors later: without, memory waits for it.
template <class T>
FOVEA_INLINE void fetch_ahead(const T* p) {
  constexpr int64_t kBytes = 2048;
  __builtin_prefetch(p + kBytes / int64_t(sizeof(T)));  // never faults
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

// ---- 16-bit floats to and from vectors of float

template <class T>
constexpr bool kIs16Bit = false;
template <>
constexpr bool kIs16Bit<Half> = true;
template <>
constexpr bool kIs16Bit<Bfloat16> = true;

// As many elements as a Vec<float> holds.
FOVEA_INLINE Vec<float> widen(const Bfloat16* p) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
                                       16);
#elif defined(__AVX2__)
  return (Vec<float>)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16);
#else
  Vec<uint32_t> bits;
  for (int i = 0; i < kLanes<float>; i++) bits[i] = uint32_t(p[i].bits) << 16;
  return (Vec<float>)bits;
#endif
}
FOVEA_INLINE Vec<float> widen(const Half* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  float lane[kLanes<float>];
  for (int i = 0; i < kLanes<float>; i++) lane[i] = to_float(p[i]);
  return load(static_cast<const float*>(lane));
#endif
}

// The upper halves of all lanes of a, then of b.
FOVEA_INLINE Vec<uint16_t> upper_halves(Vec<uint32_t> a, Vec<uint32_t> b) {
#if defined(__AVX512F__)
  Vec<uint16_t> odd;
#pragma GCC unroll 32
  for (int i = 0; i < kLanes<uint16_t>; i++) odd[i] = uint16_t(2 * i + 1);
  return (Vec<uint16_t>)_mm512_permutex2var_epi16((__m512i)a, (__m512i)odd, (__m512i)b);
#elif defined(__AVX2__)
  return (Vec<uint16_t>)_mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)(a >> 16), (__m256i)(b >> 16)), 0xd8);
#else
  return __builtin_shufflevector((Vec<uint16_t>)a, (Vec<uint16_t>)b, 1, 3, 5, 7, 9, 11, 13, 15);
#endif
}
FOVEA_INLINE Vec<uint32_t> round_to_upper_half(Vec<float> x) {
  Vec<uint32_t> u = (Vec<uint32_t>)x;
  return x == x ? u + (0x7fff + (u >> 16 & 1)) : u | 0x400000;
}
// The lanes of a, then those of b, rounded to T.
template <class T>
FOVEA_INLINE Vec<uint16_t> narrow(Vec<float> a, Vec<float> b) {
  if constexpr (kSame<T, Bfloat16>) {
#if defined(__AVX512BF16__)
    // The instruction takes denormals for zero; they are rare, so it is enough to look closer where it gives zeros.
    __m512i r = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    if (__builtin_expect(_mm512_testn_epi16_mask(r, _mm512_set1_epi16(0x7fff)) != 0, 0)) {
      constexpr int denormal = 0x20;
      if (_mm512_fpclass_ps_mask(a, denormal) | _mm512_fpclass_ps_mask(b, denormal))
        return upper_halves(round_to_upper_half(a), round_to_upper_half(b));
    }
    return (Vec<uint16_t>)r;
#else
    return upper_halves(round_to_upper_half(a), round_to_upper_half(b));
#endif
  } else {
#if defined(__AVX512F__)
    return (Vec<uint16_t>)_mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)),
                                             _mm512_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT), 1);
#elif defined(__F16C__)
    return (Vec<uint16_t>)_mm256_set_m128i(_mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT),
                                           _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
#else
    Vec<uint16_t> v;
    for (int i = 0; i < kLanes<float>; i++) v[i] = to_half(a[i]).bits, v[i + kLanes<float>] = to_half(b[i]).bits;
    return v;
#endif
  }
}

// ---- rows of storage types to and from the type that kernels compute in

// Dense row of any dtype -> float or double.
template <class To, class From>
FOVEA_INLINE void convert_row(const From* from, To* to, int64_t n) {
  constexpr int kStep = kLanes<float>;
  int64_t i = 0;
  if constexpr (kIs16Bit<From> && kSame<To, float>) {
#if defined(__AVX2__)  // otherwise the compiler makes more of the plain loop
    for (; i + kStep <= n; i += kStep) store<float>(to + i, widen(from + i));
#endif
    for (; i < n; i++) to[i] = to_float(from[i]);
  } else if constexpr (kIs16Bit<To> && kSame<From, float>) {
    for (; i + 2 * kStep <= n; i += 2 * kStep)
      store<uint16_t>(&to[i].bits, narrow<To>(load(from + i), load(from + i + kStep)));
    if (i == n) return;
    float rest[2 * kStep] = {};
    __builtin_memcpy(rest, from + i, size_t(n - i) * sizeof(float));
    Vec<uint16_t> last = narrow<To>(load<float>(rest), load<float>(rest + kStep));
    __builtin_memcpy(to + i, &last, size_t(n - i) * sizeof(To));
  } else {
    for (; i < n; i++) to[i] = To(from[i]);
  }
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
