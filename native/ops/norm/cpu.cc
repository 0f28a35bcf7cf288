// layerNorm and rmsNorm over the last axis of d elements:
//
//   layerNorm  x' = (x - mean) rstd, rstd = 1 / sqrt(mean (x - mean)^2 + eps)     y = weight x' + bias
//   rmsNorm    x' = x rstd,          rstd = 1 / sqrt(mean x^2 + eps)              y = weight x'
//
//   with g = weight dy:  dx = rstd (g - mean(g) - x' mean(g x'));  rmsNorm has no mean(g)
//                        dweight = sum over rows of dy x';  dbias = sum over rows of dy
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

template <bool kCentred>
void forward(Call& call, const LayerNormAttrs& attrs) {
  const View& v = call.in[0];
  const int64_t d = row_length(v);
  const View no_bias{};
  dispatch_compute(v.dtype, [&]<class A>() {
    const Source<A> source(v);
    const Optional<A> weight(call.in[1]), bias(kCentred ? call.in[2] : no_bias);
    const Target<A> target(call.out[0]);
    const Axes axes = leading_axes(v, 1);
    const bool past_caches = target.past_caches(v.size(), d);
    A *means = kCentred ? call.out[1].as<A>() : nullptr, *rstds = call.out[kCentred ? 2 : 1].as<A>();
    call.parallel.for_range(leading_size(v), row_grain(d), [&](int64_t first, int64_t last) {
      const Filled<A> ones(1), zeros(0);
      A x_buffer[kBlock], w_buffer[kBlock], b_buffer[kBlock], out[kBlock];
      for (int64_t row = first; row < last; row++) {
        const int64_t from = offset_of(axes, row), next = row + 1 < last ? offset_of(axes, row + 1) : from,
                      to = row * d;
        const Statistics<A> s = statistics_of<kCentred>(source, from, next, d, A(attrs.eps));
        if (kCentred) means[row] = s.mean;
        rstds[row] = s.rstd;
        const Vec<A> mean = splat<A>(s.mean), rstd = splat<A>(s.rstd);
        for_blocks(d, [&](int64_t begin, int64_t count) {
          const A *x = source.block(from + begin, count, x_buffer),
                  *w = weight.block(begin, count, w_buffer, ones.value);
          const A* b = bias.block(begin, count, b_buffer, zeros.value);
          A* y = target.block(to + begin, out);
          for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            Vec<A> scaled = (load(x + i, lanes) - mean) * rstd * load(w + i, lanes);
            if (kCentred) scaled += load(b + i, lanes);
            if (past_caches) store_past_caches(y + i, scaled);
            else store(y + i, scaled, lanes);
          });
          target.commit(y, to + begin, count);
        });
      }
      if (past_caches) fence_stores();
    });
  });
}

template <class A>
struct BackwardRows {
  Source<A> x, dy;
  Optional<A> weight;
  Target<A> dx;
  int64_t d;
};

// One row: dx, and its share of dweight and dbias (dbias: nullptr for rmsNorm). forward: y = weight (x - mean) rstd +
// bias
template <bool kCentred, class A>
void backward_row(const BackwardRows<A>& rows, int64_t at, Statistics<A> s, const Filled<A>& ones, A* dweight,
                  A* dbias) {
  A x_buffer[kBlock], dy_buffer[kBlock], w_buffer[kBlock], out[kBlock];
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
    A* dx = rows.dx.block(at + begin, out);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<A> normal = (load(x + i, lanes) - mean) * rstd, g = load(dy + i, lanes);
      store(dx + i, rstd * (g * load(w + i, lanes) - g_mean - normal * gx_mean), lanes);
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

template <bool kCentred>
void backward(Call& call, const NoAttrs&) {
  const View& v = call.in[0];
  const int64_t d = row_length(v), rows = leading_size(v), sums = kCentred ? 2 : 1;
  const int64_t parts = min_of(rows, min_of(kNormParts, ceil_div(rows * d, kGrain / 4)));
  dispatch_compute(v.dtype, [&]<class A>() {
    const BackwardRows<A> all{Source<A>(v), Source<A>(call.in[kCentred ? 4 : 3]), Optional<A>(call.in[1]),
                              Target<A>(call.out[0]), d};
    const A *means = kCentred ? call.in[2].as<A>() : nullptr, *rstds = call.in[kCentred ? 3 : 2].as<A>();
    A* partial = call.scratch<A>();
    call.parallel.for_each(parts, [&](int64_t part, int) {
      const Filled<A> ones(1);
      A *dweight = partial + part * sums * d, *dbias = kCentred ? dweight + d : nullptr;
      for (int64_t i = 0; i < sums * d; i++) dweight[i] = 0;
      for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; row++)
        backward_row<kCentred>(all, row * d, Statistics<A>{kCentred ? means[row] : A(0), rstds[row]}, ones, dweight,
                               dbias);
    });
    add_parts(call, static_cast<const A*>(partial), parts, sums, d);
  });
}

}  // namespace

FOVEA_KERNELS(norm, FOVEA_KERNEL("layerNorm", forward<true>, LayerNormAttrs),
              FOVEA_KERNEL("rmsNorm", forward<false>, LayerNormAttrs),
              FOVEA_KERNEL("layerNormBackward", backward<true>, NoAttrs),
              FOVEA_KERNEL("rmsNormBackward", backward<false>, NoAttrs))

}  // namespace fovea::FOVEA_ISA
