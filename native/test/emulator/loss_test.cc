// Cross entropy on the emulated device against a float64 model: all dtypes, label smoothing, ignored rows, targets out
// of range, extreme logits, strided rows, and the gradient against its formula.
#include <algorithm>

#include "ops/loss/attrs.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

const std::pair<int64_t, int64_t> kShapes[] = {{1, 1}, {5, 3}, {7, 64}, {131, 8}, {3, 1025}, {2, 5003}, {3, 20480}};
double tolerance(Dtype dtype, double value, double scale) {
  double eps = dtype == Dtype::f64 ? 1e-13 : 2e-6;
  return eps * (scale + std::fabs(value)) + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}
double log_sum_exp(const Tensor& x, int64_t row) {
  int64_t c = x.view.dim(1);
  double m = -INFINITY, sum = 0;
  for (int64_t i = 0; i < c; i++) m = std::max(m, x.at(row * c + i));
  for (int64_t i = 0; i < c; i++) sum += std::exp(x.at(row * c + i) - m);
  return m + std::log(sum);
}

}  // namespace

FOVEA_TEST(loss_cross_entropy) {
  for (Dtype dtype : kFloats)
    for (auto [rows, c] : kShapes)
      for (double smoothing : {0.0, 0.1, 1.0}) {
        CrossEntropyAttrs attrs{.labelSmoothing = smoothing};
        Tensor logits = Tensor::random(dtype, {rows, c}, 3, -5, 5), target(Dtype::i64, {rows});
        for (int64_t row = 0; row < rows; row++) target.set(row, row == 1 ? -100 : double((row * 31 + 2) % c));
        Tensor loss(accumulator_of(dtype), {rows}), lse(accumulator_of(dtype), {rows}), dlogits(dtype, {rows, c});
        Tensor dloss = Tensor::random(accumulator_of(dtype), {rows}, 4);
        run_cuda("crossEntropy", attrs, {&logits, &target}, {&loss, &lse});
        run_cuda("crossEntropyBackward", attrs, {&logits, &target, &lse, &dloss}, {&dlogits});
        Dtype acc = accumulator_of(dtype);
        for (int64_t row = 0; row < rows; row++) {
          double expected_lse = log_sum_exp(logits, row), mean = 0;
          FOVEA_CHECK_CLOSE(lse.at(row), expected_lse, tolerance(acc, expected_lse, 1));
          for (int64_t i = 0; i < c; i++) mean += logits.at(row * c + i) / double(c);
          int64_t label = int64_t(target.at(row));
          bool counts = label != -100;
          double expected = counts ? expected_lse - (1 - smoothing) * logits.at(row * c + label) - smoothing * mean : 0;
          FOVEA_CHECK_CLOSE(loss.at(row), expected, counts ? tolerance(acc, expected, 20) : 0);
          for (int64_t i = 0; i < c; i++) {
            double p = std::exp(logits.at(row * c + i) - expected_lse);
            double gradient = counts ? dloss.at(row) * (p - (i == label) * (1 - smoothing) - smoothing / double(c)) : 0;
            FOVEA_CHECK_CLOSE(dlogits.at(row * c + i), gradient,
                              counts ? tolerance(dtype, gradient, i == label ? 20 : 20 * p + 1e-4) : 0);
          }
        }
      }
}

FOVEA_TEST(loss_targets_out_of_range) {
  for (double wrong : {3.0, -1.0, -100.0}) {
    Tensor logits = Tensor::random(Dtype::f32, {2, 3}, 3), target = Tensor::from(Dtype::i64, {2}, {0, wrong}),
           loss(Dtype::f32, {2}), lse(Dtype::f32, {2});
    Tensor dlogits(Dtype::f32, {2, 3});
    CrossEntropyAttrs attrs{.ignoreIndex = 7};
    FOVEA_CHECK(code_of([&] {
                  run_cuda("crossEntropy", attrs, {&logits, &target}, {&loss, &lse});
                }) == "FOVEA_INDEX",
                "target %g", wrong);
    FOVEA_CHECK(code_of([&] {
                  run_cuda("crossEntropyBackward", attrs, {&logits, &target, &loss, &loss}, {&dlogits});
                }) == "FOVEA_INDEX",
                "target %g", wrong);
  }
}

FOVEA_TEST(loss_extreme_logits) {
  Tensor logits = Tensor::from(Dtype::f32, {3, 2}, {1000, -1000, -INFINITY, 5, NAN, 1}),
         target = Tensor::from(Dtype::i64, {3}, {1, 1, 0});
  Tensor loss(Dtype::f32, {3}), lse(Dtype::f32, {3});
  run_cuda("crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
  FOVEA_CHECK_CLOSE(loss.at(0), 2000, 1e-3);
  FOVEA_CHECK_CLOSE(loss.at(1), 0, 0);
  FOVEA_CHECK_CLOSE(loss.at(2), NAN, 0);
}

FOVEA_TEST(loss_strided_rows_and_targets) {
  Tensor logits = Tensor::expanded(Dtype::f32, {5, 12}, {true, false}),
         target = Tensor::strided(Dtype::i64, {5}, {0}, 3);
  logits.fill_random(1);
  for (int64_t row = 0; row < 5; row++) target.set(row, double(row * 2));
  Tensor loss(Dtype::f32, {5}), lse(Dtype::f32, {5});
  run_cuda("crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
  for (int64_t row = 0; row < 5; row++) {
    const double expected = log_sum_exp(logits, row);
    FOVEA_CHECK_CLOSE(lse.at(row), expected, 1e-5);
    FOVEA_CHECK_CLOSE(loss.at(row), expected - logits.at(row * 12 + row * 2), 1e-5);
  }
}

FOVEA_TEST(loss_names_the_wrong_target) {
  Tensor logits = Tensor::random(Dtype::f32, {2, 3}, 3), target = Tensor::from(Dtype::i64, {2}, {0, 9}),
         loss(Dtype::f32, {2}), lse(Dtype::f32, {2});
  std::string text;
  try {
    run_cuda("crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
  } catch (const Error& error) { text = error.what(); }
  FOVEA_CHECK(text.find("target[1] is 9, but there are 3 classes") != std::string::npos, "%s", text.c_str());
}

}  // namespace fovea::test
