// Arithmetic of sizes and offsets, for kernels and for what plans their work.
#pragma once
#include <cstdint>

#include "core/inline.h"

namespace fovea {

constexpr FOVEA_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr FOVEA_INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr FOVEA_INLINE int64_t clamp_to(int64_t x, int64_t low, int64_t high) { return max_of(low, min_of(x, high)); }
constexpr FOVEA_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr FOVEA_INLINE int64_t round_up(int64_t n, int64_t step) { return ceil_div(n, step) * step; }

// std::is_same_v, without <type_traits> in kernel files.
template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

}  // namespace fovea
