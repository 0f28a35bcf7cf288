// Rotary position embedding on the CPU.
//
//   y_a = x_a cos - x_b sin    y_b = x_b cos + x_a sin
//
// for pairs (a, b) = (i, i + r), or (2i, 2i + 1) if interleaved, i < r; the inverse takes -sin. Components from 2r on
// are copied.
#include "core/kernel.h"
#include "cpu/simd.h"
#include "ops/rope/attrs.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kPairs = 128;            // rotated at a time
constexpr int64_t kGrainElements = 32768;  // work worth waking a thread for

// One piece of a row in the type that is computed in: c and s are cos and sin, `sign` -1 for the inverse.
template <class A>
FOVEA_INLINE void rotate(const A* __restrict a, const A* __restrict b, const A* __restrict c, const A* __restrict s,
                         A sign, int64_t pairs, A* __restrict ya, A* __restrict yb) {
  for (int64_t i = 0; i < pairs; i++) {
    A sine = sign * s[i];
    ya[i] = a[i] * c[i] - b[i] * sine;
    yb[i] = b[i] * c[i] + a[i] * sine;
  }
}
template <class A>
FOVEA_INLINE void rotate_neighbours(const A* __restrict x, const A* __restrict c, const A* __restrict s, A sign,
                                    int64_t pairs, A* __restrict y) {
  for (int64_t i = 0; i < pairs; i++) {
    A sine = sign * s[i];
    y[2 * i] = x[2 * i] * c[i] - x[2 * i + 1] * sine;
    y[2 * i + 1] = x[2 * i + 1] * c[i] + x[2 * i] * sine;
  }
}

// 16-bit rows pass through buffers.
template <class T, class A = Compute<T>>
FOVEA_INLINE void rotate_row(const T* x, const A* c, const A* s, A sign, bool interleaved, int64_t r, T* y) {
  if constexpr (sizeof(T) == sizeof(A)) {
    return interleaved ? rotate_neighbours(x, c, s, sign, r, y) : rotate(x, x + r, c, s, sign, r, y, y + r);
  } else {
    for (int64_t i = 0; i < r; i += kPairs) {
      int64_t pairs = r - i < kPairs ? r - i : kPairs;
      alignas(64) A from[2 * kPairs], to[2 * kPairs];
      if (interleaved || pairs == r) {  // what belongs together is one piece of the row
        convert_row(x + 2 * i, from, 2 * pairs);
        if (interleaved) rotate_neighbours(from, c + i, s + i, sign, pairs, to);
        else rotate(from, from + pairs, c + i, s + i, sign, pairs, to, to + pairs);
        convert_row(to, y + 2 * i, 2 * pairs);
      } else {
        convert_row(x + i, from, pairs), convert_row(x + r + i, from + kPairs, pairs);
        rotate(from, from + kPairs, c + i, s + i, sign, pairs, to, to + kPairs);
        convert_row(to, y + i, pairs), convert_row(to + kPairs, y + r + i, pairs);
      }
    }
  }
}

template <class T>
void rotate_rows(Call& call, const RopeAttrs& attrs) {
  using A = Compute<T>;
  const View &x = call.in[0], &c = call.in[1], &s = call.in[2], &y = call.out[0];
  int64_t h = x.shape[1], n = x.shape[2], d = x.shape[3], r = c.shape[2];
  A sign = attrs.inverse ? A(-1) : A(1);
  int64_t grain = d > 0 ? kGrainElements / d + 1 : kGrainElements;
  call.parallel.for_range(x.shape[0] * h * n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t i = row % n, hi = row / n % h, bi = row / n / h;
      const T* from = x.as<T>() + bi * x.strides[0] + hi * x.strides[1] + i * x.strides[2];
      T* to = y.as<T>() + row * d;
      rotate_row(from, c.as<A>() + bi * c.strides[0] + i * c.strides[1],
                 s.as<A>() + bi * s.strides[0] + i * s.strides[1], sign, attrs.interleaved, r, to);
      for (int64_t j = 2 * r; j < d; j++) to[j] = from[j];
    }
  });
}

void rope(Call& call, const RopeAttrs& attrs) {
  int64_t d = call.in[0].shape[3], r = call.in[1].shape[2];
  if (2 * r > d)
    call.fail(
        "FOVEA_SHAPE",
        "cos and sin hold %lld angles, which rotate %lld components, but x has only %lld; pass at most %lld angles",
        static_cast<long long>(r), static_cast<long long>(2 * r), static_cast<long long>(d),
        static_cast<long long>(d / 2));
  dispatch_float(call.in[0].dtype, [&]<class T>() { rotate_rows<T>(call, attrs); });
}

}  // namespace

FOVEA_KERNELS(rope, FOVEA_KERNEL("rope", rope, RopeAttrs))

}  // namespace fovea::FOVEA_ISA
