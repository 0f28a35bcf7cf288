// Checks of a CUDA matmul against a plain float64 model.
#pragma once
#include <array>

#include "ops/matmul/cuda_plan.h"
#include "test/activation_model.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {

inline Tensor numbers(Tensor t, uint64_t seed) {
  bool integers = t.dtype() == Dtype::i32 || t.dtype() == Dtype::i64;
  t.fill_random(seed, integers ? -100 : -2, integers ? 100 : 2);
  return t;
}

// A matrix whose rows (order {0, 1}) or columns ({1, 0}) start at multiples of 16 elements, with NaN between them.
inline Tensor padded(Dtype dtype, int64_t rows, int64_t columns, std::vector<int> order, uint64_t seed) {
  int64_t shape[] = {rows, columns};
  int inner = order[1];
  std::vector<int64_t> wide = {rows, columns};
  wide[size_t(inner)] = (shape[inner] / 16 + 1) * 16;
  Tensor t = Tensor::strided(dtype, wide, order);
  t.view.shape[inner] = shape[inner];
  return numbers(std::move(t), seed);
}

// The expected values, and with each the sum of the magnitudes that it was summed from, which bounds the error; what an
// activation makes of it is included. `errors` are those of the activation itself.
struct Expected {
  std::vector<double> values, magnitudes, errors;
};
inline Expected matmul_model(const MatmulAttrs& attrs, const Tensor& a, const Tensor& b, const Tensor* bias,
                             const Tensor* residual, const Tensor& c) {
  int64_t m = c.view.dim(-2), n = c.view.dim(-1), k = a.view.dim(-1);
  std::vector<double> x = a.values(), y = b.values(), z = bias ? bias->values() : std::vector<double>(),
                      r = residual ? residual->values() : std::vector<double>(size_t(c.size()));
  bool biased = bias && attrs.beta != 0;
  std::vector<double> sum(size_t(c.size())), magnitude(size_t(c.size()));
  for (int64_t row = 0; row < c.size() / n; row++)
    for (int64_t p = 0; p < k; p++) {
      double left = x[size_t(row * k + p)];
      const double* right = &y[size_t((row / m * k + p) * n)];
      for (int64_t column = 0; column < n; column++) {
        double term = left * right[column];
        sum[size_t(row * n + column)] += term, magnitude[size_t(row * n + column)] += std::fabs(term);
      }
    }
  MatmulActivation activation{attrs.activation};
  double slope = activation == MatmulActivation::none ? 1 : kSteepest;
  Expected e;
  for (size_t i = 0; i < sum.size(); i++) {
    double y = activated(activation, attrs.alpha * sum[i] + (biased ? attrs.beta * z[i] : 0));
    e.values.push_back(y + r[i]), e.errors.push_back(activation_error(activation, a.dtype(), y));
    e.magnitudes.push_back(slope *
                               (std::fabs(attrs.alpha) * magnitude[i] + (biased ? std::fabs(attrs.beta * z[i]) : 0)) +
                           std::fabs(r[i]));
  }
  return e;
}

// |error| <= 2 sqrt(k) epsilon |a||b| in the type that is summed in, and one rounding to the storage type; and the same
// bits when run again, in another order of threads.
inline void check_matmul(const MatmulAttrs& attrs, Tensor& a, Tensor& b, Tensor* bias, std::vector<int64_t> shape,
                         const char* what, int capability, Tensor* residual = nullptr) {
  Tensor c(a.dtype(), shape);
  run_cuda("matmul", attrs, {&a, &b, bias, nullptr, residual}, {&c}, capability);
  Expected expected = matmul_model(attrs, a, b, bias, residual, c);
  bool exact = a.dtype() == Dtype::i32 || a.dtype() == Dtype::i64;
  double sum_epsilon = a.dtype() == Dtype::f64 ? epsilon(Dtype::f64) : epsilon(Dtype::f32);
  int64_t k = a.view.dim(-1), wrong = 0, first = 0;
  for (int64_t i = 0; i < c.size(); i++) {
    double value = expected.values[size_t(i)], tolerance = 0;
    if (!exact)
      tolerance = 2 * std::sqrt(double(k + 2)) * sum_epsilon * expected.magnitudes[size_t(i)] +
                  expected.errors[size_t(i)] + 0.5000001 * ulp(a.dtype(), value);
    if (!close(c.at(i), value, tolerance) && wrong++ == 0) first = i;
  }
  FOVEA_CHECK(wrong == 0, "%s %s m=%lld n=%lld k=%lld: %lld of %lld wrong, the first at %lld: %.9g, expected %.9g",
              name_of(a.dtype()), what, static_cast<long long>(c.view.dim(-2)), static_cast<long long>(c.view.dim(-1)),
              static_cast<long long>(k), static_cast<long long>(wrong), static_cast<long long>(c.size()),
              static_cast<long long>(first), c.at(first), expected.values[size_t(first)]);
  Tensor again(a.dtype(), shape);
  run_cuda("matmul", attrs, {&a, &b, bias, nullptr, residual}, {&again}, capability);
  FOVEA_CHECK(c.same_bits(again), "%s %s: other bits when run again", name_of(a.dtype()), what);
}

// What runs for dense operands, transposed or not, on the emulated device of four multiprocessors.
inline cuda::CudaMatmulPlan matmul_plan_of(Dtype dtype, std::array<int64_t, 3> mnk, int capability,
                                           std::vector<int> a_order = {0, 1}, std::vector<int> b_order = {0, 1}) {
  auto [m, n, k] = mnk;
  Tensor a = Tensor::strided(dtype, {m, k}, a_order), b = Tensor::strided(dtype, {k, n}, b_order), c(dtype, {m, n});
  View in[3] = {a.view, b.view, View{}};
  MatmulProblem problem = matmul_problem({in, 3}, c.view, {});
  return cuda::cuda_matmul_plan(problem, dtype, {capability, 4, size_t(227) << 10, 1 << 20}, capability == 90);
}

// a[m - 1, k - 1] and b[0, n - 1] are special, all else is positive.
inline void check_special_value(Dtype dtype, double special, int64_t m, int64_t n, int64_t k, int capability) {
  Tensor a = Tensor::random(dtype, {m, k}, 23, 0.5, 2), b = Tensor::random(dtype, {k, n}, 24, 0.5, 2), c(dtype, {m, n});
  int64_t row = m - 1, column = n - 1;
  a.set(row * k + k - 1, special);
  b.set(column, -special);
  run_cuda("matmul", MatmulAttrs{}, {&a, &b, nullptr}, {&c}, capability);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double value = c.at(i * n + j), wanted = i == row ? special : -special;
      bool right = i == row && j == column   ? std::isnan(value)
                   : i != row && j != column ? std::isfinite(value)
                   : std::isnan(special)     ? std::isnan(value)
                                             : value == wanted;
      FOVEA_CHECK(right, "%s m=%lld: c[%lld][%lld] = %g", name_of(dtype), static_cast<long long>(m),
                  static_cast<long long>(i), static_cast<long long>(j), value);
    }
}

}  // namespace fovea::test
