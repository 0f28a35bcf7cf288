// Moving elements of 1, 2, 4 or 8 bytes as bits, with strides or past the cache.
#pragma once
#include "cpu/simd.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class F>
FOVEA_INLINE void dispatch_width(size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f.template operator()<uint8_t>();
    case 2: return f.template operator()<uint16_t>();
    case 4: return f.template operator()<uint32_t>();
    default: return f.template operator()<uint64_t>();
  }
}
template <class T>
FOVEA_INLINE void move_strided(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t n) {
  if (from_stride == 1 && to_stride == 1) {
    __builtin_memcpy(to, from, size_t(n) * sizeof(T));
  } else if (from_stride == 0 && to_stride == 1) {
    T value = *from;
    for (int64_t i = 0; i < n; i++) to[i] = value;
  } else {
    for (int64_t i = 0; i < n; i++) to[i * to_stride] = from[i * from_stride];
  }
}

// Copies past the cache. `to` must be aligned to a vector.
FOVEA_INLINE void stream_copy(void* to, const void* from, int64_t bytes) {
  int64_t i = 0;
  auto* target = static_cast<std::byte*>(to);
  auto* source = static_cast<const std::byte*>(from);
#if defined(__AVX512F__)
  for (; i + 64 <= bytes; i += 64)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + i), _mm512_loadu_si512(source + i));
#elif defined(__AVX2__)
  for (; i + 32 <= bytes; i += 32)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i)));
#elif defined(__SSE2__)
  typedef long long Two __attribute__((vector_size(16)));
  for (; i + 16 <= bytes; i += 16) {
    Two v;
    __builtin_memcpy(&v, source + i, 16);
    __builtin_ia32_movntdq(reinterpret_cast<Two*>(target + i), v);
  }
#endif
  __builtin_memcpy(target + i, source + i, size_t(bytes - i));
}
FOVEA_INLINE void stream_fence() {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
