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
#include "ops/norm/channels.h"
#include "ops/norm/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class A>
struct Statistics {
  A mean, rstd;
};

// What stands for an absent weight (1) or bias (0).
template <class A>
struct Filled {
  Buffer<A> value;
  explicit Filled(A x) {
    for (int64_t i = 0; i < kBlock; i++) value[i] = x;
  }
};
// A row that may not be there, like weight and bias.
template <class A>
class OptionalRow {
 public:
  OptionalRow(const Source<A>& source, int64_t d, A otherwise)
      : present_(source.present()), row_(source, 0, present_ ? d : 0), otherwise_(otherwise) {}
  FOVEA_INLINE const A* block(int64_t begin, int64_t count) {
    return present_ ? row_.block(begin, count) : otherwise_.value;
  }

 private:
  bool present_;
  KeptRow<A> row_;
  Filled<A> otherwise_;
};

// ask(i) asks for element i of the next row meanwhile, since memory would idle during all passes but the first.
template <bool kCentred, class A, class Ask>
FOVEA_INLINE Statistics<A> statistics_of(KeptRow<A>& row, int64_t d, A eps, Ask ask) {
  A mean = 0;
  if constexpr (kCentred) {
    mean = fold_blocks<A>(d, Add(),
                          [&](int64_t begin, int64_t count) {
                            const A* x = row.block(begin, count);
                            return fold_vectors<A>(
                                count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
                          }) /
           A(d);
  }
  const Vec<A> centre = splat<A>(mean);
  A squares = fold_blocks<A>(d, Add(), [&](int64_t begin, int64_t count) {
    const A* x = row.block(begin, count);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      ask(begin + i);
      Vec<A> deviation = load(x + i, lanes) - centre;
      return deviation * deviation;
    });
  });
  return {mean, A(1 / __builtin_sqrt(double(squares / A(d) + eps)))};
}

template <class A>
struct ForwardRows {
  Source<A> x, weight, bias;
  Target<A> y;
  A *means, *rstds, eps;  // means: nullptr for rmsNorm
  int64_t d;
};
// A thread's weight and bias.
template <class A>
struct Parameters {
  OptionalRow<A> weight, bias;
  explicit Parameters(const ForwardRows<A>& rows) : weight(rows.weight, rows.d, A(1)), bias(rows.bias, rows.d, A(0)) {}
};

// Row number `row`, whose x is kept, with what belongs to it.
template <bool kCentred, class A, class Ask>
FOVEA_INLINE void forward_row(const ForwardRows<A>& rows, int64_t row, KeptRow<A>& kept, Parameters<A>& parameters,
                              Ask ask) {
  const Statistics<A> s = statistics_of<kCentred>(kept, rows.d, rows.eps, ask);
  if (kCentred) rows.means[row] = s.mean;
  rows.rstds[row] = s.rstd;
  const Vec<A> mean = splat<A>(s.mean), rstd = splat<A>(s.rstd);
  const int64_t to = row * rows.d;
  for_blocks(rows.d, [&](int64_t begin, int64_t count) {
    const A *x = kept.block(begin, count), *w = parameters.weight.block(begin, count);
    const A* b = parameters.bias.block(begin, count);
    rows.y.write(to + begin, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<A> scaled = (load(x + i, lanes) - mean) * rstd * load(w + i, lanes);
      if (kCentred) scaled += load(b + i, lanes);
      return scaled;
    });
  });
}

template <bool kCentred, class A>
ForwardRows<A> forward_rows(const LayerNormAttrs& attrs, const View& x, const View* parameters, const View* out) {
  const int64_t d = row_length(x);
  return {Source<A>(x),
          Source<A>(parameters[0]),
          Source<A>(kCentred ? parameters[1] : View{}),
          Target<A>(out[0], d),
          kCentred ? out[1].as<A>() : nullptr,
          out[kCentred ? 2 : 1].as<A>(),
          A(attrs.eps),
          d};
}

template <bool kCentred>
void forward(Call& call, const LayerNormAttrs& attrs) {
  const View& v = call.in[0];
  dispatch_compute(v.dtype, [&]<class A>() {
    const ForwardRows<A> rows = forward_rows<kCentred, A>(attrs, v, &call.in[1], &call.out[0]);
    const Axes axes = leading_axes(v, 1);
    call.parallel.for_range(leading_size(v), row_grain(rows.d), [&](int64_t first, int64_t last) {
      Parameters<A> parameters(rows);
      for (int64_t row = first; row < last; row++) {
        const int64_t from = offset_of(axes, row), next = row + 1 < last ? offset_of(axes, row + 1) : from;
        KeptRow<A> kept(rows.x, from, rows.d);
        forward_row<kCentred>(rows, row, kept, parameters, [&](int64_t i) FOVEA_FLAT { rows.x.prefetch(next + i); });
      }
      rows.y.fence();
    });
  });
}

// sum = x + residual for one row of d elements, into `kept`, too, if there is room. What is rounded to 16 bits is what
// will be normalised.
template <class A>
struct AddRows {
  Source<A> x, residual;
  Target<A> sum;
  FOVEA_INLINE void add(int64_t x_at, int64_t residual_at, int64_t to, int64_t d, A* kept) const {
    Buffer<A> x_buffer, r_buffer;
    for_blocks(d, [&](int64_t begin, int64_t count) {
      const A *a = x.block(x_at + begin, count, x_buffer), *b = residual.block(residual_at + begin, count, r_buffer);
      auto added = [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(a + i, lanes) + load(b + i, lanes); };
      if (kept) sum.write_and_keep(to + begin, count, kept + begin, added);
      else sum.write(to + begin, count, added);
    });
  }
};

template <bool kCentred>
void add_forward(Call& call, const LayerNormAttrs& attrs) {
  const View &v = call.in[0], &r = call.in[1], &s = call.out[0];
  dispatch_compute(v.dtype, [&]<class A>() {
    const ForwardRows<A> rows = forward_rows<kCentred, A>(attrs, s, &call.in[2], &call.out[1]);
    const int64_t d = rows.d;
    // Longer rows are read again from where they were written.
    const AddRows<A> sums{Source<A>(v), Source<A>(r), d <= kKept<A> ? Target<A>(s, d) : Target<A>(s)};
    const Axes x_axes = leading_axes(v, 1), r_axes = leading_axes(r, 1);
    call.parallel.for_range(leading_size(v), row_grain(d), [&](int64_t first, int64_t last) {
      Parameters<A> parameters(rows);
      for (int64_t row = first; row < last; row++) {
        const int64_t x_at = offset_of(x_axes, row), r_at = offset_of(r_axes, row), to = row * d,
                      next = min_of(row + 1, last - 1), x_next = offset_of(x_axes, next),
                      r_next = offset_of(r_axes, next);
        KeptRow<A> kept(rows.x, to, d, [&](A* buffer) FOVEA_FLAT { sums.add(x_at, r_at, to, d, buffer); });
        forward_row<kCentred>(rows, row, kept, parameters, [&](int64_t i) FOVEA_FLAT {
          sums.x.prefetch(x_next + i), sums.residual.prefetch(r_next + i);
        });
      }
      sums.sum.fence(), rows.y.fence();
    });
  });
}

template <class A>
struct BackwardRows {
  Source<A> x, dy, weight, dsum;
  Target<A> dx;
  int64_t d;
};

// One row: dx, and its share of dweight and dbias (dbias: nullptr for rmsNorm). forward: y = weight (x - mean) rstd +
// bias
template <bool kCentred, bool kAdds, class A>
void backward_row(const BackwardRows<A>& rows, int64_t at, Statistics<A> s, OptionalRow<A>& weight, A* dweight,
                  A* dbias) {
  Buffer<A> sum_buffer;
  KeptRow<A> x_row(rows.x, at, rows.d), dy_row(rows.dy, at, rows.d);
  const Vec<A> mean = splat<A>(s.mean), rstd = splat<A>(s.rstd);
  // Sums of g (centred only) and of g x'.
  A g_sum = 0;
  A gx_sum = fold_blocks<A>(rows.d, Add(), [&](int64_t begin, int64_t count) {
    const A *x = x_row.block(begin, count), *dy = dy_row.block(begin, count), *w = weight.block(begin, count);
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
    const A *x = x_row.block(begin, count), *dy = dy_row.block(begin, count), *w = weight.block(begin, count);
    const A* dsum = kAdds ? rows.dsum.block(at + begin, count, sum_buffer) : nullptr;
    rows.dx.write(at + begin, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<A> normal = (load(x + i, lanes) - mean) * rstd, g = load(dy + i, lanes);
      Vec<A> change = rstd * (g * load(w + i, lanes) - g_mean - normal * gx_mean);
      if constexpr (kAdds) change += load(dsum + i, lanes);
      A* to = dweight + begin + i;
      store(to, load(static_cast<const A*>(to), lanes) + g * normal, lanes);
      if constexpr (kCentred) {
        to = dbias + begin + i;
        store(to, load(static_cast<const A*>(to), lanes) + g, lanes);
      }
      return change;
    });
  });
}

// Parts of the rows, each with its own sums in `partial`, which are added in order: out[k] of [parts][sums][d].
template <class A>
void add_parts(Call& call, const A* partial, int64_t parts, int64_t sums, int64_t d) {
  for (int64_t k = 0; k < sums; k++) {
    const Target<A> target(call.out[1 + k]);
    call.parallel.for_range(d, kBlock, [&](int64_t begin, int64_t end) {
      Buffer<A> total;
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
                              Source<A>(call.in[1]),
                              Source<A>(kAdds ? call.in[kGradient + 1] : View{}),
                              Target<A>(call.out[0], d),
                              d};
    const A *means = kCentred ? call.in[2].as<A>() : nullptr, *rstds = call.in[kCentred ? 3 : 2].as<A>();
    A* partial = call.scratch<A>();
    call.parallel.for_each(parts, [&](int64_t part, int) {
      OptionalRow<A> weight(all.weight, d, A(1));
      A *dweight = partial + part * sums * d, *dbias = kCentred ? dweight + d : nullptr;
      for (int64_t i = 0; i < sums * d; i++) dweight[i] = 0;
      for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; row++)
        backward_row<kCentred, kAdds>(all, row * d, Statistics<A>{kCentred ? means[row] : A(0), rstds[row]}, weight,
                                      dweight, dbias);
      all.dx.fence();
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
              FOVEA_KERNEL("addRmsNormBackward", (backward<false, true>), NoAttrs),
              FOVEA_KERNEL("channelNorm", channel_norm, ChannelNormAttrs),
              FOVEA_KERNEL("channelNormBackward", channel_norm_backward, ChannelNormAttrs))

}  // namespace fovea::FOVEA_ISA
