// Softmax and log-softmax over the last axis, m = max x, s = sum exp(x - m):
//
//   softmax     y = exp(x - m) / s        dx = y (dy - sum y dy)
//   logSoftmax  y = x - m - log s         dx = dy - exp(y) sum dy
//
// A row of which all elements are -inf, or one is +inf or NaN, is NaN throughout.
#include "cpu/math.h"
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

template <class A>
struct Rows {
  Source<A> x;
  Target<A> y;
  int64_t n;
  bool past_caches;
};

template <class A>
FOVEA_INLINE A row_maximum(const Rows<A>& rows, int64_t at) {
  A buffer[kBlock];
  return fold_blocks<A>(rows.n, AnyMaximum(), [&](int64_t begin, int64_t count) {
    const A* x = rows.x.block(at + begin, count, buffer);
    return fold_vectors<A>(count, AnyMaximum(),
                           [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
  });
}

// `next` is where the next row is: it is asked for meanwhile, since memory would idle during all passes but the first.
//
// Rows of up to this many elements keep exp(x - m) on the stack between the passes. Longer ones keep it in y, or
// compute it twice where y holds 16-bit numbers.
constexpr int64_t kKept = 4096;

template <class A>
void softmax_row(const Rows<A>& rows, int64_t from, int64_t next, int64_t to) {
  A in[kBlock], out[kBlock], on_stack[kKept];
  const int64_t n = rows.n;
  A* kept = n <= kKept ? on_stack : rows.y.native() ? rows.y.block(to, out) : nullptr;
  const Vec<A> maximum = splat<A>(row_maximum(rows, from));
  A sum = fold_blocks<A>(n, Add(), [&](int64_t begin, int64_t count) {
    const A* x = rows.x.block(from + begin, count, in);
    A* e = kept ? kept + begin : out;
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.x.prefetch(next + begin + i);
      Vec<A> power = exp(load(x + i, lanes) - maximum);
      store(e + i, power, lanes);
      return power;
    });
  });
  const Vec<A> scale = splat<A>(1 / sum);
  for_blocks(n, [&](int64_t begin, int64_t count) {
    A* y = rows.y.block(to + begin, out);
    if (kept) {
      const A* e = kept + begin;
      for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
        if (rows.past_caches) store_past_caches(y + i, load(e + i, lanes) * scale);
        else store(y + i, load(e + i, lanes) * scale, lanes);
      });
    } else {
      const A* x = rows.x.block(from + begin, count, in);
      for_vectors<A>(count, [&](int64_t i, int64_t lanes)
                                FOVEA_FLAT { store(y + i, exp(load(x + i, lanes) - maximum) * scale, lanes); });
    }
    rows.y.commit(y, to + begin, count);
  });
}

template <class A>
void log_softmax_row(const Rows<A>& rows, int64_t from, int64_t next, int64_t to) {
  A in[kBlock], out[kBlock];
  const A row_max = row_maximum(rows, from);
  const Vec<A> maximum = splat<A>(row_max);
  A sum = fold_blocks<A>(rows.n, Add(), [&](int64_t begin, int64_t count) {
    const A* x = rows.x.block(from + begin, count, in);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.x.prefetch(next + begin + i);
      return exp(load(x + i, lanes) - maximum);
    });
  });
  const Vec<A> log_sum = splat<A>(A(__builtin_log(double(sum))));
  for_blocks(rows.n, [&](int64_t begin, int64_t count) {
    const A* x = rows.x.block(from + begin, count, in);
    A* y = rows.y.block(to + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<A> value = load(x + i, lanes) - maximum - log_sum;
      if (rows.past_caches) store_past_caches(y + i, value);
      else store(y + i, value, lanes);
    });
    rows.y.commit(y, to + begin, count);
  });
}

// `count` rows of up to kShortRow elements that follow each other, one to a lane.
template <bool kLog, class A>
void short_rows(const Rows<A>& rows, int64_t first, int64_t count) {
  A in[kShortRow * kLanes<A>], out[kShortRow * kLanes<A>];
  const int64_t n = rows.n;
  const A* x = rows.x.block(first * n, count * n, in);
  A* y = rows.y.block(first * n, out);
  Vec<A> column[kShortRow], maximum = splat<A>(AnyMaximum::identity<A>), sum{};
  for (int64_t i = 0; i < n; i++) {
    column[i] = load_apart(x + i, n, count);
    maximum = AnyMaximum()(maximum, column[i]);
  }
  for (int64_t i = 0; i < n; i++) {
    Vec<A> power = exp(column[i] - maximum);
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
  dispatch_compute(x.dtype, [&]<class A>() {
    const int64_t n = row_length(x);
    const Target<A> y(call.out[0]);
    const Rows<A> rows{Source<A>(x), y, n, y.past_caches(x.size(), n)};
    const Axes axes = leading_axes(x, 1);
    const bool side_by_side = n <= kShortRow && rows_follow(axes, n, row_stride(x));
    call.parallel.for_range(leading_size(x), row_grain(2 * n), [&](int64_t begin, int64_t end) {
      if (side_by_side)
        return for_vectors<A>(end - begin,
                              [&](int64_t i, int64_t lanes) FOVEA_FLAT { short_rows<kLog>(rows, begin + i, lanes); });
      for (int64_t row = begin; row < end; row++) {
        const int64_t from = offset_of(axes, row), next = row + 1 < end ? offset_of(axes, row + 1) : from;
        if constexpr (kLog) log_softmax_row(rows, from, next, row * n);
        else softmax_row(rows, from, next, row * n);
      }
      if (rows.past_caches) fence_stores();
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
  A a[kBlock], b[kBlock], out[kBlock];
  const Vec<A> dot = splat<A>(fold_blocks<A>(rows.n, Add(), [&](int64_t begin, int64_t count) {
    const A *y = rows.y.block(at_y + begin, count, a), *dy = rows.dy.block(at_dy + begin, count, b);
    return fold_vectors<A>(
        count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(y + i, lanes) * load(dy + i, lanes); });
  }));
  for_blocks(rows.n, [&](int64_t begin, int64_t count) {
    const A *y = rows.y.block(at_y + begin, count, a), *dy = rows.dy.block(at_dy + begin, count, b);
    A* dx = rows.dx.block(at_dx + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes)
                              FOVEA_FLAT { store(dx + i, load(y + i, lanes) * (load(dy + i, lanes) - dot), lanes); });
    rows.dx.commit(dx, at_dx + begin, count);
  });
}

// forward: y = x - m - log s
template <class A>
void log_softmax_backward_row(const BackwardRows<A>& rows, int64_t at_y, int64_t at_dy, int64_t at_dx) {
  A a[kBlock], b[kBlock], out[kBlock];
  const Vec<A> sum = splat<A>(fold_blocks<A>(rows.n, Add(), [&](int64_t begin, int64_t count) {
    const A* dy = rows.dy.block(at_dy + begin, count, b);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(dy + i, lanes); });
  }));
  for_blocks(rows.n, [&](int64_t begin, int64_t count) {
    const A *y = rows.y.block(at_y + begin, count, a), *dy = rows.dy.block(at_dy + begin, count, b);
    A* dx = rows.dx.block(at_dx + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      store(dx + i, load(dy + i, lanes) - exp(load(y + i, lanes)) * sum, lanes);
    });
    rows.dx.commit(dx, at_dx + begin, count);
  });
}

template <bool kLog>
void backward(Call& call, const NoAttrs&) {
  const View &y = call.in[0], &dy = call.in[1];
  dispatch_compute(y.dtype, [&]<class A>() {
    const BackwardRows<A> rows{Source<A>(y), Source<A>(dy), Target<A>(call.out[0]), row_length(y)};
    const Axes y_axes = leading_axes(y, 1), dy_axes = leading_axes(dy, 1);
    call.parallel.for_range(leading_size(y), row_grain(2 * rows.n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t at_y = offset_of(y_axes, row), at_dy = offset_of(dy_axes, row), at_dx = row * rows.n;
        if constexpr (kLog) log_softmax_backward_row(rows, at_y, at_dy, at_dx);
        else softmax_backward_row(rows, at_y, at_dy, at_dx);
      }
    });
  });
}

}  // namespace

FOVEA_KERNELS(softmax, FOVEA_KERNEL("softmax", forward<false>, NoAttrs),
              FOVEA_KERNEL("logSoftmax", forward<true>, NoAttrs),
              FOVEA_KERNEL("softmaxBackward", backward<false>, NoAttrs),
              FOVEA_KERNEL("logSoftmaxBackward", backward<true>, NoAttrs))

}  // namespace fovea::FOVEA_ISA
