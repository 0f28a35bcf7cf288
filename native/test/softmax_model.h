// Softmax and log-softmax in float64, and what rows, gradients and special values of kernels are checked for: on the
// CPU and on emulated devices.
#pragma once
#include <algorithm>

#include "core/attrs.h"
#include "test/harness.h"

namespace fovea::test {

// y = softmax or its logarithm for rows of n elements.
inline std::vector<double> softmax_model(const Tensor& x, bool log) {
  int64_t n = x.view.dim(-1);
  std::vector<double> y = x.values();
  for (size_t row = 0; row < y.size(); row += size_t(n)) {
    double m = *std::max_element(&y[row], &y[row] + n);
    long double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += std::exp(y[row + size_t(i)] - m);
    for (int64_t i = 0; i < n; i++) {
      double& v = y[row + size_t(i)];
      v = log ? double(v - m - std::log(sum)) : double(std::exp(v - m) / sum);
    }
  }
  return y;
}
inline std::vector<Tensor> softmax_layouts(Dtype dtype, int64_t rows, int64_t n) {
  std::vector<Tensor> list;
  list.push_back(Tensor(dtype, {rows, n}));
  list.push_back(Tensor::strided(dtype, {2, rows, n}, {1, 0, 2}));
  list.push_back(Tensor::expanded(dtype, {3, rows, n}, {true, false, false}));
  return list;
}
inline double softmax_tolerance(Dtype dtype, double value, double scale) {
  double eps = dtype == Dtype::f64 ? 1e-14 : 1e-5;  // exp(x - m) with |x - m| up to 40
  return eps * (scale + std::fabs(value)) + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

template <class Run>
void check_softmax(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes)
      for (Tensor& x : softmax_layouts(dtype, rows, n)) {
        x.fill_random(uint64_t(n), -20, 20);
        for (bool log : {false, true}) {
          Tensor y(dtype, {x.view.shape, x.view.shape + x.view.rank});
          run(log ? "logSoftmax" : "softmax", NoAttrs{}, {&x}, {&y});
          std::vector<double> expected = softmax_model(x, log);
          for (int64_t i = 0; i < y.size(); i++)
            FOVEA_CHECK_CLOSE(y.at(i), expected[size_t(i)], softmax_tolerance(dtype, expected[size_t(i)], log ? 1 : 0));
        }
      }
}

template <class Run>
void check_softmax_special_rows(const Run& run) {
  const double inf = INFINITY;
  for (bool log : {false, true}) {
    Tensor x = Tensor::from(Dtype::f32, {5, 3}, {-inf, -inf, -inf, 1, NAN, 2, 1, inf, 2, -inf, 0, 0, 1e30, -1e30, 0}),
           y(Dtype::f32, {5, 3});
    run(log ? "logSoftmax" : "softmax", NoAttrs{}, {&x}, {&y});
    for (int64_t i = 0; i < 9; i++) FOVEA_CHECK(std::isnan(y.at(i)), "element %lld is %g", (long long)i, y.at(i));
    FOVEA_CHECK_CLOSE(y.at(9), log ? -inf : 0, 0);
    FOVEA_CHECK_CLOSE(y.at(10), log ? -std::log(2) : 0.5, 1e-6);
    FOVEA_CHECK_CLOSE(y.at(12), log ? 0 : 1, 0);
    FOVEA_CHECK_CLOSE(y.at(13), log ? -2e30 : 0, 1e24);
  }
  Tensor none(Dtype::f32, {0, 4}), out(Dtype::f32, {0, 4});
  run("softmax", NoAttrs{}, {&none}, {&out});
}

template <class Run>
void check_softmax_backward(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes)
      for (bool log : {false, true}) {
        Tensor x = Tensor::random(dtype, {rows, n}, 3), y = Tensor::from(dtype, {rows, n}, softmax_model(x, log)),
               dx(dtype, {rows, n});
        Tensor dy = Tensor::expanded(dtype, {rows, n}, {true, false});
        dy.fill_random(4);
        run(log ? "logSoftmaxBackward" : "softmaxBackward", NoAttrs{}, {&y, &dy}, {&dx});
        for (int64_t row = 0; row < rows; row++) {
          double sum = 0, scale = 0;
          for (int64_t i = row * n; i < (row + 1) * n; i++) {
            double term = dy.at(i) * (log ? 1 : y.at(i));
            sum += term, scale += std::fabs(term);
          }
          for (int64_t i = row * n; i < (row + 1) * n; i++) {
            double p = log ? std::exp(y.at(i)) : y.at(i), expected = log ? dy.at(i) - p * sum : p * (dy.at(i) - sum);
            FOVEA_CHECK_CLOSE(dx.at(i), expected,
                              softmax_tolerance(dtype, expected,
                                                p * (scale + std::fabs(dy.at(i))) + (log ? std::fabs(dy.at(i)) : 0)));
          }
        }
      }
}

}  // namespace fovea::test
