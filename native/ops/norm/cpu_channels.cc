// channelNorm of x [n, c, s]: batch normalisation, whose mean is that of a channel of all images, and group
// normalisation, whose mean is that of some channels of one image.
//
//   x' = (x - mean) rstd, rstd = 1 / sqrt(mean (x - mean)^2 + eps)     y = weight[c] x' + bias[c]
//
//   with g = weight[c] dy:  dx = rstd (g - mean(g) - x' mean(g x'))
//                           dweight[c] = sum of dy x';  dbias[c] = sum of dy
//
// What is summed is summed over the places of each channel of each image, a segment, first; the sums of segments are
// then put together in order. For variances that is the formula of Chan et al. 1979 ("Updating formulae and a pairwise
// algorithm for computing sample variances"): of m segments of s elements each, with means m_j,
//
//   sum (x - mean)^2 = sum over j of sum (x - m_j)^2 + s sum over j of (m_j - mean)^2
#include "cpu/rows.h"
#include "ops/norm/channels.h"

namespace fovea::FOVEA_ISA {
namespace {

// Segment i is channel i % channels of image i / channels. Those that share a mean are first, first + step, ...
struct Segments {
  int64_t images, channels, length, groups;

  FOVEA_INLINE int64_t count() const { return images * channels; }
  FOVEA_INLINE int64_t rows() const { return groups ? images * groups : channels; }
  FOVEA_INLINE int64_t per_row() const { return groups ? channels / groups : images; }
  FOVEA_INLINE int64_t first(int64_t row) const { return groups ? row * per_row() : row; }
  FOVEA_INLINE int64_t step() const { return groups ? 1 : channels; }
  FOVEA_INLINE int64_t row_of(int64_t segment) const { return groups ? segment / per_row() : segment % channels; }
};
Segments segments_of(const Call& call, int64_t groups, int64_t rows) {
  const View& x = call.in[0];
  const Segments s{x.shape[0], x.shape[1], x.shape[2], groups};
  if (groups < 0 || (groups > 0 && s.channels % groups != 0) || rows != s.rows())
    call.fail("FOVEA_SHAPE", "%lld channels in %lld groups of %lld images do not have %lld means",
              static_cast<long long>(s.channels), static_cast<long long>(groups), static_cast<long long>(s.images),
              static_cast<long long>(rows));
  return s;
}

// body(segment, channel, row) for all segments.
template <class Body>
void for_segments(Call& call, const Segments& s, Body body) {
  call.parallel.for_range(s.count(), row_grain(s.length), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) body(i, i % s.channels, s.row_of(i));
  });
}

template <class A>
void write_moments(const Source<A>& x, int64_t at, int64_t n, A* mean, A* squares) {
  KeptRow<A> kept(x, at, n);
  *mean = fold_blocks<A>(n, Add(),
                         [&](int64_t begin, int64_t count) {
                           const A* from = kept.block(begin, count);
                           return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
                             return load(from + i, lanes);
                           });
                         }) /
          A(n);
  const Vec<A> centre = splat<A>(*mean);
  *squares = fold_blocks<A>(n, Add(), [&](int64_t begin, int64_t count) {
    const A* from = kept.block(begin, count);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      const Vec<A> deviation = load(from + i, lanes) - centre;
      return deviation * deviation;
    });
  });
}
template <class A>
void join_moments(const Segments& s, const A* means, const A* squares, A* mean, A* variance) {
  const int64_t count = s.per_row();
  for (int64_t row = 0; row < s.rows(); row++) {
    double sum = 0, total = 0;
    for (int64_t j = 0; j < count; j++) sum += double(means[s.first(row) + j * s.step()]);
    const double middle = sum / double(count);
    for (int64_t j = 0; j < count; j++) {
      const int64_t segment = s.first(row) + j * s.step();
      const double apart = double(means[segment]) - middle;
      total += double(squares[segment]) + double(s.length) * apart * apart;
    }
    mean[row] = A(middle), variance[row] = A(total / double(count * s.length));
  }
}
template <class A>
FOVEA_INLINE A rstd_of(A variance, double eps) {
  return A(1 / __builtin_sqrt(double(variance) + eps));
}

}  // namespace

void channel_norm(Call& call, const ChannelNormAttrs& attrs) {
  const View &x = call.in[0], &weight = call.in[1], &bias = call.in[2];
  const Segments s = segments_of(call, attrs.groups, attrs.rows);
  dispatch_compute(x.dtype, [&]<class A>() {
    const Source<A> from(x);
    const Target<A> to(call.out[0], s.length);
    A *means = call.scratch<A>(), *squares = means + s.count();
    A *mean = call.out[1].as<A>(), *variance = call.out[2].as<A>();
    for_segments(call, s, [&](int64_t segment, int64_t, int64_t) {
      write_moments(from, segment * s.length, s.length, means + segment, squares + segment);
    });
    join_moments(s, means, squares, mean, variance);
    for_segments(call, s, [&](int64_t segment, int64_t channel, int64_t row) {
      Buffer<A> buffer;
      const Vec<A> centre = splat<A>(mean[row]),
                   scale = splat<A>(rstd_of(variance[row], attrs.eps) *
                                    (weight.present() ? weight.as<A>()[channel] : A(1))),
                   shift = splat<A>(bias.present() ? bias.as<A>()[channel] : A(0));
      for_blocks(s.length, [&](int64_t begin, int64_t count) {
        const int64_t at = segment * s.length + begin;
        const A* in = from.block(at, count, buffer);
        to.write(at, count,
                 [&](int64_t i, int64_t lanes) FOVEA_FLAT { return (load(in + i, lanes) - centre) * scale + shift; });
      });
      to.fence();
    });
  });
}

namespace {

// For each segment, the sums of dy and of dy x'.
template <class A>
void write_sums(const Source<A>& x, const Source<A>& dy, int64_t at, int64_t n, A mean, A rstd, A* plain, A* scaled) {
  Buffer<A> x_buffer, dy_buffer;
  const Vec<A> centre = splat<A>(mean), scale = splat<A>(rstd);
  A sum = 0;
  *scaled = fold_blocks<A>(n, Add(), [&](int64_t begin, int64_t count) {
    const A *a = x.block(at + begin, count, x_buffer), *b = dy.block(at + begin, count, dy_buffer);
    sum += fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(b + i, lanes); });
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      return load(b + i, lanes) * ((load(a + i, lanes) - centre) * scale);
    });
  });
  *plain = sum;
}
// Of each row, mean(g) and mean(g x'); of each channel, the sums over images.
template <class A>
void join_sums(const Segments& s, const A* plain, const A* scaled, const A* weight, A* g, A* gx, A* dweight, A* dbias) {
  const double count = double(s.per_row() * s.length);
  for (int64_t row = 0; row < s.rows(); row++) {
    double sums[2] = {0, 0};
    for (int64_t j = 0; j < s.per_row(); j++) {
      const int64_t segment = s.first(row) + j * s.step();
      const double w = weight ? double(weight[segment % s.channels]) : 1;
      sums[0] += w * double(plain[segment]), sums[1] += w * double(scaled[segment]);
    }
    g[row] = A(sums[0] / count), gx[row] = A(sums[1] / count);
  }
  for (int64_t channel = 0; channel < s.channels; channel++) {
    double sums[2] = {0, 0};
    for (int64_t segment = channel; segment < s.count(); segment += s.channels)
      sums[0] += double(plain[segment]), sums[1] += double(scaled[segment]);
    dbias[channel] = A(sums[0]), dweight[channel] = A(sums[1]);
  }
}

}  // namespace

// forward: y = weight[c] (x - mean) rstd + bias[c]
void channel_norm_backward(Call& call, const ChannelNormAttrs& attrs) {
  const View &x = call.in[0], &weights = call.in[1], &dy = call.in[4];
  const Segments s = segments_of(call, attrs.groups, call.in[2].dim(0));
  dispatch_compute(x.dtype, [&]<class A>() {
    const Source<A> values(x), gradients(dy);
    const Target<A> to(call.out[0], s.length);
    const A *mean = call.in[2].as<A>(), *variance = call.in[3].as<A>(),
            *weight = weights.present() ? weights.as<A>() : nullptr;
    A *plain = call.scratch<A>(), *scaled = plain + s.count(), *g = scaled + s.count(), *gx = g + s.count();
    for_segments(call, s, [&](int64_t segment, int64_t, int64_t row) {
      write_sums(values, gradients, segment * s.length, s.length, mean[row], rstd_of(variance[row], attrs.eps),
                 plain + segment, scaled + segment);
    });
    join_sums(s, plain, scaled, weight, g, gx, call.out[1].as<A>(), call.out[2].as<A>());
    for_segments(call, s, [&](int64_t segment, int64_t channel, int64_t row) {
      Buffer<A> x_buffer, dy_buffer;
      const Vec<A> centre = splat<A>(mean[row]), scale = splat<A>(rstd_of(variance[row], attrs.eps)),
                   w = splat<A>(weight ? weight[channel] : A(1)), g_mean = splat<A>(g[row]),
                   gx_mean = splat<A>(gx[row]);
      for_blocks(s.length, [&](int64_t begin, int64_t count) {
        const int64_t at = segment * s.length + begin;
        const A *a = values.block(at, count, x_buffer), *b = gradients.block(at, count, dy_buffer);
        to.write(at, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
          const Vec<A> normal = (load(a + i, lanes) - centre) * scale;
          return scale * (load(b + i, lanes) * w - g_mean - normal * gx_mean);
        });
      });
      to.fence();
    });
  });
}

}  // namespace fovea::FOVEA_ISA
