// Reductions of rows against the definitions in float64, on the CPU and on emulated devices: all dtypes, NaN,
// infinities and empty axes; rows lie as layouts() of each side says.
#pragma once
#include <algorithm>
#include <functional>

#include "ops/reduce/attrs.h"
#include "test/harness.h"

namespace fovea::test {

// How the kernels under test are run, which rows of n elements they get for [rows, n], and for which of these.
template <class Run>
struct Reductions {
  Run run;
  std::vector<Tensor> (*layouts)(Dtype dtype, int64_t rows, int64_t n);
  Shapes (*shapes)(Dtype dtype);
};

// Layouts that every kernel gets: rows, columns, with gaps between elements, of one value each.
inline std::vector<Tensor> common_layouts(Dtype dtype, int64_t rows, int64_t n) {
  std::vector<Tensor> list;
  list.push_back(Tensor(dtype, {rows, n}));
  list.push_back(Tensor::strided(dtype, {rows, n}, {1, 0}));
  list.push_back(Tensor::strided(dtype, {rows, n}, {0, 1}, 3));
  list.push_back(Tensor::expanded(dtype, {rows, n}, {false, true}));
  return list;
}
inline void fill_summands(Tensor& x, uint64_t seed) {
  bool is_unsigned = x.dtype() == Dtype::u8;
  x.fill_random(seed, is_unsigned ? 0 : -2, x.dtype() == Dtype::i32 || x.dtype() == Dtype::i64 || is_unsigned ? 90 : 2);
}

struct Row {
  std::vector<double> x;
  Row(const Tensor& t, int64_t row) {
    int64_t n = t.view.dim(-1);
    for (int64_t i = 0; i < n; i++) x.push_back(t.at(row * n + i));
  }
  double sum() const {
    long double total = 0;
    for (double v : x) total += v;
    return double(total);
  }
  double magnitude() const {
    double total = 0;
    for (double v : x) total += std::fabs(v);
    return total;
  }
};
inline std::vector<int64_t> leading_shape(const Tensor& x) { return {x.view.shape, x.view.shape + x.view.rank - 1}; }

// What a float result may be off by, given the scale of what was added up.
inline double reduce_tolerance(Dtype dtype, double value, double scale, int64_t n) {
  double accumulated = 2 * std::sqrt(double(n)) * (dtype == Dtype::f64 ? 0x1p-52 : 0x1p-23) * scale;
  return accumulated + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

using ReduceModel = std::function<double(const Row&)>;
template <class Run, class Attrs>
void check_reduction(const Reductions<Run>& on, const char* op, const Attrs& attrs, Dtype dtype, int64_t rows,
                     int64_t n, const ReduceModel& model, bool exact = false) {
  int layout = 0;
  for (Tensor& x : on.layouts(dtype, rows, n)) {
    fill_summands(x, uint64_t(7 + rows + n));
    Tensor y(dtype, leading_shape(x));
    on.run(op, attrs, {&x}, {&y});
    for (int64_t r = 0; r < y.size(); r++) {
      Row row(x, r);
      double expected = model(row),
             allowed = exact ? 0 : reduce_tolerance(dtype, expected, std::max(std::fabs(expected), row.magnitude()), n);
      if (std::isinf(round_to(dtype, expected))) expected = round_to(dtype, expected);
      FOVEA_CHECK(close(y.at(r), expected, allowed),
                  "%s on %s %s layout %d [%lld, %lld] row %lld: %.9g, expected %.9g within %.3g", op,
                  on.run.where().c_str(), kDtypeNames[int(dtype)], layout, (long long)rows, (long long)n, (long long)r,
                  y.at(r), expected, allowed);
    }
    layout++;
  }
}

template <class Run>
void check_sum_and_mean(const Reductions<Run>& on) {
  auto sum = [](const Row& r) { return r.sum(); };
  auto mean = [](const Row& r) { return r.sum() / double(r.x.size()); };
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : on.shapes(dtype)) {
      check_reduction(on, "sum", NoAttrs{}, dtype, rows, n, sum);
      check_reduction(on, "mean", NoAttrs{}, dtype, rows, n, mean);
    }
  for (Dtype dtype : {Dtype::i32, Dtype::i64})
    for (auto [rows, n] : on.shapes(dtype)) check_reduction(on, "sum", NoAttrs{}, dtype, rows, n, sum, true);
}

template <class Run>
void check_extrema(const Reductions<Run>& on) {
  auto largest = [](const Row& r) { return *std::max_element(r.x.begin(), r.x.end()); };
  auto smallest = [](const Row& r) { return *std::min_element(r.x.begin(), r.x.end()); };
  for (Dtype dtype : kAll)
    for (auto [rows, n] : on.shapes(dtype)) {
      check_reduction(on, "max", NoAttrs{}, dtype, rows, n, largest, true);
      check_reduction(on, "min", NoAttrs{}, dtype, rows, n, smallest, true);
    }
}

template <class Run>
void check_extremum_indices(const Reductions<Run>& on) {
  auto below = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
  auto above = [](double a, double b) { return std::isnan(a) ? !std::isnan(b) : a < b; };
  for (Dtype dtype : kAll)
    for (auto [rows, n] : on.shapes(dtype))
      for (Tensor& x : on.layouts(dtype, rows, n)) {
        fill_summands(x, uint64_t(3 + n));
        if (dtype == Dtype::f32 && n > 20) x.set(n / 2, NAN), x.set(n / 2 + 3, NAN);
        Tensor largest(Dtype::i64, leading_shape(x)), smallest(Dtype::i64, leading_shape(x));
        on.run("argmax", NoAttrs{}, {&x}, {&largest});
        on.run("argmin", NoAttrs{}, {&x}, {&smallest});
        for (int64_t r = 0; r < largest.size(); r++) {
          const std::vector<double> row = Row(x, r).x;
          FOVEA_CHECK_CLOSE(largest.at(r), double(std::max_element(row.begin(), row.end(), below) - row.begin()), 0);
          FOVEA_CHECK_CLOSE(smallest.at(r), double(std::min_element(row.begin(), row.end(), above) - row.begin()), 0);
        }
      }
}

template <class Run>
void check_product_and_truth(const Reductions<Run>& on) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : Shapes{{3, 7}, {40, 12}})
      check_reduction(on, "prod", NoAttrs{}, dtype, rows, n, [](const Row& r) {
        double p = 1;
        for (double v : r.x) p *= v;
        return p;
      });
  auto any = [](const Row& r) { return r.sum() > 0; };
  auto all = [](const Row& r) { return r.sum() == double(r.x.size()); };
  for (auto [rows, n] : on.shapes(Dtype::boolean)) {
    check_reduction(on, "any", NoAttrs{}, Dtype::boolean, rows, n, any, true);
    check_reduction(on, "all", NoAttrs{}, Dtype::boolean, rows, n, all, true);
  }
}

template <class Run>
void check_norms(const Reductions<Run>& on) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : Shapes{{5, 64}, {17, 33}, {11, 1025}})
      for (double p : {0.0, 1.0, 2.0, 3.0, 0.5, double(INFINITY), -double(INFINITY)})
        check_reduction(on, "norm", NormAttrs{p}, dtype, rows, n, [p](const Row& r) {
          long double sum = 0;
          double most = 0, least = INFINITY;
          for (double v : r.x) {
            sum += p == 0 ? v != 0 : std::pow(std::fabs(v), p);
            most = std::max(most, std::fabs(v)), least = std::min(least, std::fabs(v));
          }
          return std::isinf(p) ? (p > 0 ? most : least) : double(p == 0 ? sum : std::pow(sum, 1 / p));
        });
}

template <class Run>
void check_logsumexp(const Reductions<Run>& on) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : on.shapes(dtype))
      check_reduction(on, "logsumexp", NoAttrs{}, dtype, rows, n, [](const Row& r) {
        double sum = 0;
        for (double v : r.x) sum += std::exp(v);
        return std::log(sum);
      });
}

template <class Run>
void check_variance(const Reductions<Run>& on) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : on.shapes(dtype))
      for (Tensor& x : on.layouts(dtype, rows, n)) {
        // A mean far from zero: the textbook formula E x^2 - (E x)^2 would lose all digits.
        x.fill_random(5, 1000, 1002);
        Tensor y(dtype, leading_shape(x)), mean(accumulator_of(dtype), leading_shape(x));
        on.run("variance", VarianceAttrs{1}, {&x}, {&y, &mean});
        for (int64_t r = 0; r < y.size(); r++) {
          Row row(x, r);
          double centre = row.sum() / double(n), squares = 0;
          for (double v : row.x) squares += (v - centre) * (v - centre);
          double mean_error = reduce_tolerance(accumulator_of(dtype), centre, 1002, n);
          FOVEA_CHECK_CLOSE(mean.at(r), centre, mean_error);
          double expected = squares / double(n - 1);
          FOVEA_CHECK_CLOSE(y.at(r), expected,
                            1e-4 * std::fabs(expected) + mean_error * mean_error + 1e-7 + ulp(dtype, expected));
        }
      }
}

// `Sum` is what the model adds up in: double, as a kernel that adds one element after the other, or the exact sums of
// long double, which a kernel that adds in a tree is as near to.
template <class Sum, class Run>
void check_cumsum(const Reductions<Run>& on, const Shapes& shapes) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i32, Dtype::i64})
    for (auto [rows, n] : shapes)
      for (Tensor& x : on.layouts(dtype, rows, n)) {
        const bool exact = dtype == Dtype::i32 || dtype == Dtype::i64;
        fill_summands(x, 9);
        Tensor y(dtype, {x.view.shape, x.view.shape + x.view.rank});
        on.run("cumsum", NoAttrs{}, {&x}, {&y});
        Sum total = 0;
        double scale = 0;
        for (int64_t i = 0; i < x.size(); i++) {
          if (i % n == 0) total = scale = 0;
          total += x.at(i), scale += std::fabs(x.at(i));
          const double sum = double(total);
          FOVEA_CHECK_CLOSE(y.at(i), sum, exact ? 0 : reduce_tolerance(dtype, sum, scale, i % n + 1) + ulp(dtype, sum));
        }
      }
}

// One number from a vector of float32.
template <class Run>
double reduced(const Run& run, const char* op, const std::vector<double>& values) {
  Tensor x = Tensor::from(Dtype::f32, {int64_t(values.size())}, values), y(Dtype::f32, {});
  run(op, NoAttrs{}, {&x}, {&y});
  return y.at(0);
}
template <class Run>
void check_reduced_special_values(const Run& run) {
  const double inf = INFINITY;
  FOVEA_CHECK_CLOSE(reduced(run, "max", {1, NAN, 3}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "min", {NAN, 2, 3}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "max", {-inf, -inf}), -inf, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "min", {inf, inf}), inf, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "sum", {inf, -inf}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "sum", {}), 0, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "prod", {}), 1, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "mean", {}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {}), -inf, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {-inf, -inf}), -inf, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {inf, 1}), inf, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {inf, -inf}), inf, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {NAN, 1, inf}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {-inf, 3}), 3, 0);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {1000, 1000}), 1000 + std::log(2), 1e-4);
  FOVEA_CHECK_CLOSE(reduced(run, "logsumexp", {-1000, -1000}), -1000 + std::log(2), 1e-4);
}
template <class Run>
void check_reductions_of_nothing(const Run& run) {
  Tensor none(Dtype::f32, {2, 0}), y(Dtype::f32, {2}), index(Dtype::i64, {2});
  for (const char* op : {"max", "min"})
    FOVEA_CHECK(code_of([&] { run(op, NoAttrs{}, {&none}, {&y}); }) == "FOVEA_SHAPE", "%s of nothing", op);
  for (const char* op : {"argmax", "argmin"})
    FOVEA_CHECK(code_of([&] { run(op, NoAttrs{}, {&none}, {&index}); }) == "FOVEA_SHAPE", "%s of nothing", op);
  FOVEA_CHECK(code_of([&] { run("norm", NormAttrs{INFINITY}, {&none}, {&y}); }) == "FOVEA_SHAPE", "norm of nothing");
  Tensor empty(Dtype::boolean, {2, 0}), truth(Dtype::boolean, {2});
  run("any", NoAttrs{}, {&empty}, {&truth});
  FOVEA_CHECK_CLOSE(truth.at(1), 0, 0);
  run("all", NoAttrs{}, {&empty}, {&truth});
  FOVEA_CHECK_CLOSE(truth.at(1), 1, 0);
}

}  // namespace fovea::test
