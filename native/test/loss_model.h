// Cross entropy and its gradient in float64, with label smoothing and ignored rows, and checks of kernels against it.
#pragma once
#include <algorithm>

#include "ops/loss/attrs.h"
#include "test/harness.h"

namespace fovea::test {

inline double loss_tolerance(Dtype dtype, double value, double scale) {
  double eps = dtype == Dtype::f64 ? 1e-13 : 2e-6;
  return eps * (scale + std::fabs(value)) + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}
inline double log_sum_exp(const Tensor& x, int64_t row) {
  int64_t c = x.view.dim(1);
  double m = -INFINITY, sum = 0;
  for (int64_t i = 0; i < c; i++) m = std::max(m, x.at(row * c + i));
  for (int64_t i = 0; i < c; i++) sum += std::exp(x.at(row * c + i) - m);
  return m + std::log(sum);
}

template <class Run>
void check_cross_entropy(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, c] : shapes)
      for (double smoothing : {0.0, 0.1, 1.0}) {
        CrossEntropyAttrs attrs{.labelSmoothing = smoothing};
        Tensor logits = Tensor::random(dtype, {rows, c}, 3, -5, 5), target(Dtype::i64, {rows});
        for (int64_t row = 0; row < rows; row++) target.set(row, row == 1 ? -100 : double((row * 31 + 2) % c));
        Tensor loss(accumulator_of(dtype), {rows}), lse(accumulator_of(dtype), {rows}), dlogits(dtype, {rows, c});
        Tensor dloss = Tensor::random(accumulator_of(dtype), {rows}, 4);
        run("crossEntropy", attrs, {&logits, &target}, {&loss, &lse});
        run("crossEntropyBackward", attrs, {&logits, &target, &lse, &dloss}, {&dlogits});
        Dtype acc = accumulator_of(dtype);
        for (int64_t row = 0; row < rows; row++) {
          double expected_lse = log_sum_exp(logits, row), mean = 0;
          FOVEA_CHECK_CLOSE(lse.at(row), expected_lse, loss_tolerance(acc, expected_lse, 1));
          for (int64_t i = 0; i < c; i++) mean += logits.at(row * c + i) / double(c);
          int64_t label = int64_t(target.at(row));
          bool counts = label != -100;
          double expected = counts ? expected_lse - (1 - smoothing) * logits.at(row * c + label) - smoothing * mean : 0;
          FOVEA_CHECK_CLOSE(loss.at(row), expected, counts ? loss_tolerance(acc, expected, 20) : 0);
          for (int64_t i = 0; i < c; i++) {
            double p = std::exp(logits.at(row * c + i) - expected_lse);
            double gradient = counts ? dloss.at(row) * (p - (i == label) * (1 - smoothing) - smoothing / double(c)) : 0;
            FOVEA_CHECK_CLOSE(dlogits.at(row * c + i), gradient,
                              counts ? loss_tolerance(dtype, gradient, i == label ? 20 : 20 * p + 1e-4) : 0);
          }
        }
        run("crossEntropyBackward_", attrs, {&logits, &target, &lse, &dloss}, {});
        FOVEA_CHECK(logits.same_bits(dlogits), "in place, [%lld,%lld]", static_cast<long long>(rows),
                    static_cast<long long>(c));
      }
}

}  // namespace fovea::test
