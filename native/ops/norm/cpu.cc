// layerNorm and rmsNorm over the last axis of d elements:
//
//   layerNorm  x' = (x - mean) rstd, rstd = 1 / sqrt(mean (x - mean)^2 + eps)     y = weight x' + bias
//   rmsNorm    x' = x rstd,          rstd = 1 / sqrt(mean x^2 + eps)              y = weight x'
//
//   with g = weight dy:  dx = rstd (g - mean(g) - x' mean(g x'));  rmsNorm has no mean(g)
//                        dweight = sum over rows of dy x';  dbias = sum over rows of dy
//
// addLayerNorm and addRmsNorm are these of sum = x + residual, which they return too, so that dx has dsum added to it.
#include "cpu/rows.h"
#include "ops/norm/attrs.h"
#include "ops/norm/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

// A source that may not be there, like weight and bias.
template <class A>
struct Optional {
  bool present;
  Source<A> source;
  explicit Optional(const View& v) : present(v.present()), source(v) {}
  // `otherwise` holds what stands for an absent tensor.
  FOVEA_INLINE const A* block(int64_t at, int64_t count, A* buffer, const A* otherwise) const {
    return present ? source.block(at, count, buffer) : otherwise;
  }
};
// What stands for an absent weight (1) or bias (0).
template <class A>
struct Filled {
  A value[kBlock];
  explicit Filled(A x) {
    for (int64_t i = 0; i < kBlock; i++) value[i] = x;
  }
};

template <class A>
struct Statistics {
  A mean, rstd;
};

// `next` is where the next row is: it is asked for meanwhile, since memory would idle during all passes but the first.
template <bool kCentred, class A>
FOVEA_INLINE Statistics<A> statistics_of(const Source<A>& source, int64_t at, int64_t next, int64_t d, A eps) {
  A buffer[kBlock], mean = 0;
  if constexpr (kCentred) {
    mean = fold_blocks<A>(d, Add(),
                          [&](int64_t begin, int64_t count) {
                            const A* x = source.block(at + begin, count, buffer);
                            return fold_vectors<A>(
                                count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
                          }) /
           A(d);
  }
  const Vec<A> centre = splat<A>(mean);
  A squares = fold_blocks<A>(d, Add(), [&](int64_t begin, int64_t count) {
    const A* x = source.block(at + begin, count, buffer);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      source.prefetch(next + begin + i);
      Vec<A> deviation = load(x + i, lanes) - centre;
      return deviation * deviation;
    });
  });
  return {mean, A(1 / __builtin_sqrt(double(squares / A(d) + eps)))};
}

template <class A>
struct ForwardRows {
  Source<A> x;
  Optional<A> weight, bias;
  Target<A> y;
  A *means, *rstds, eps;  // means: nullptr for rmsNorm
  int64_t d;
  bool past_caches;
};
// What stands for absent weights and biases.
template <class A>
struct Defaults {
  Filled<A> ones = Filled<A>(1), zeros = Filled<A>(0);
};

// Row number `row`, whose x is at `from`, with what belongs to it.
template <bool kCentred, class A>
FOVEA_INLINE void forward_row(const ForwardRows<A>& rows, int64_t row, int64_t from, int64_t next,
                              const Defaults<A>& defaults) {
  A x_buffer[kBlock], w_buffer[kBlock], b_buffer[kBlock], out[kBlock];
  const Statistics<A> s = statistics_of<kCentred>(rows.x, from, next, rows.d, rows.eps);
  if (kCentred) rows.means[row] = s.mean;
  rows.rstds[row] = s.rstd;
  const Vec<A> mean = splat<A>(s.mean), rstd = splat<A>(s.rstd);
  const int64_t to = row * rows.d;
  for_blocks(rows.d, [&](int64_t begin, int64_t count) {
    const A *x = rows.x.block(from + begin, count, x_buffer),
            *w = rows.weight.block(begin, count, w_buffer, defaults.ones.value);
    const A* b = rows.bias.block(begin, count, b_buffer, defaults.zeros.value);
    A* y = rows.y.block(to + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<A> scaled = (load(x + i, lanes) - mean) * rstd * load(w + i, lanes);
      if (kCentred) scaled += load(b + i, lanes);
      if (rows.past_caches) store_past_caches(y + i, scaled);
      else store(y + i, scaled, lanes);
    });
    rows.y.commit(y, to + begin, count);
  });
}

template <bool kCentred, class A>
ForwardRows<A> forward_rows(const LayerNormAttrs& attrs, const View& x, const View* parameters, const View* out) {
  const View no_bias{};
  const Target<A> y(out[0]);
  return {Source<A>(x),
          Optional<A>(parameters[0]),
          Optional<A>(kCentred ? parameters[1] : no_bias),
          y,
          kCentred ? out[1].as<A>() : nullptr,
          out[kCentred ? 2 : 1].as<A>(),
          A(attrs.eps),
          row_length(x),
          y.past_caches(x.size(), row_length(x))};
}

template <bool kCentred>
void forward(Call& call, const LayerNormAttrs& attrs) {
  const View& v = call.in[0];
  dispatch_compute(v.dtype, [&]<class A>() {
    const ForwardRows<A> rows = forward_rows<kCentred, A>(attrs, v, &call.in[1], &call.out[0]);
    const Axes axes = leading_axes(v, 1);
    call.parallel.for_range(leading_size(v), row_grain(rows.d), [&](int64_t first, int64_t last) {
      const Defaults<A> defaults;
      for (int64_t row = first; row < last; row++) {
        const int64_t from = offset_of(axes, row), next = row + 1 < last ? offset_of(axes, row + 1) : from;
        forward_row<kCentred>(rows, row, from, next, defaults);
      }
      if (rows.past_caches) fence_stores();
    });
  });
}

// sum = x + residual for one row of d elements. What is rounded to 16 bits is what will be normalised.
template <class A>
FOVEA_INLINE void add_row(const Source<A>& x, int64_t x_at, const Source<A>& residual, int64_t residual_at, int64_t d,
                          const Target<A>& sum, int64_t to) {
  A x_buffer[kBlock], r_buffer[kBlock], out[kBlock];
  for_blocks(d, [&](int64_t begin, int64_t count) {
    const A *a = x.block(x_at + begin, count, x_buffer), *b = residual.block(residual_at + begin, count, r_buffer);
    A* s = sum.block(to + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes)
                              FOVEA_FLAT { store(s + i, load(a + i, lanes) + load(b + i, lanes), lanes); });
    sum.commit(s, to + begin, count);
  });
}

template <bool kCentred>
void add_forward(Call& call, const LayerNormAttrs& attrs) {
  const View &v = call.in[0], &r = call.in[1], &s = call.out[0];
  dispatch_compute(v.dtype, [&]<class A>() {
    const Source<A> x(v), residual(r);
    const Target<A> sum(s);
    const ForwardRows<A> rows = forward_rows<kCentred, A>(attrs, s, &call.in[2], &call.out[1]);
    const Axes x_axes = leading_axes(v, 1), r_axes = leading_axes(r, 1);
    const int64_t d = rows.d;
    call.parallel.for_range(leading_size(v), row_grain(d), [&](int64_t first, int64_t last) {
      const Defaults<A> defaults;
      for (int64_t row = first; row < last; row++) {
        add_row(x, offset_of(x_axes, row), residual, offset_of(r_axes, row), d, sum, row * d);
        forward_row<kCentred>(rows, row, row * d, row * d, defaults);
      }
      if (rows.past_caches) fence_stores();
    });
  });
}

template <class A>
struct BackwardRows {
  Source<A> x, dy;
  Optional<A> weight, dsum;
  Target<A> dx;
  int64_t d;
};

// One row: dx, and its share of dweight and dbias (dbias: nullptr for rmsNorm). forward: y = weight (x - mean) rstd +
// bias
template <bool kCentred, bool kAdds, class A>
void backward_row(const BackwardRows<A>& rows, int64_t at, Statistics<A> s, const Filled<A>& ones, A* dweight,
                  A* dbias) {
  A x_buffer[kBlock], dy_buffer[kBlock], w_buffer[kBlock], sum_buffer[kBlock], out[kBlock];
  const Vec<A> mean = splat<A>(s.mean), rstd = splat<A>(s.rstd);
  // Sums of g (centred only) and of g x'.
  A g_sum = 0;
  A gx_sum = fold_blocks<A>(rows.d, Add(), [&](int64_t begin, int64_t count) {
    const A *x = rows.x.block(at + begin, count, x_buffer), *dy = rows.dy.block(at + begin, count, dy_buffer);
    const A* w = rows.weight.block(begin, count, w_buffer, ones.value);
    if (kCentred)
      g_sum += fold_vectors<A>(
          count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(dy + i, lanes) * load(w + i, lanes); });
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      rows.x.prefetch(at + rows.d + begin + i);  // of the next row
      rows.dy.prefetch(at + rows.d + begin + i);
      return load(dy + i, lanes) * load(w + i, lanes) * ((load(x + i, lanes) - mean) * rstd);
    });
  });
  const Vec<A> g_mean = splat<A>(g_sum / A(rows.d)), gx_mean = splat<A>(gx_sum / A(rows.d));
  for_blocks(rows.d, [&](int64_t begin, int64_t count) {
    const A *x = rows.x.block(at + begin, count, x_buffer), *dy = rows.dy.block(at + begin, count, dy_buffer);
    const A* w = rows.weight.block(begin, count, w_buffer, ones.value);
    const A* dsum = kAdds ? rows.dsum.block(at + begin, count, sum_buffer, nullptr) : nullptr;
    A* dx = rows.dx.block(at + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<A> normal = (load(x + i, lanes) - mean) * rstd, g = load(dy + i, lanes);
      Vec<A> change = rstd * (g * load(w + i, lanes) - g_mean - normal * gx_mean);
      if constexpr (kAdds) change += load(dsum + i, lanes);
      store(dx + i, change, lanes);
      A* to = dweight + begin + i;
      store(to, load(static_cast<const A*>(to), lanes) + g * normal, lanes);
      if constexpr (kCentred) {
        to = dbias + begin + i;
        store(to, load(static_cast<const A*>(to), lanes) + g, lanes);
      }
    });
    rows.dx.commit(dx, at + begin, count);
  });
}

// Parts of the rows, each with its own sums in `partial`, which are added in order: out[k] of [parts][sums][d].
template <class A>
void add_parts(Call& call, const A* partial, int64_t parts, int64_t sums, int64_t d) {
  for (int64_t k = 0; k < sums; k++) {
    const Target<A> target(call.out[1 + k]);
    call.parallel.for_range(d, kBlock, [&](int64_t begin, int64_t end) {
      A total[kBlock];
      for_blocks(end - begin, [&](int64_t offset, int64_t count) {
        for (int64_t i = 0; i < count; i++) total[i] = 0;
        for (int64_t part = 0; part < parts; part++) {
          const A* from = partial + (part * sums + k) * d + begin + offset;
          for (int64_t i = 0; i < count; i++) total[i] += from[i];
        }
        target.put(total, begin + offset, count);
      });
    });
  }
}

// kAdds: there is a gradient of the sum itself, the last input.
template <bool kCentred, bool kAdds>
void backward(Call& call, const NoAttrs&) {
  const View& v = call.in[0];
  const int64_t d = row_length(v), rows = leading_size(v), sums = kCentred ? 2 : 1;
  const int64_t parts = min_of(rows, min_of(kNormParts, ceil_div(rows * d, kGrain / 4)));
  dispatch_compute(v.dtype, [&]<class A>() {
    constexpr int kGradient = kCentred ? 4 : 3;
    const BackwardRows<A> all{Source<A>(v),
                              Source<A>(call.in[kGradient]),
                              Optional<A>(call.in[1]),
                              Optional<A>(kAdds ? call.in[kGradient + 1] : View{}),
                              Target<A>(call.out[0]),
                              d};
    const A *means = kCentred ? call.in[2].as<A>() : nullptr, *rstds = call.in[kCentred ? 3 : 2].as<A>();
    A* partial = call.scratch<A>();
    call.parallel.for_each(parts, [&](int64_t part, int) {
      const Filled<A> ones(1);
      A *dweight = partial + part * sums * d, *dbias = kCentred ? dweight + d : nullptr;
      for (int64_t i = 0; i < sums * d; i++) dweight[i] = 0;
      for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; row++)
        backward_row<kCentred, kAdds>(all, row * d, Statistics<A>{kCentred ? means[row] : A(0), rstds[row]}, ones,
                                      dweight, dbias);
    });
    add_parts(call, static_cast<const A*>(partial), parts, sums, d);
  });
}

}  // namespace

FOVEA_KERNELS(norm, FOVEA_KERNEL("layerNorm", forward<true>, LayerNormAttrs),
              FOVEA_KERNEL("rmsNorm", forward<false>, LayerNormAttrs),
              FOVEA_KERNEL("addLayerNorm", add_forward<true>, LayerNormAttrs),
              FOVEA_KERNEL("addRmsNorm", add_forward<false>, LayerNormAttrs),
              FOVEA_KERNEL("layerNormBackward", (backward<true, false>), NoAttrs),
              FOVEA_KERNEL("rmsNormBackward", (backward<false, false>), NoAttrs),
              FOVEA_KERNEL("addLayerNormBackward", (backward<true, true>), NoAttrs),
              FOVEA_KERNEL("addRmsNormBackward", (backward<false, true>), NoAttrs))

}  // namespace fovea::FOVEA_ISA
