// Cross entropy against a float64 model: all dtypes, label smoothing, ignored rows, targets out of range, and the
// gradient against its formula.
#include <algorithm>

#include "ops/loss/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(loss)

namespace fovea::test {
namespace {

const std::pair<int64_t, int64_t> kShapes[] = {{1, 1}, {5, 3}, {7, 64}, {3, 1025}, {2, 50257}};
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
  for (const Table& table : tables_of_loss())
    for (Dtype dtype : kFloats)
      for (auto [rows, c] : kShapes)
        for (double smoothing : {0.0, 0.1, 1.0}) {
          CrossEntropyAttrs attrs{.labelSmoothing = smoothing};
          Tensor logits = Tensor::random(dtype, {rows, c}, 3, -5, 5), target(Dtype::i64, {rows});
          for (int64_t row = 0; row < rows; row++) target.set(row, row == 1 ? -100 : double((row * 31 + 2) % c));
          Tensor loss(accumulator_of(dtype), {rows}), lse(accumulator_of(dtype), {rows}), dlogits(dtype, {rows, c});
          Tensor dloss = Tensor::random(accumulator_of(dtype), {rows}, 4);
          run(table, "crossEntropy", attrs, {&logits, &target}, {&loss, &lse});
          run(table, "crossEntropyBackward", attrs, {&logits, &target, &lse, &dloss}, {&dlogits});
          Dtype acc = accumulator_of(dtype);
          for (int64_t row = 0; row < rows; row++) {
            double expected_lse = log_sum_exp(logits, row), mean = 0;
            FOVEA_CHECK_CLOSE(lse.at(row), expected_lse, tolerance(acc, expected_lse, 1));
            for (int64_t i = 0; i < c; i++) mean += logits.at(row * c + i) / double(c);
            int64_t label = int64_t(target.at(row));
            bool counts = label != -100;
            double expected =
                counts ? expected_lse - (1 - smoothing) * logits.at(row * c + label) - smoothing * mean : 0;
            FOVEA_CHECK_CLOSE(loss.at(row), expected, counts ? tolerance(acc, expected, 20) : 0);
            for (int64_t i = 0; i < c; i++) {
              double p = std::exp(logits.at(row * c + i) - expected_lse);
              double gradient =
                  counts ? dloss.at(row) * (p - (i == label) * (1 - smoothing) - smoothing / double(c)) : 0;
              FOVEA_CHECK_CLOSE(dlogits.at(row * c + i), gradient,
                                counts ? tolerance(dtype, gradient, i == label ? 20 : 20 * p + 1e-4) : 0);
            }
          }
        }
}

FOVEA_TEST(loss_targets_out_of_range) {
  for (const Table& table : tables_of_loss())
    for (double wrong : {3.0, -1.0, -100.0}) {
      Tensor logits = Tensor::random(Dtype::f32, {2, 3}, 3), target = Tensor::from(Dtype::i64, {2}, {0, wrong}),
             loss(Dtype::f32, {2}), lse(Dtype::f32, {2});
      Tensor dlogits(Dtype::f32, {2, 3});
      CrossEntropyAttrs attrs{.ignoreIndex = 7};
      FOVEA_CHECK(error_of(table, "crossEntropy", attrs, {&logits, &target}, {&loss, &lse}) == "FOVEA_INDEX",
                  "target %g", wrong);
      FOVEA_CHECK(
          error_of(table, "crossEntropyBackward", attrs, {&logits, &target, &loss, &loss}, {&dlogits}) == "FOVEA_INDEX",
          "target %g", wrong);
    }
}

FOVEA_TEST(loss_extreme_logits) {
  for (const Table& table : tables_of_loss()) {
    Tensor logits = Tensor::from(Dtype::f32, {3, 2}, {1000, -1000, -INFINITY, 5, NAN, 1}),
           target = Tensor::from(Dtype::i64, {3}, {1, 1, 0});
    Tensor loss(Dtype::f32, {3}), lse(Dtype::f32, {3});
    run(table, "crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
    FOVEA_CHECK_CLOSE(loss.at(0), 2000, 1e-3);
    FOVEA_CHECK_CLOSE(loss.at(1), 0, 0);
    FOVEA_CHECK_CLOSE(loss.at(2), NAN, 0);
  }
}

}  // namespace fovea::test
