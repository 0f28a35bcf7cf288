// Rotary position embedding on the CPU.
//
//   y_a = x_a cos - x_b sin    y_b = x_b cos + x_a sin
//
// for pairs (a, b) = (i, i + r), or (2i, 2i + 1) if interleaved, i < r; the inverse takes -sin. Components from 2r on
// are copied.
#include "cpu/rows.h"
#include "ops/rope/attrs.h"

namespace fovea::FOVEA_ISA {
namespace {

// T is the stored type of x and y.
template <class T>
struct Rows {
  using A = Compute<T>;
  const T* data;
  Source<A> x, cosines, sines;
  Target<A> y;
  A sign;  // -1 for the inverse
  bool interleaved;
  int64_t d, r;
};

// y[0, count) = p cos - q sin, or p cos + q sin with negated sines.
template <class T, class A>
FOVEA_INLINE void combine(const Target<A>& y, int64_t to, int64_t count, const T* p, const T* q, const A* c, const A* s,
                          A sign) {
  const Vec<A> signs = splat<A>(sign);
  y.template write_as<T>(to, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
    return load_wide(p + i, lanes) * load(c + i, lanes) - load_wide(q + i, lanes) * (signs * load(s + i, lanes));
  });
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

template <class T>
FOVEA_INLINE void rotate_row(const Rows<T>& rows, int64_t from, int64_t c_at, int64_t s_at, int64_t to) {
  using A = Compute<T>;
  Buffer<A> in, c_buffer, s_buffer, out;
  const int64_t r = rows.r, step = rows.interleaved ? kBlock / 2 : kBlock;
  for (int64_t i = 0; i < r; i += step) {
    const int64_t pairs = min_of(step, r - i);
    const A *c = rows.cosines.block(c_at + i, pairs, c_buffer), *s = rows.sines.block(s_at + i, pairs, s_buffer);
    if (rows.interleaved) {
      rotate_neighbours<A>(rows.x.block(from + 2 * i, 2 * pairs, in), c, s, rows.sign, pairs, out);
      rows.y.template write_as<T>(to + 2 * i, 2 * pairs,
                                  [&](int64_t k, int64_t lanes) FOVEA_FLAT { return load(out.value + k, lanes); });
    } else {
      const T *a = rows.data + from + i, *b = a + r;
      combine(rows.y, to + i, pairs, a, b, c, s, rows.sign);
      combine(rows.y, to + r + i, pairs, b, a, c, s, -rows.sign);
    }
  }
  for (int64_t i = 2 * r; i < rows.d; i += kBlock) {
    const int64_t count = min_of(kBlock, rows.d - i);
    const T* rest = rows.data + from + i;
    rows.y.template write_as<T>(to + i, count,
                                [&](int64_t k, int64_t lanes) FOVEA_FLAT { return load_wide(rest + k, lanes); });
  }
}

template <class T>
void rotate_rows(Call& call, const RopeAttrs& attrs) {
  const View &x = call.in[0], &c = call.in[1], &s = call.in[2];
  const int64_t h = x.shape[1], n = x.shape[2], d = x.shape[3], r = c.shape[2], width = int64_t(bytes_of(x.dtype)),
                line = 64 / width;
  // Past the caches only if each half of a row is made of whole vectors.
  const int64_t piece = attrs.interleaved ? 2 * r : r;
  using A = Compute<T>;
  const Rows<T> rows{x.as<T>(),
                     Source<A>(x),
                     Source<A>(c),
                     Source<A>(s),
                     Target<A>(call.out[0], d == 2 * r ? piece : 1),
                     attrs.inverse ? A(-1) : A(1),
                     attrs.interleaved,
                     d,
                     r};
  const int64_t ahead = max_of(1, 2048 / max_of(1, d * width)) * x.strides[2];  // rows that are asked for in time
  call.parallel.for_range(x.shape[0] * h * n, row_grain(d), [&](int64_t begin, int64_t end) {
    int64_t i = begin % n, hi = begin / n % h, bi = begin / n / h;
    for (int64_t row = begin; row < end; row++) {
      const int64_t from = bi * x.strides[0] + hi * x.strides[1] + i * x.strides[2];
      for (int64_t k = 0; k < d; k += line) rows.x.prefetch(from + ahead + k);
      rotate_row(rows, from, bi * c.strides[0] + i * c.strides[1], bi * s.strides[0] + i * s.strides[1], row * d);
      if (++i < n) continue;
      i = 0;
      if (++hi == h) hi = 0, bi++;
    }
    rows.y.fence();
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
