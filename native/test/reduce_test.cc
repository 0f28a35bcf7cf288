// Reductions against a float64 model: all dtypes, layouts that take each of the kernel's ways (rows, columns, pieces,
// gathered), sizes around the block and vector lengths, NaN, infinities and empty axes.
#include <algorithm>
#include <functional>

#include "ops/reduce/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(reduce)

namespace fovea::test {
namespace {

constexpr size_t kWorkspace = size_t(18) * 8192 * 8;

// Rows of n elements, laid out in the ways that callers do.
std::vector<Tensor> layouts(Dtype dtype, int64_t rows, int64_t n) {
  std::vector<Tensor> list;
  list.push_back(Tensor(dtype, {rows, n}));
  list.push_back(Tensor::strided(dtype, {rows, n}, {1, 0}));
  list.push_back(Tensor::strided(dtype, {rows, n}, {0, 1}, 3));
  list.push_back(Tensor::expanded(dtype, {rows, n}, {false, true}));
  list.push_back(Tensor::strided(dtype, {1, rows, 2, n}, {0, 1, 3, 2}));
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
  for (const Table& table : tables_of_reduce()) {
    int layout = 0;
    for (Tensor& x : layouts(dtype, rows, n)) {
      fill(x, uint64_t(7 + rows + n));
      Tensor y(dtype, leading_shape(x));
      run(table, op, attrs, {&x}, {&y}, 2, kWorkspace);
      for (int64_t r = 0; r < y.size(); r++) {
        Row row = row_of(x, r);
        double expected = model(row),
               allowed = exact ? 0 : tolerance(dtype, expected, std::max(std::fabs(expected), row.magnitude()), n);
        if (std::isinf(round_to(dtype, expected))) expected = round_to(dtype, expected);
        FOVEA_CHECK(close(y.at(r), expected, allowed),
                    "%s %s %s layout %d [%lld, %lld] row %lld: %.9g, expected %.9g within %.3g", table.isa, op,
                    kDtypeNames[int(dtype)], layout, (long long)rows, (long long)n, (long long)r, y.at(r), expected,
                    allowed);
      }
      layout++;
    }
  }
}

using Shapes = std::vector<std::pair<int64_t, int64_t>>;
// The last two are cut in pieces; one type takes them, so that the test is quick under sanitizers and qemu.
Shapes shapes_for(Dtype dtype) {
  Shapes shapes = {{1, 1}, {3, 7}, {5, 64}, {17, 33}, {11, 1025}, {530, 5}};
  if (dtype == Dtype::f32) shapes.push_back({2, 70001}), shapes.push_back({600, 230});
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
  for (const Table& table : tables_of_reduce())
    for (Dtype dtype : kAll)
      for (auto [rows, n] : shapes_for(dtype))
        for (Tensor& x : layouts(dtype, rows, n)) {
          fill(x, uint64_t(3 + n));
          if (dtype == Dtype::f32 && n > 20) x.set(n / 2, NAN), x.set(n / 2 + 3, NAN);
          Tensor largest(Dtype::i64, leading_shape(x)), smallest(Dtype::i64, leading_shape(x));
          run(table, "argmax", NoAttrs{}, {&x}, {&largest}, 2, kWorkspace);
          run(table, "argmin", NoAttrs{}, {&x}, {&smallest}, 2, kWorkspace);
          for (int64_t r = 0; r < largest.size(); r++) {
            Row row = row_of(x, r);
            auto below = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
            auto above = [](double a, double b) { return std::isnan(a) ? !std::isnan(b) : a < b; };
            FOVEA_CHECK_CLOSE(largest.at(r),
                              double(std::max_element(row.x.begin(), row.x.end(), below) - row.x.begin()), 0);
            FOVEA_CHECK_CLOSE(smallest.at(r),
                              double(std::min_element(row.x.begin(), row.x.end(), above) - row.x.begin()), 0);
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

FOVEA_TEST(reduce_variance) {
  for (const Table& table : tables_of_reduce())
    for (Dtype dtype : kFloats)
      for (auto [rows, n] : shapes_for(dtype))
        for (Tensor& x : layouts(dtype, rows, n)) {
          // A mean far from zero: the textbook formula E x^2 - (E x)^2 would lose all digits.
          x.fill_random(5, 1000, 1002);
          Tensor y(dtype, leading_shape(x)), mean(accumulator_of(dtype), leading_shape(x));
          run(table, "variance", VarianceAttrs{1}, {&x}, {&y, &mean}, 2, kWorkspace);
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

FOVEA_TEST(reduce_cumsum) {
  for (const Table& table : tables_of_reduce())
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i32, Dtype::i64})
      for (auto [rows, n] : {std::pair<int64_t, int64_t>{3, 7}, {11, 1025}, {1, 5000}})
        for (Tensor& x : layouts(dtype, rows, n)) {
          fill(x, 9);
          Tensor y(dtype, {x.view.shape, x.view.shape + x.view.rank});
          run(table, "cumsum", NoAttrs{}, {&x}, {&y});
          double sum = 0, scale = 0;
          for (int64_t i = 0; i < x.size(); i++) {
            if (i % n == 0) sum = scale = 0;
            sum += x.at(i), scale += std::fabs(x.at(i));
            FOVEA_CHECK_CLOSE(y.at(i), sum,
                              dtype == Dtype::i32 || dtype == Dtype::i64
                                  ? 0
                                  : tolerance(dtype, sum, scale, i % n + 1) + ulp(dtype, sum));
          }
        }
}

FOVEA_TEST(reduce_special_values) {
  for (const Table& table : tables_of_reduce()) {
    auto reduce = [&](const char* op, const std::vector<double>& values) {
      Tensor x = Tensor::from(Dtype::f32, {int64_t(values.size())}, values), y(Dtype::f32, {});
      run(table, op, NoAttrs{}, {&x}, {&y}, 2, 4096);
      return y.at(0);
    };
    const double inf = INFINITY;
    FOVEA_CHECK_CLOSE(reduce("max", {1, NAN, 3}), NAN, 0);
    FOVEA_CHECK_CLOSE(reduce("min", {NAN, 2, 3}), NAN, 0);
    FOVEA_CHECK_CLOSE(reduce("max", {-inf, -inf}), -inf, 0);
    FOVEA_CHECK_CLOSE(reduce("sum", {inf, -inf}), NAN, 0);
    FOVEA_CHECK_CLOSE(reduce("sum", {}), 0, 0);
    FOVEA_CHECK_CLOSE(reduce("prod", {}), 1, 0);
    FOVEA_CHECK_CLOSE(reduce("mean", {}), NAN, 0);
    FOVEA_CHECK_CLOSE(reduce("logsumexp", {}), -inf, 0);
    FOVEA_CHECK_CLOSE(reduce("logsumexp", {-inf, -inf}), -inf, 0);
    FOVEA_CHECK_CLOSE(reduce("logsumexp", {inf, 1}), inf, 0);
    FOVEA_CHECK_CLOSE(reduce("logsumexp", {1000, 1000}), 1000 + std::log(2), 1e-4);
    Tensor none(Dtype::f32, {2, 0}), y(Dtype::f32, {2}), index(Dtype::i64, {2});
    for (const char* op : {"max", "min"})
      FOVEA_CHECK(error_of(table, op, NoAttrs{}, {&none}, {&y}) == "FOVEA_SHAPE", "%s of nothing", op);
    for (const char* op : {"argmax", "argmin"})
      FOVEA_CHECK(error_of(table, op, NoAttrs{}, {&none}, {&index}) == "FOVEA_SHAPE", "%s of nothing", op);
  }
}

FOVEA_TEST(reduce_sum_is_accurate_and_the_same_for_every_thread_count) {
  for (const Table& table : tables_of_reduce())
    for (int layout = 0; layout < 2; layout++) {
      Tensor x = layout ? Tensor::strided(Dtype::f32, {16, 100000}, {1, 0}) : Tensor(Dtype::f32, {16, 100000});
      for (int64_t i = 0; i < x.size(); i++) x.set(i, 0.1);
      Tensor one(Dtype::f32, {16}), four(Dtype::f32, {16});
      run(table, "sum", NoAttrs{}, {&x}, {&one}, 1, kWorkspace);
      run(table, "sum", NoAttrs{}, {&x}, {&four}, 4, kWorkspace);
      FOVEA_CHECK(one.same_bits(four), "%s", table.isa);
      FOVEA_CHECK_CLOSE(one.at(0), 100000 * double(0.1f), 100000 * 0.1 * 2 * std::sqrt(100000.) * 0x1p-23);
    }
}

}  // namespace fovea::test
