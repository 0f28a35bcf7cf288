// Moving elements of 1, 2, 4 or 8 bytes as bits: with strides, transposed, or past the cache.
#pragma once
#include <utility>

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

// One vector past the cache, where the machine can; p must be aligned to it.
template <class T>
FOVEA_INLINE void stream(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
  typedef long long Two __attribute__((vector_size(16)));
  __builtin_ia32_movntdq(reinterpret_cast<Two*>(p), (Two)v);
#else
  store<T>(p, v);
#endif
}
// Copies past the cache. `to` must be aligned to a vector.
FOVEA_INLINE void stream_copy(void* to, const void* from, int64_t bytes) {
  int64_t i = 0;
  auto* target = static_cast<std::byte*>(to);
  auto* source = static_cast<const std::byte*>(from);
  for (; i + kVectorBytes <= bytes; i += kVectorBytes)
    stream(reinterpret_cast<uint8_t*>(target + i), load(reinterpret_cast<const uint8_t*>(source + i)));
  __builtin_memcpy(target + i, source + i, size_t(bytes - i));
}
// Streamed stores become visible to other threads.
FOVEA_INLINE void stream_fence() {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}

// ---- transposition

// Square tiles of up to 16 vectors, which fit the registers.
template <class T>
constexpr int kSide = kVectorBytes / int(sizeof(T)) < 16 ? kVectorBytes / int(sizeof(T)) : 16;
template <class T>
struct SideOf {
  typedef T type __attribute__((vector_size(kSide<T> * sizeof(T))));
};
template <class T>
using Side = typename SideOf<T>::type;
// a and b interleaved: their first halves (upper = 0) or their second halves.
template <class V, int side, int upper, size_t... i>
FOVEA_INLINE V interleave(V a, V b, std::index_sequence<i...>) {
  return __builtin_shufflevector(a, b, (upper * side / 2 + int(i) / 2 + int(i) % 2 * side)...);
}
// to[j][i] = from[i][j]. A round of interleaving row i with row i + side / 2 rotates the bits of (i, j) by one place;
// after log2(side) rounds i and j have changed places.
template <class T>
FOVEA_INLINE void transpose_square(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  constexpr int side = kSide<T>;
  constexpr std::make_index_sequence<size_t(side)> lanes;
  Side<T> v[side], w[side];
#pragma GCC unroll 16
  for (int i = 0; i < side; i++) __builtin_memcpy(&v[i], from + i * from_stride, sizeof v[i]);
#pragma GCC unroll 4
  for (int round = 1; round < side; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < side / 2; i++) {
      w[2 * i] = interleave<Side<T>, side, 0>(v[i], v[i + side / 2], lanes);
      w[2 * i + 1] = interleave<Side<T>, side, 1>(v[i], v[i + side / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < side; i++) v[i] = w[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < side; i++) __builtin_memcpy(to + i * to_stride, &v[i], sizeof v[i]);
}
// The same for any number of rows and columns of `from`.
template <class T>
void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows, int64_t columns) {
  constexpr int64_t side = kSide<T>;
  int64_t whole_rows = rows / side * side, whole_columns = columns / side * side;
  for (int64_t i = 0; i < whole_rows; i += side)
    for (int64_t j = 0; j < whole_columns; j += side)
      transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
      to[j * to_stride + i] = from[i * from_stride + j];
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
