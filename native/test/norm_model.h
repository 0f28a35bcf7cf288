// layerNorm and rmsNorm, forward and backward, against the formulas in float64, on the CPU and on emulated devices: all
// dtypes, with and without weight and bias, a mean far from zero.
#pragma once
#include "ops/norm/attrs.h"
#include "test/harness.h"

namespace fovea::test {

constexpr double kNormEps = 1e-5;

struct NormStatistics {
  double mean, rstd;
  NormStatistics(const Tensor& x, int64_t row, bool centred) : mean(0) {
    int64_t d = x.view.dim(-1);
    double squares = 0;
    for (int64_t i = 0; centred && i < d; i++) mean += x.at(row * d + i) / double(d);
    for (int64_t i = 0; i < d; i++) squares += (x.at(row * d + i) - mean) * (x.at(row * d + i) - mean);
    rstd = 1 / std::sqrt(squares / double(d) + kNormEps);
  }
};
inline double norm_tolerance(Dtype dtype, double value, double scale) {
  double eps = dtype == Dtype::f64 ? 1e-12 : 4e-6;
  return eps * scale + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

template <class Run>
void check_norm_of(const Run& run, Dtype dtype, bool centred, Tensor& x, Tensor* weight, Tensor* bias) {
  int64_t d = x.view.dim(-1), rows = x.size() / d;
  std::vector<int64_t> shape(x.view.shape, x.view.shape + x.view.rank), leading(shape.begin(), shape.end() - 1);
  Tensor y(dtype, shape), mean(accumulator_of(dtype), leading), rstd(accumulator_of(dtype), leading);
  if (centred) run("layerNorm", LayerNormAttrs{kNormEps}, {&x, weight, bias}, {&y, &mean, &rstd});
  else run("rmsNorm", LayerNormAttrs{kNormEps}, {&x, weight}, {&y, &rstd});
  for (int64_t row = 0; row < rows; row++) {
    NormStatistics s(x, row, centred);
    if (centred) FOVEA_CHECK_CLOSE(mean.at(row), s.mean, 1e-6 * (2 + std::fabs(s.mean)));
    FOVEA_CHECK_CLOSE(rstd.at(row), s.rstd, 1e-4 * s.rstd);
    for (int64_t i = 0; i < d; i++) {
      double expected = (x.at(row * d + i) - s.mean) * s.rstd * (weight ? weight->at(i) : 1) + (bias ? bias->at(i) : 0);
      FOVEA_CHECK_CLOSE(y.at(row * d + i), expected, norm_tolerance(dtype, expected, 4 + std::fabs(s.mean) * s.rstd));
    }
  }
}
template <class Run>
void check_norm(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, d] : shapes) {
      Tensor weight = Tensor::random(dtype, {d}, 1), bias = Tensor::random(dtype, {d}, 2),
             x = Tensor::random(dtype, {rows, d}, 3, 3, 7);
      Tensor strided = Tensor::strided(dtype, {2, rows, d}, {1, 0, 2});
      strided.fill_random(4);
      for (bool centred : {true, false})
        for (Tensor* input : {&x, &strided}) {
          check_norm_of(run, dtype, centred, *input, &weight, centred ? &bias : nullptr);
          check_norm_of(run, dtype, centred, *input, nullptr, nullptr);
          if (centred) check_norm_of(run, dtype, centred, *input, nullptr, &bias);
        }
    }
}

// The gradients of d columns from what the forward saved.
struct NormGradients {
  Tensor dx, dweight, dbias;
  NormGradients(Dtype dtype, int64_t rows, int64_t d) : dx(dtype, {rows, d}), dweight(dtype, {d}), dbias(dtype, {d}) {}

  void check(bool centred, const Tensor& x, const Tensor* weight, const Tensor& mean, const Tensor& rstd,
             const Tensor& dy) const {
    const Dtype dtype = x.dtype();
    const int64_t rows = x.view.shape[0], d = x.view.shape[1];
    std::vector<double> weight_sum(size_t(d), 0), bias_sum(size_t(d), 0);
    for (int64_t row = 0; row < rows; row++) {
      double m = centred ? mean.at(row) : 0, r = rstd.at(row), g_mean = 0, gx_mean = 0;
      auto normal = [&](int64_t i) { return (x.at(row * d + i) - m) * r; };
      auto g = [&](int64_t i) { return dy.at(row * d + i) * (weight ? weight->at(i) : 1); };
      for (int64_t i = 0; i < d; i++) {
        g_mean += centred ? g(i) / double(d) : 0, gx_mean += g(i) * normal(i) / double(d);
        weight_sum[size_t(i)] += dy.at(row * d + i) * normal(i), bias_sum[size_t(i)] += dy.at(row * d + i);
      }
      for (int64_t i = 0; i < d; i++) {
        double expected = r * (g(i) - g_mean - normal(i) * gx_mean);
        FOVEA_CHECK_CLOSE(dx.at(row * d + i), expected,
                          norm_tolerance(dtype, expected, 4 * r * (1 + std::fabs(normal(i)))));
      }
    }
    for (int64_t i = 0; i < d; i++) {
      double w = weight_sum[size_t(i)], b = bias_sum[size_t(i)];
      FOVEA_CHECK_CLOSE(dweight.at(i), w, norm_tolerance(dtype, w, double(rows)));
      if (centred) FOVEA_CHECK_CLOSE(dbias.at(i), b, norm_tolerance(dtype, b, double(rows)));
    }
  }
};
template <class Run>
void check_norm_backward(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, d] : shapes)
      for (bool centred : {true, false})
        for (bool with_weight : {true, false}) {
          Dtype acc = accumulator_of(dtype);
          Tensor x = Tensor::random(dtype, {rows, d}, 5), weight = Tensor::random(dtype, {d}, 6),
                 dy = Tensor::random(dtype, {rows, d}, 7), mean(acc, {rows}), rstd(acc, {rows});
          for (int64_t row = 0; row < rows; row++) {
            NormStatistics s(x, row, centred);
            mean.set(row, s.mean), rstd.set(row, s.rstd);
          }
          Tensor* w = with_weight ? &weight : nullptr;
          NormGradients out(dtype, rows, d);
          auto& [dx, dweight, dbias] = out;
          if (centred) run("layerNormBackward", NoAttrs{}, {&x, w, &mean, &rstd, &dy}, {&dx, &dweight, &dbias});
          else run("rmsNormBackward", NoAttrs{}, {&x, w, &rstd, &dy}, {&dx, &dweight});
          out.check(centred, x, w, mean, rstd, dy);
        }
}

// addLayerNorm and addRmsNorm beside the norms of their sums, of rows that are not dense, too.
template <class Run>
void check_add_norm_of(const Run& run, bool centred, Tensor& x, Tensor& residual, Tensor* weight) {
  const Dtype dtype = x.dtype(), acc = accumulator_of(dtype);
  const int64_t rows = x.view.shape[0], d = x.view.shape[1];
  Tensor sum(dtype, {rows, d}), y(dtype, {rows, d}), mean(acc, {rows}), rstd(acc, {rows}), plain(dtype, {rows, d}),
      dy = Tensor::random(dtype, {rows, d}, 11), dsum = Tensor::random(dtype, {rows, d}, 12);
  NormGradients out(dtype, rows, d), with(dtype, rows, d);
  const LayerNormAttrs eps{kNormEps};
  if (centred) {
    run("addLayerNorm", eps, {&x, &residual, weight, nullptr}, {&sum, &y, &mean, &rstd});
    run("layerNorm", eps, {&sum, weight, nullptr}, {&plain, &mean, &rstd});
    run("layerNormBackward", NoAttrs{}, {&sum, weight, &mean, &rstd, &dy}, {&out.dx, &out.dweight, &out.dbias});
    run("addLayerNormBackward", NoAttrs{}, {&sum, weight, &mean, &rstd, &dy, &dsum},
        {&with.dx, &with.dweight, &with.dbias});
  } else {
    run("addRmsNorm", eps, {&x, &residual, weight}, {&sum, &y, &rstd});
    run("rmsNorm", eps, {&sum, weight}, {&plain, &rstd});
    run("rmsNormBackward", NoAttrs{}, {&sum, weight, &rstd, &dy}, {&out.dx, &out.dweight});
    run("addRmsNormBackward", NoAttrs{}, {&sum, weight, &rstd, &dy, &dsum}, {&with.dx, &with.dweight});
  }
  for (int64_t i = 0; i < d; i++) {
    const double expected = out.dweight.at(i);
    FOVEA_CHECK_CLOSE(with.dweight.at(i), expected, norm_tolerance(dtype, expected, double(rows)));
  }
  for (int64_t i = 0; i < rows * d; i++) {
    const double expected = x.at(i) + residual.at(i), dx = out.dx.at(i) + dsum.at(i);
    FOVEA_CHECK_CLOSE(sum.at(i), expected, ulp(dtype, expected));
    FOVEA_CHECK_CLOSE(y.at(i), plain.at(i), norm_tolerance(dtype, plain.at(i), 4));
    FOVEA_CHECK_CLOSE(with.dx.at(i), dx, norm_tolerance(dtype, out.dx.at(i), 4 * rstd.at(i / d)) + ulp(dtype, dx));
  }
}
template <class Run>
void check_add_norm(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, d] : shapes) {
      Tensor x = Tensor::random(dtype, {rows, d}, 5), residual = Tensor::random(dtype, {rows, d}, 6),
             weight = Tensor::random(dtype, {d}, 7), gaps(dtype, {rows, d + 3});
      gaps.view.shape[1] = d, gaps.fill_random(8);
      for (bool centred : {true, false}) {
        check_add_norm_of(run, centred, x, residual, &weight);
        check_add_norm_of(run, centred, x, gaps, nullptr);
        check_add_norm_of(run, centred, gaps, x, &weight);
      }
    }
}

// No rows at all: what the weight gets is 0.
template <class Run>
void check_norm_backward_without_rows(const Run& run, int64_t d) {
  Tensor none(Dtype::f32, {0, d}), no_rstd(Dtype::f32, {0}), no_dx(Dtype::f32, {0, d}), dweight(Dtype::f32, {d});
  run("rmsNormBackward", NoAttrs{}, {&none, nullptr, &no_rstd, &none}, {&no_dx, &dweight});
  for (int64_t i = 0; i < d; i++) FOVEA_CHECK_CLOSE(dweight.at(i), 0, 0);
}

}  // namespace fovea::test
