// Softmax and log-softmax over the last axis, m = max x, s = sum exp(x - m):
//
//   softmax     y = exp(x - m) / s        dx = y (dy - sum y dy)
//   logSoftmax  y = x - m - log s         dx = dy - exp(y) sum dy
//
// A row of which all elements are -inf, or one is +inf or NaN, is NaN throughout.
#include "cpu/math_coarse.h"
#include "cpu/rows.h"

namespace fovea::FOVEA_ISA {
namespace {

// NaN need not win here: it comes back through exp(x - m).
struct AnyMaximum {
  template <class A>
  static constexpr A identity = Maximum::identity<A>;
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) const {
    return a > b ? a : b;
  }
};

struct Exp {
  template <class V>
  FOVEA_INLINE V operator()(V x) const {
    return exp(x);
  }
};
struct CoarseExp {
  template <class V>
  FOVEA_INLINE V operator()(V x) const {
    return coarse_exp(x);
  }
};
// body.operator()<A, E>() with the type that is computed in and the exponential that is good enough.
template <class Body>
FOVEA_INLINE void dispatch_exp(Dtype t, Body body) {
  if (t == Dtype::f64) return body.template operator()<double, Exp>();
  if (bytes_of(t) == 2) return body.template operator()<float, CoarseExp>();
  body.template operator()<float, Exp>();
}

template <class A>
struct Rows {
  Source<A> x;
  Target<A> y;
  int64_t n;
};

template <class A>
FOVEA_INLINE A row_maximum(KeptRow<A>& row, int64_t n) {
  return fold_blocks<A>(n, AnyMaximum(), [&](int64_t begin, int64_t count) {
    const A* x = row.block(begin, count);
    return fold_vectors<A>(count, AnyMaximum(),
                           [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
  });
}

// `next` is where the next row is: it is asked for meanwhile, since memory would idle during all passes but the first.
//
// Rows that are kept have exp(x - m) kept, too, between the passes. Longer ones keep it in y, or compute it twice where
// y holds 16-bit numbers.
template <class E, class A>
void softmax_row(const Rows<A>& rows, int64_t from, int64_t next, int64_t to) {
  Buffer<A> out;
  Buffer<A, kKept<A>> on_stack;
  KeptRow<A> row(rows.x, from, rows.n);
  const int64_t n = rows.n;
  A* kept = n <= kKept<A> ? on_stack.value : rows.y.native() ? rows.y.block(to, out) : nullptr;
  const Vec<A> maximum = splat<A>(row_maximum(row, n));
  A sum = fold_blocks<A>(n, Add(), [&](int64_t begin, int64_t count) {
    const A* x = row.block(begin, count);
    A* e = kept ? kept + begin : out;
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.x.prefetch(next + begin + i);
      Vec<A> power = E()(load(x + i, lanes) - maximum);
      store(e + i, power, lanes);
      return power;
    });
  });
  const Vec<A> scale = splat<A>(1 / sum);
  for_blocks(n, [&](int64_t begin, int64_t count) {
    const A* from = kept ? kept + begin : row.block(begin, count);
    if (kept)
      rows.y.write(to + begin, count,
                   [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(from + i, lanes) * scale; });
    else
      rows.y.write(to + begin, count,
                   [&](int64_t i, int64_t lanes) FOVEA_FLAT { return E()(load(from + i, lanes) - maximum) * scale; });
  });
}

template <class E, class A>
void log_softmax_row(const Rows<A>& rows, int64_t from, int64_t next, int64_t to) {
  KeptRow<A> row(rows.x, from, rows.n);
  const Vec<A> maximum = splat<A>(row_maximum(row, rows.n));
  A sum = fold_blocks<A>(rows.n, Add(), [&](int64_t begin, int64_t count) {
    const A* x = row.block(begin, count);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.x.prefetch(next + begin + i);
      return E()(load(x + i, lanes) - maximum);
    });
  });
  const Vec<A> log_sum = splat<A>(A(__builtin_log(double(sum))));
  for_blocks(rows.n, [&](int64_t begin, int64_t count) {
    const A* x = row.block(begin, count);
    rows.y.write(to + begin, count,
                 [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes) - maximum - log_sum; });
  });
}

// `count` rows of up to kShortRow elements that follow each other, one to a lane.
template <bool kLog, class E, class A>
void short_rows(const Rows<A>& rows, int64_t first, int64_t count) {
  Buffer<A, kShortRow * kLanes<A>> in, out;
  const int64_t n = rows.n;
  const A* x = rows.x.block(first * n, count * n, in);
  A* y = rows.y.block(first * n, out);
  Vec<A> column[kShortRow], maximum = splat<A>(AnyMaximum::identity<A>), sum{};
  for (int64_t i = 0; i < n; i++) {
    column[i] = load_apart(x + i, n, count);
    maximum = AnyMaximum()(maximum, column[i]);
  }
  for (int64_t i = 0; i < n; i++) {
    Vec<A> power = E()(column[i] - maximum);
    sum += power;
    column[i] = kLog ? column[i] - maximum : power;
  }
  if constexpr (kLog) sum = log(sum);
  else sum = 1 / sum;
  for (int64_t i = 0; i < n; i++) store_apart(y + i, n, kLog ? column[i] - sum : column[i] * sum, count);
  rows.y.commit(y, first * n, count * n);
}

template <bool kLog>
void forward(Call& call, const NoAttrs&) {
  const View& x = call.in[0];
  dispatch_exp(x.dtype, [&]<class A, class E>() {
    const int64_t n = row_length(x);
    const Rows<A> rows{Source<A>(x), Target<A>(call.out[0], n), n};
    const Axes axes = leading_axes(x, 1);
    const bool side_by_side = n <= kShortRow && rows_follow(axes, n, row_stride(x));
    call.parallel.for_range(leading_size(x), row_grain(2 * n), [&](int64_t begin, int64_t end) {
      if (side_by_side)
        for_vectors<A>(end - begin,
                       [&](int64_t i, int64_t lanes) FOVEA_FLAT { short_rows<kLog, E>(rows, begin + i, lanes); });
      for (int64_t row = begin; row < end && !side_by_side; row++) {
        const int64_t from = offset_of(axes, row), next = row + 1 < end ? offset_of(axes, row + 1) : from;
        if constexpr (kLog) log_softmax_row<E>(rows, from, next, row * n);
        else softmax_row<E>(rows, from, next, row * n);
      }
      rows.y.fence();
    });
  });
}

template <class A>
struct BackwardRows {
  Source<A> y, dy;
  Target<A> dx;
  int64_t n;
};

// `at` are the offsets of y, dy and dx. forward: y = exp(x - m) / s
template <class A>
void softmax_backward_row(const BackwardRows<A>& rows, int64_t at_y, int64_t at_dy, int64_t at_dx) {
  KeptRow<A> y_row(rows.y, at_y, rows.n), dy_row(rows.dy, at_dy, rows.n);
  const Vec<A> dot = splat<A>(fold_blocks<A>(rows.n, Add(), [&](int64_t begin, int64_t count) {
    const A *y = y_row.block(begin, count), *dy = dy_row.block(begin, count);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.y.prefetch(at_y + rows.n + begin + i);  // of the next row
      rows.dy.prefetch(at_dy + rows.n + begin + i);
      return load(y + i, lanes) * load(dy + i, lanes);
    });
  }));
  for_blocks(rows.n, [&](int64_t begin, int64_t count) {
    const A *y = y_row.block(begin, count), *dy = dy_row.block(begin, count);
    rows.dx.write(at_dx + begin, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      return load(y + i, lanes) * (load(dy + i, lanes) - dot);
    });
  });
}

// forward: y = x - m - log s
template <class E, class A>
void log_softmax_backward_row(const BackwardRows<A>& rows, int64_t at_y, int64_t at_dy, int64_t at_dx) {
  Buffer<A> y_buffer;
  KeptRow<A> dy_row(rows.dy, at_dy, rows.n);
  const Vec<A> sum = splat<A>(fold_blocks<A>(rows.n, Add(), [&](int64_t begin, int64_t count) {
    const A* dy = dy_row.block(begin, count);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.y.prefetch(at_y + begin + i);
      rows.dy.prefetch(at_dy + rows.n + begin + i);  // of the next row
      return load(dy + i, lanes);
    });
  }));
  for_blocks(rows.n, [&](int64_t begin, int64_t count) {
    const A *y = rows.y.block(at_y + begin, count, y_buffer), *dy = dy_row.block(begin, count);
    rows.dx.write(at_dx + begin, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      return load(dy + i, lanes) - E()(load(y + i, lanes)) * sum;
    });
  });
}

template <bool kLog>
void backward(Call& call, const NoAttrs&) {
  const View &y = call.in[0], &dy = call.in[1];
  dispatch_exp(y.dtype, [&]<class A, class E>() {
    const BackwardRows<A> rows{Source<A>(y), Source<A>(dy), Target<A>(call.out[0], row_length(y)), row_length(y)};
    const Axes y_axes = leading_axes(y, 1), dy_axes = leading_axes(dy, 1);
    call.parallel.for_range(leading_size(y), row_grain(2 * rows.n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t at_y = offset_of(y_axes, row), at_dy = offset_of(dy_axes, row), at_dx = row * rows.n;
        if constexpr (kLog) log_softmax_backward_row<E>(rows, at_y, at_dy, at_dx);
        else softmax_backward_row(rows, at_y, at_dy, at_dx);
      }
      rows.dx.fence();
    });
  });
}

}  // namespace

FOVEA_KERNELS(softmax, FOVEA_KERNEL("softmax", forward<false>, NoAttrs),
              FOVEA_KERNEL("logSoftmax", forward<true>, NoAttrs),
              FOVEA_KERNEL("softmaxBackward", backward<false>, NoAttrs),
              FOVEA_KERNEL("logSoftmaxBackward", backward<true>, NoAttrs))

}  // namespace fovea::FOVEA_ISA
