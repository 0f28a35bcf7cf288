// Reductions on the emulated device against a float64 model: all dtypes, layouts that take each of the kernels' ways
// (rows, columns, pieces, gathered, misaligned), sizes around the packs and groups of threads, NaN, infinities and
// empty axes.
#include <algorithm>
#include <functional>

#include "ops/reduce/attrs.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

// All rows but the first element of each, so that none begins where packs do.
Tensor misaligned(Dtype dtype, int64_t rows, int64_t n) {
  Tensor x(dtype, {rows, n + 1});
  x.view.data += kDtypeBytes[int(dtype)], x.view.shape[1] = n;
  return x;
}
// Rows of n elements, laid out in the ways that callers do.
std::vector<Tensor> layouts(Dtype dtype, int64_t rows, int64_t n) {
  std::vector<Tensor> list;
  list.push_back(Tensor(dtype, {rows, n}));
  list.push_back(Tensor::strided(dtype, {rows, n}, {1, 0}));
  list.push_back(Tensor::strided(dtype, {rows, n}, {0, 1}, 3));
  list.push_back(Tensor::strided(dtype, {rows, n}, {1, 0}, 2));
  list.push_back(Tensor::expanded(dtype, {rows, n}, {false, true}));
  list.push_back(Tensor::expanded(dtype, {rows, n}, {true, false}));
  list.push_back(Tensor::strided(dtype, {1, rows, 3, n}, {0, 1, 3, 2}));
  list.push_back(Tensor::strided(dtype, {3, rows, n}, {2, 1, 0}));
  list.push_back(Tensor::strided(dtype, {2, rows, 4, n}, {3, 0, 1, 2}));
  return list;
}
void fill(Tensor& x, uint64_t seed) {
  bool is_unsigned = x.dtype() == Dtype::u8;
  x.fill_random(seed, is_unsigned ? 0 : -2, x.dtype() == Dtype::i32 || x.dtype() == Dtype::i64 || is_unsigned ? 90 : 2);
}

struct Row {
  std::vector<double> x;
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
Row row_of(const Tensor& x, int64_t row) {
  int64_t n = x.view.dim(-1);
  Row r;
  for (int64_t i = 0; i < n; i++) r.x.push_back(x.at(row * n + i));
  return r;
}
std::vector<int64_t> leading_shape(const Tensor& x) { return {x.view.shape, x.view.shape + x.view.rank - 1}; }

using Model = std::function<double(const Row&)>;
// What a float result may be off by, given the scale of what was added up.
double tolerance(Dtype dtype, double value, double scale, int64_t n) {
  double accumulated = 2 * std::sqrt(double(n)) * (dtype == Dtype::f64 ? 0x1p-52 : 0x1p-23) * scale;
  return accumulated + (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

template <class Attrs>
void check(const char* op, const Attrs& attrs, Dtype dtype, int64_t rows, int64_t n, const Model& model,
           bool exact = false) {
  int layout = 0;
  for (Tensor& x : layouts(dtype, rows, n)) {
    fill(x, uint64_t(7 + rows + n));
    Tensor y(dtype, leading_shape(x));
    run_cuda(op, attrs, {&x}, {&y});
    for (int64_t r = 0; r < y.size(); r++) {
      Row row = row_of(x, r);
      double expected = model(row),
             allowed = exact ? 0 : tolerance(dtype, expected, std::max(std::fabs(expected), row.magnitude()), n);
      if (std::isinf(round_to(dtype, expected))) expected = round_to(dtype, expected);
      FOVEA_CHECK(close(y.at(r), expected, allowed),
                  "%s %s layout %d [%lld, %lld] row %lld: %.9g, expected %.9g within %.3g", op, kDtypeNames[int(dtype)],
                  layout, (long long)rows, (long long)n, (long long)r, y.at(r), expected, allowed);
    }
    layout++;
  }
}

using Shapes = std::vector<std::pair<int64_t, int64_t>>;
// One type takes those that are cut in pieces, so that the test is quick.
Shapes shapes_for(Dtype dtype) {
  Shapes shapes = {{1, 1}, {3, 7}, {5, 64}, {17, 33}, {64, 40}, {11, 1025}};
  if (dtype == Dtype::f32) shapes.push_back({2, 10001}), shapes.push_back({96, 300}), shapes.push_back({530, 5});
  return shapes;
}

}  // namespace

FOVEA_TEST(reduce_sum_and_mean) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes_for(dtype)) {
      check("sum", NoAttrs{}, dtype, rows, n, [](const Row& r) { return r.sum(); });
      check("mean", NoAttrs{}, dtype, rows, n, [](const Row& r) { return r.sum() / double(r.x.size()); });
    }
  for (Dtype dtype : {Dtype::i32, Dtype::i64})
    for (auto [rows, n] : shapes_for(dtype))
      check(
          "sum", NoAttrs{}, dtype, rows, n, [](const Row& r) { return r.sum(); }, true);
}

FOVEA_TEST(reduce_misaligned_rows) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::i8})
    for (int64_t n : {16, 100, 20001}) {
      Tensor x = misaligned(dtype, 3, n), y(dtype, {3}), place(Dtype::i64, {3});
      fill(x, 3);
      run_cuda("max", NoAttrs{}, {&x}, {&y});
      run_cuda("argmax", NoAttrs{}, {&x}, {&place});
      for (int64_t r = 0; r < 3; r++) {
        Row row = row_of(x, r);
        const auto best = std::max_element(row.x.begin(), row.x.end());
        FOVEA_CHECK_CLOSE(y.at(r), *best, 0);
        FOVEA_CHECK_CLOSE(place.at(r), double(best - row.x.begin()), 0);
      }
      if (dtype == Dtype::i8) continue;
      run_cuda("sum", NoAttrs{}, {&x}, {&y});
      for (int64_t r = 0; r < 3; r++) {
        Row row = row_of(x, r);
        FOVEA_CHECK_CLOSE(y.at(r), row.sum(), tolerance(dtype, row.sum(), row.magnitude(), n));
      }
    }
}

FOVEA_TEST(reduce_columns_that_are_misaligned) {
  for (Dtype dtype : {Dtype::f32, Dtype::f16}) {
    Tensor x = misaligned(dtype, 40, 47), y(dtype, {47});
    x.view.shape[0] = 47, x.view.shape[1] = 40, x.view.strides[0] = 1, x.view.strides[1] = 48;  // transposed
    fill(x, 5);
    run_cuda("sum", NoAttrs{}, {&x}, {&y});
    for (int64_t r = 0; r < 47; r++) {
      Row row = row_of(x, r);
      FOVEA_CHECK_CLOSE(y.at(r), row.sum(), tolerance(dtype, row.sum(), row.magnitude(), 40));
    }
  }
}

FOVEA_TEST(reduce_integers_wrap) {
  Tensor x(Dtype::i32, {1, 4096}), y(Dtype::i32, {1});
  for (int64_t i = 0; i < x.size(); i++) x.set(i, double(i % 3 ? 2147483647 : -7));
  run_cuda("sum", NoAttrs{}, {&x}, {&y});
  uint32_t sum = 0, product = 1;
  for (int64_t i = 0; i < x.size(); i++) sum += uint32_t(int32_t(x.at(i)));
  FOVEA_CHECK_CLOSE(y.at(0), double(int32_t(sum)), 0);
  for (int64_t i = 0; i < x.size(); i++) x.set(i, double(2 * i + 3)), product *= uint32_t(2 * i + 3);
  run_cuda("prod", NoAttrs{}, {&x}, {&y});
  FOVEA_CHECK_CLOSE(y.at(0), double(int32_t(product)), 0);
}

FOVEA_TEST(reduce_extrema) {
  for (Dtype dtype : kAll)
    for (auto [rows, n] : shapes_for(dtype)) {
      check(
          "max", NoAttrs{}, dtype, rows, n, [](const Row& r) { return *std::max_element(r.x.begin(), r.x.end()); },
          true);
      check(
          "min", NoAttrs{}, dtype, rows, n, [](const Row& r) { return *std::min_element(r.x.begin(), r.x.end()); },
          true);
    }
}

FOVEA_TEST(reduce_extremum_indices) {
  for (Dtype dtype : kAll)
    for (auto [rows, n] : shapes_for(dtype))
      for (Tensor& x : layouts(dtype, rows, n)) {
        fill(x, uint64_t(3 + n));
        if (dtype == Dtype::f32 && n > 20) x.set(n / 2, NAN), x.set(n / 2 + 3, NAN);
        Tensor largest(Dtype::i64, leading_shape(x)), smallest(Dtype::i64, leading_shape(x));
        run_cuda("argmax", NoAttrs{}, {&x}, {&largest});
        run_cuda("argmin", NoAttrs{}, {&x}, {&smallest});
        for (int64_t r = 0; r < largest.size(); r++) {
          Row row = row_of(x, r);
          auto below = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
          auto above = [](double a, double b) { return std::isnan(a) ? !std::isnan(b) : a < b; };
          FOVEA_CHECK_CLOSE(largest.at(r), double(std::max_element(row.x.begin(), row.x.end(), below) - row.x.begin()),
                            0);
          FOVEA_CHECK_CLOSE(smallest.at(r), double(std::min_element(row.x.begin(), row.x.end(), above) - row.x.begin()),
                            0);
        }
      }
}

FOVEA_TEST(reduce_extremum_indices_of_equals) {
  for (Dtype dtype : {Dtype::f32, Dtype::i64, Dtype::i8}) {
    const double last = dtype == Dtype::f32 ? -INFINITY : dtype == Dtype::i8 ? -128 : -9223372036854775808.0;
    for (int64_t n : {7, 300, 9000}) {
      Tensor x(dtype, {1, n}), place(Dtype::i64, {1});
      for (int64_t i = 0; i < n; i++) x.set(i, last);
      run_cuda("argmax", NoAttrs{}, {&x}, {&place});
      FOVEA_CHECK_CLOSE(place.at(0), 0, 0);
      for (int64_t i = 5; i < n; i++) x.set(i, 1);
      run_cuda("argmax", NoAttrs{}, {&x}, {&place});
      FOVEA_CHECK_CLOSE(place.at(0), 5, 0);
      run_cuda("argmin", NoAttrs{}, {&x}, {&place});
      FOVEA_CHECK_CLOSE(place.at(0), 0, 0);
    }
  }
}

FOVEA_TEST(reduce_product_and_truth) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : {std::pair<int64_t, int64_t>{3, 7}, {40, 12}})
      check("prod", NoAttrs{}, dtype, rows, n, [](const Row& r) {
        double p = 1;
        for (double v : r.x) p *= v;
        return p;
      });
  for (auto [rows, n] : shapes_for(Dtype::boolean)) {
    check(
        "any", NoAttrs{}, Dtype::boolean, rows, n, [](const Row& r) { return r.sum() > 0; }, true);
    check(
        "all", NoAttrs{}, Dtype::boolean, rows, n, [](const Row& r) { return r.sum() == double(r.x.size()); }, true);
  }
  for (int64_t set : {-1, 0, 299}) {
    Tensor x(Dtype::boolean, {300}), y(Dtype::boolean, {});
    for (int64_t i = 0; i < 300; i++) x.set(i, i == set);
    run_cuda("any", NoAttrs{}, {&x}, {&y});
    FOVEA_CHECK_CLOSE(y.at(0), set >= 0, 0);
    for (int64_t i = 0; i < 300; i++) x.set(i, i != set);
    run_cuda("all", NoAttrs{}, {&x}, {&y});
    FOVEA_CHECK_CLOSE(y.at(0), set < 0, 0);
  }
}

FOVEA_TEST(reduce_norms) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : {std::pair<int64_t, int64_t>{5, 64}, {17, 33}, {11, 1025}})
      for (double p : {0.0, 1.0, 2.0, 3.0, 0.5, double(INFINITY), -double(INFINITY)})
        check("norm", NormAttrs{p}, dtype, rows, n, [p](const Row& r) {
          long double sum = 0;
          double most = 0, least = INFINITY;
          for (double v : r.x) {
            sum += p == 0 ? v != 0 : std::pow(std::fabs(v), p);
            most = std::max(most, std::fabs(v)), least = std::min(least, std::fabs(v));
          }
          return std::isinf(p) ? (p > 0 ? most : least) : double(p == 0 ? sum : std::pow(sum, 1 / p));
        });
}

FOVEA_TEST(reduce_logsumexp) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes_for(dtype))
      check("logsumexp", NoAttrs{}, dtype, rows, n, [](const Row& r) {
        double sum = 0;
        for (double v : r.x) sum += std::exp(v);
        return std::log(sum);
      });
}

FOVEA_TEST(reduce_logsumexp_far_apart) {
  for (bool rising : {false, true})
    for (bool columns : {false, true}) {
      Tensor x = columns ? Tensor::strided(Dtype::f32, {4, 2000}, {1, 0}) : Tensor(Dtype::f32, {4, 2000}),
             y(Dtype::f32, {4});
      for (int64_t i = 0; i < x.size(); i++) x.set(i, double(rising ? i % 2000 : 1999 - i % 2000) - 1000);
      run_cuda("logsumexp", NoAttrs{}, {&x}, {&y});
      for (int64_t r = 0; r < 4; r++) FOVEA_CHECK_CLOSE(y.at(r), 999.4586751453871, 2e-4);
    }
}

FOVEA_TEST(reduce_variance) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes_for(dtype))
      for (Tensor& x : layouts(dtype, rows, n)) {
        // A mean far from zero: the textbook formula E x^2 - (E x)^2 would lose all digits.
        x.fill_random(5, 1000, 1002);
        Tensor y(dtype, leading_shape(x)), mean(accumulator_of(dtype), leading_shape(x));
        run_cuda("variance", VarianceAttrs{1}, {&x}, {&y, &mean});
        for (int64_t r = 0; r < y.size(); r++) {
          Row row = row_of(x, r);
          double centre = row.sum() / double(n), squares = 0;
          for (double v : row.x) squares += (v - centre) * (v - centre);
          double mean_error = tolerance(accumulator_of(dtype), centre, 1002, n);
          FOVEA_CHECK_CLOSE(mean.at(r), centre, mean_error);
          double expected = squares / double(n - 1);
          FOVEA_CHECK_CLOSE(y.at(r), expected,
                            1e-4 * std::fabs(expected) + mean_error * mean_error + 1e-7 + ulp(dtype, expected));
        }
      }
}

FOVEA_TEST(reduce_variance_of_special_values) {
  auto variance = [](const std::vector<double>& values, double correction, double* mean) {
    Tensor x = Tensor::from(Dtype::f32, {int64_t(values.size())}, values), y(Dtype::f32, {}), centre(Dtype::f32, {});
    run_cuda("variance", VarianceAttrs{correction}, {&x}, {&y, &centre});
    *mean = centre.at(0);
    return y.at(0);
  };
  double mean;
  FOVEA_CHECK_CLOSE(variance({3}, 0, &mean), 0, 0);
  FOVEA_CHECK_CLOSE(mean, 3, 0);
  FOVEA_CHECK_CLOSE(variance({3}, 1, &mean), NAN, 0);
  FOVEA_CHECK_CLOSE(variance({3, 5}, 5, &mean), INFINITY, 0);
  FOVEA_CHECK_CLOSE(variance({3, INFINITY, 1, 2}, 1, &mean), NAN, 0);
  FOVEA_CHECK_CLOSE(mean, INFINITY, 0);
  FOVEA_CHECK_CLOSE(variance({}, 0, &mean), NAN, 0);
  FOVEA_CHECK_CLOSE(mean, NAN, 0);
}

FOVEA_TEST(reduce_cumsum) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i32, Dtype::i64})
    for (auto [rows, n] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {5, 64}, {3, 1025}, {1, 20000}, {2, 20001}})
      for (Tensor& x : layouts(dtype, rows, n)) {
        fill(x, 9);
        Tensor y(dtype, {x.view.shape, x.view.shape + x.view.rank});
        run_cuda("cumsum", NoAttrs{}, {&x}, {&y});
        long double exact = 0;
        double scale = 0;
        for (int64_t i = 0; i < x.size(); i++) {
          if (i % n == 0) exact = scale = 0;
          exact += x.at(i), scale += std::fabs(x.at(i));
          const double sum = double(exact);
          FOVEA_CHECK_CLOSE(y.at(i), sum,
                            dtype == Dtype::i32 || dtype == Dtype::i64
                                ? 0
                                : tolerance(dtype, sum, scale, i % n + 1) + ulp(dtype, sum));
        }
      }
}

FOVEA_TEST(reduce_cumsum_keeps_nan_and_infinity_where_they_are) {
  Tensor x(Dtype::f32, {2, 2048}), y(Dtype::f32, {2, 2048});
  for (int64_t i = 0; i < x.size(); i++) x.set(i, 1);
  x.set(70, INFINITY), x.set(700, -INFINITY), x.set(2048 + 1027, NAN);
  run_cuda("cumsum", NoAttrs{}, {&x}, {&y});
  FOVEA_CHECK_CLOSE(y.at(69), 70, 0);
  FOVEA_CHECK_CLOSE(y.at(70), INFINITY, 0);
  FOVEA_CHECK_CLOSE(y.at(699), INFINITY, 0);
  FOVEA_CHECK_CLOSE(y.at(700), NAN, 0);
  FOVEA_CHECK_CLOSE(y.at(2048 + 1026), 1027, 0);
  FOVEA_CHECK_CLOSE(y.at(2048 + 1027), NAN, 0);
}

FOVEA_TEST(reduce_special_values) {
  auto reduce = [&](const char* op, const std::vector<double>& values) {
    Tensor x = Tensor::from(Dtype::f32, {int64_t(values.size())}, values), y(Dtype::f32, {});
    run_cuda(op, NoAttrs{}, {&x}, {&y});
    return y.at(0);
  };
  const double inf = INFINITY;
  FOVEA_CHECK_CLOSE(reduce("max", {1, NAN, 3}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduce("min", {NAN, 2, 3}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduce("max", {-inf, -inf}), -inf, 0);
  FOVEA_CHECK_CLOSE(reduce("min", {inf, inf}), inf, 0);
  FOVEA_CHECK_CLOSE(reduce("sum", {inf, -inf}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduce("sum", {}), 0, 0);
  FOVEA_CHECK_CLOSE(reduce("prod", {}), 1, 0);
  FOVEA_CHECK_CLOSE(reduce("prod", {1e30, 1e30, 1e-30, 1e-30}), 1, 1e-6);
  FOVEA_CHECK_CLOSE(reduce("mean", {}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {}), -inf, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {-inf, -inf}), -inf, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {inf, 1}), inf, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {inf, -inf}), inf, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {NAN, 1, inf}), NAN, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {-inf, 3}), 3, 0);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {1000, 1000}), 1000 + std::log(2), 1e-4);
  FOVEA_CHECK_CLOSE(reduce("logsumexp", {-1000, -1000}), -1000 + std::log(2), 1e-4);
  Tensor none(Dtype::f32, {2, 0}), y(Dtype::f32, {2}), index(Dtype::i64, {2}), empty(Dtype::boolean, {2, 0}),
      truth(Dtype::boolean, {2});
  for (const char* op : {"max", "min"})
    FOVEA_CHECK(code_of([&] { run_cuda(op, NoAttrs{}, {&none}, {&y}); }) == "FOVEA_SHAPE", "%s of nothing", op);
  for (const char* op : {"argmax", "argmin"})
    FOVEA_CHECK(code_of([&] { run_cuda(op, NoAttrs{}, {&none}, {&index}); }) == "FOVEA_SHAPE", "%s of nothing", op);
  FOVEA_CHECK(code_of([&] { run_cuda("norm", NormAttrs{inf}, {&none}, {&y}); }) == "FOVEA_SHAPE", "norm of nothing");
  run_cuda("any", NoAttrs{}, {&empty}, {&truth});
  FOVEA_CHECK_CLOSE(truth.at(1), 0, 0);
  run_cuda("all", NoAttrs{}, {&empty}, {&truth});
  FOVEA_CHECK_CLOSE(truth.at(1), 1, 0);
}

FOVEA_TEST(reduce_sum_is_accurate) {
  for (bool columns : {false, true}) {
    Tensor x = columns ? Tensor::strided(Dtype::f32, {4, 100000}, {1, 0}) : Tensor(Dtype::f32, {4, 100000}),
           y(Dtype::f32, {4});
    for (int64_t i = 0; i < x.size(); i++) x.set(i, 0.1);
    run_cuda("sum", NoAttrs{}, {&x}, {&y});
    for (int64_t r = 0; r < 4; r++) FOVEA_CHECK_CLOSE(y.at(r), 100000 * double(0.1f), 0.02);
  }
}

}  // namespace fovea::test
