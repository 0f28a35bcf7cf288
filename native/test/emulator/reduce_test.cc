// Reductions on the emulated device against a float64 model: all dtypes, layouts that take each of the kernels' ways
// (rows, columns, pieces, gathered, misaligned), sizes around the packs and groups of threads, NaN, infinities and
// empty axes.
#include "test/emulator/harness_cuda.h"
#include "test/reduce_model.h"

namespace fovea::test {
namespace {

// All rows but the first element of each, so that none begins where packs do.
Tensor misaligned(Dtype dtype, int64_t rows, int64_t n) {
  Tensor x(dtype, {rows, n + 1});
  x.view.data += kDtypeBytes[int(dtype)], x.view.shape[1] = n;
  return x;
}
std::vector<Tensor> layouts(Dtype dtype, int64_t rows, int64_t n) {
  std::vector<Tensor> list = common_layouts(dtype, rows, n);
  list.push_back(Tensor::strided(dtype, {rows, n}, {1, 0}, 2));
  list.push_back(Tensor::expanded(dtype, {rows, n}, {true, false}));
  list.push_back(Tensor::strided(dtype, {1, rows, 3, n}, {0, 1, 3, 2}));
  list.push_back(Tensor::strided(dtype, {3, rows, n}, {2, 1, 0}));
  list.push_back(Tensor::strided(dtype, {2, rows, 4, n}, {3, 0, 1, 2}));
  return list;
}
// One type takes those that are cut in pieces, so that the test is quick.
Shapes shapes_for(Dtype dtype) {
  Shapes shapes = {{1, 1}, {3, 7}, {5, 64}, {17, 33}, {64, 40}, {11, 1025}};
  if (dtype == Dtype::f32) shapes.push_back({2, 10001}), shapes.push_back({96, 300}), shapes.push_back({530, 5});
  return shapes;
}

const Reductions<RunCuda> kDevice = {{}, layouts, shapes_for};

}  // namespace

FOVEA_TEST(reduce_sum_and_mean) { check_sum_and_mean(kDevice); }
FOVEA_TEST(reduce_extrema) { check_extrema(kDevice); }
FOVEA_TEST(reduce_extremum_indices) { check_extremum_indices(kDevice); }
FOVEA_TEST(reduce_norms) { check_norms(kDevice); }
FOVEA_TEST(reduce_logsumexp) { check_logsumexp(kDevice); }
FOVEA_TEST(reduce_variance) { check_variance(kDevice); }
FOVEA_TEST(reduce_cumsum) {
  check_cumsum<long double>(kDevice, {{1, 1}, {3, 7}, {5, 64}, {3, 1025}, {1, 20000}, {2, 20001}});
}
FOVEA_TEST(reduce_special_values) {
  check_reduced_special_values(RunCuda{}), check_reductions_of_nothing(RunCuda{});
  FOVEA_CHECK_CLOSE(reduced(RunCuda{}, "prod", {1e30, 1e30, 1e-30, 1e-30}), 1, 1e-6);
}

FOVEA_TEST(reduce_product_and_truth) {
  check_product_and_truth(kDevice);
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

FOVEA_TEST(reduce_misaligned_rows) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::i8})
    for (int64_t n : {16, 100, 20001}) {
      Tensor x = misaligned(dtype, 3, n), y(dtype, {3}), place(Dtype::i64, {3});
      fill_summands(x, 3);
      run_cuda("max", NoAttrs{}, {&x}, {&y});
      run_cuda("argmax", NoAttrs{}, {&x}, {&place});
      for (int64_t r = 0; r < 3; r++) {
        Row row(x, r);
        const auto best = std::max_element(row.x.begin(), row.x.end());
        FOVEA_CHECK_CLOSE(y.at(r), *best, 0);
        FOVEA_CHECK_CLOSE(place.at(r), double(best - row.x.begin()), 0);
      }
      if (dtype == Dtype::i8) continue;
      run_cuda("sum", NoAttrs{}, {&x}, {&y});
      for (int64_t r = 0; r < 3; r++) {
        Row row(x, r);
        FOVEA_CHECK_CLOSE(y.at(r), row.sum(), reduce_tolerance(dtype, row.sum(), row.magnitude(), n));
      }
    }
}

FOVEA_TEST(reduce_columns_that_are_misaligned) {
  for (Dtype dtype : {Dtype::f32, Dtype::f16}) {
    Tensor x = misaligned(dtype, 40, 47), y(dtype, {47});
    x.view.shape[0] = 47, x.view.shape[1] = 40, x.view.strides[0] = 1, x.view.strides[1] = 48;  // transposed
    fill_summands(x, 5);
    run_cuda("sum", NoAttrs{}, {&x}, {&y});
    for (int64_t r = 0; r < 47; r++) {
      Row row(x, r);
      FOVEA_CHECK_CLOSE(y.at(r), row.sum(), reduce_tolerance(dtype, row.sum(), row.magnitude(), 40));
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
