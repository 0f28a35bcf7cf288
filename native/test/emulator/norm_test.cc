// layerNorm and rmsNorm on the emulated device, forward and backward, against a float64 model: all dtypes, with and
// without weight and bias, rows of a few elements and of more than a block keeps, a mean far from zero.
#include "ops/norm/attrs.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

const std::pair<int64_t, int64_t> kShapes[] = {{1, 1},    {3, 5},    {7, 64},   {1030, 8},
                                               {130, 33}, {3, 3073}, {40, 768}, {2, 4200}};
constexpr double kEps = 1e-5;

struct Statistics {
  double mean, rstd;
};
Statistics statistics_of(const Tensor& x, int64_t row, bool centred) {
  int64_t d = x.view.dim(-1);
  double mean = 0, squares = 0;
  for (int64_t i = 0; centred && i < d; i++) mean += x.at(row * d + i) / double(d);
  for (int64_t i = 0; i < d; i++) squares += (x.at(row * d + i) - mean) * (x.at(row * d + i) - mean);
  return {mean, 1 / std::sqrt(squares / double(d) + kEps)};
}
double tolerance(Dtype dtype, double value, double scale) {
  double eps = dtype == Dtype::f64 ? 1e-12 : 4e-6;
  return eps * scale + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

void check_forward(Dtype dtype, bool centred, Tensor& x, Tensor* weight, Tensor* bias) {
  int64_t d = x.view.dim(-1), rows = x.size() / d;
  std::vector<int64_t> shape(x.view.shape, x.view.shape + x.view.rank), leading(shape.begin(), shape.end() - 1);
  Tensor y(dtype, shape), mean(accumulator_of(dtype), leading), rstd(accumulator_of(dtype), leading);
  if (centred) run_cuda("layerNorm", LayerNormAttrs{kEps}, {&x, weight, bias}, {&y, &mean, &rstd});
  else run_cuda("rmsNorm", LayerNormAttrs{kEps}, {&x, weight}, {&y, &rstd});
  for (int64_t row = 0; row < rows; row++) {
    Statistics s = statistics_of(x, row, centred);
    if (centred) FOVEA_CHECK_CLOSE(mean.at(row), s.mean, 1e-6 * (2 + std::fabs(s.mean)));
    FOVEA_CHECK_CLOSE(rstd.at(row), s.rstd, 1e-4 * s.rstd);
    for (int64_t i = 0; i < d; i++) {
      double expected = (x.at(row * d + i) - s.mean) * s.rstd * (weight ? weight->at(i) : 1) + (bias ? bias->at(i) : 0);
      FOVEA_CHECK_CLOSE(y.at(row * d + i), expected, tolerance(dtype, expected, 4 + std::fabs(s.mean) * s.rstd));
    }
  }
}

}  // namespace

FOVEA_TEST(norm_forward) {
  for (Dtype dtype : kFloats)
    for (auto [rows, d] : kShapes) {
      Tensor weight = Tensor::random(dtype, {d}, 1), bias = Tensor::random(dtype, {d}, 2),
             x = Tensor::random(dtype, {rows, d}, 3, 3, 7);
      Tensor strided = Tensor::strided(dtype, {2, rows, d}, {1, 0, 2});
      strided.fill_random(4);
      for (bool centred : {true, false})
        for (Tensor* input : {&x, &strided}) {
          check_forward(dtype, centred, *input, &weight, centred ? &bias : nullptr);
          check_forward(dtype, centred, *input, nullptr, nullptr);
          if (centred) check_forward(dtype, centred, *input, nullptr, &bias);
        }
    }
}

FOVEA_TEST(norm_backward) {
  // Several rows to a block with more than a warp each; rows of which not all fits in shared memory or registers.
  std::vector<std::pair<int64_t, int64_t>> shapes(std::begin(kShapes), std::end(kShapes));
  shapes.push_back({19, 2048}), shapes.push_back({6, 20480});
  for (Dtype dtype : kFloats)
    for (auto [rows, d] : shapes)
      for (bool centred : {true, false})
        for (bool with_weight : {true, false}) {
          Dtype acc = accumulator_of(dtype);
          Tensor x = Tensor::random(dtype, {rows, d}, 5), weight = Tensor::random(dtype, {d}, 6),
                 dy = Tensor::random(dtype, {rows, d}, 7);
          Tensor mean(acc, {rows}), rstd(acc, {rows}), dx(dtype, {rows, d}), dweight(dtype, {d}), dbias(dtype, {d});
          for (int64_t row = 0; row < rows; row++) {
            Statistics s = statistics_of(x, row, centred);
            mean.set(row, s.mean), rstd.set(row, s.rstd);
          }
          Tensor* w = with_weight ? &weight : nullptr;
          if (centred) run_cuda("layerNormBackward", NoAttrs{}, {&x, w, &mean, &rstd, &dy}, {&dx, &dweight, &dbias});
          else run_cuda("rmsNormBackward", NoAttrs{}, {&x, w, &rstd, &dy}, {&dx, &dweight});
          std::vector<double> weight_sum(size_t(d), 0), bias_sum(size_t(d), 0);
          for (int64_t row = 0; row < rows; row++) {
            Statistics s{centred ? mean.at(row) : 0, rstd.at(row)};
            double g_mean = 0, gx_mean = 0;
            auto normal = [&](int64_t i) { return (x.at(row * d + i) - s.mean) * s.rstd; };
            auto g = [&](int64_t i) { return dy.at(row * d + i) * (w ? w->at(i) : 1); };
            for (int64_t i = 0; i < d; i++) {
              g_mean += centred ? g(i) / double(d) : 0, gx_mean += g(i) * normal(i) / double(d);
              weight_sum[size_t(i)] += dy.at(row * d + i) * normal(i), bias_sum[size_t(i)] += dy.at(row * d + i);
            }
            for (int64_t i = 0; i < d; i++) {
              double expected = s.rstd * (g(i) - g_mean - normal(i) * gx_mean);
              FOVEA_CHECK_CLOSE(dx.at(row * d + i), expected,
                                tolerance(dtype, expected, 4 * s.rstd * (1 + std::fabs(normal(i)))));
            }
          }
          for (int64_t i = 0; i < d; i++) {
            FOVEA_CHECK_CLOSE(dweight.at(i), weight_sum[size_t(i)],
                              tolerance(dtype, weight_sum[size_t(i)], double(rows)));
            if (centred)
              FOVEA_CHECK_CLOSE(dbias.at(i), bias_sum[size_t(i)], tolerance(dtype, bias_sum[size_t(i)], double(rows)));
          }
        }
}

FOVEA_TEST(norm_without_rows_or_elements) {
  const int64_t d = 96;
  Tensor none(Dtype::f32, {0, d}), no_rstd(Dtype::f32, {0}), no_dx(Dtype::f32, {0, d}), dweight(Dtype::f32, {d});
  run_cuda("rmsNormBackward", NoAttrs{}, {&none, nullptr, &no_rstd, &none}, {&no_dx, &dweight});
  for (int64_t i = 0; i < d; i++) FOVEA_CHECK_CLOSE(dweight.at(i), 0, 0);
  Tensor x(Dtype::f32, {3, 0}), y(Dtype::f32, {3, 0}), mean(Dtype::f32, {3}), rstd(Dtype::f32, {3});
  run_cuda("layerNorm", LayerNormAttrs{}, {&x, nullptr, nullptr}, {&y, &mean, &rstd});
  for (int64_t i = 0; i < 3; i++) FOVEA_CHECK_CLOSE(rstd.at(i), NAN, 0);
}

FOVEA_TEST(norm_keeps_nan_and_infinity_in_their_rows) {
  Tensor x = Tensor::random(Dtype::f32, {3, 40}, 1), y(Dtype::f32, {3, 40}), rstd(Dtype::f32, {3});
  x.set(3, NAN), x.set(87, INFINITY);
  run_cuda("rmsNorm", LayerNormAttrs{kEps}, {&x, nullptr}, {&y, &rstd});
  FOVEA_CHECK_CLOSE(y.at(0), NAN, 0);
  FOVEA_CHECK(std::isfinite(y.at(40)) && std::isfinite(y.at(79)), "the row between is %g, %g", y.at(40), y.at(79));
  FOVEA_CHECK_CLOSE(rstd.at(2), 0, 0);
  FOVEA_CHECK_CLOSE(y.at(87), NAN, 0);
  FOVEA_CHECK_CLOSE(y.at(88), 0, 0);
}

}  // namespace fovea::test
