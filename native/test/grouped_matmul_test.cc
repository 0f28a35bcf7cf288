// Products of groups of rows against a plain float64 model: groups of no, few and many rows, every layout, all dtypes,
// the same bits for every number of threads, and offsets that are refused.
#include "ops/matmul/attrs.h"
#include "ops/matmul/workspace.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY_WITH_AMX(matmul)

namespace fovea::test {
namespace {

using Ends = std::vector<int64_t>;

Tensor offsets(const Ends& ends, Dtype dtype = Dtype::i32) {
  return Tensor::from(dtype, {int64_t(ends.size())}, std::vector<double>(ends.begin(), ends.end()));
}
size_t workspace_of(Tensor& a, Tensor& b, Tensor& offs, Tensor& c, bool outer, int threads) {
  View in[3] = {a.view, b.view, offs.view};
  auto bytes = outer ? grouped_outer_workspace : grouped_matmul_workspace;
  return bytes({in, 3}, {&c.view, 1}, nullptr, threads);
}
void run_groups(const Table& table, Tensor& a, Tensor& b, Tensor& offs, Tensor& c, bool outer, int threads) {
  run(table, outer ? "groupedOuter" : "groupedMatmul", NoAttrs{}, {&a, &b, &offs}, {&c}, threads,
      workspace_of(a, b, offs, c, outer, threads));
}

// The expected values, and with each the sum of the magnitudes that it was summed from, which bounds the error.
struct Expected {
  std::vector<double> values, magnitudes;
};
// a [t, k], b [groups, k, n], c [t, n]; outer: a [t, k], b [t, n], c [groups, k, n].
Expected model(const Tensor& a, const Tensor& b, const Ends& ends, const Tensor& c, bool outer) {
  int64_t k = a.view.dim(1), n = c.view.dim(-1);
  std::vector<double> x = a.values(), y = b.values();
  Expected e{std::vector<double>(size_t(c.size())), std::vector<double>(size_t(c.size()))};
  int64_t group = 0;
  for (int64_t row = 0; row < a.view.dim(0); row++) {
    while (row >= ends[size_t(group)]) group++;
    for (int64_t p = 0; p < k; p++)
      for (int64_t j = 0; j < n; j++) {
        int64_t matrix = (group * k + p) * n + j, line = row * n + j;
        double term = x[size_t(row * k + p)] * y[size_t(outer ? line : matrix)];
        int64_t to = outer ? matrix : line;
        e.values[size_t(to)] += term, e.magnitudes[size_t(to)] += std::fabs(term);
      }
  }
  return e;
}

// |error| <= 2 sqrt(terms) epsilon |a||b| in the type that is summed in, and one rounding to the storage type.
void check(const Table& table, Tensor& a, Tensor& b, const Ends& ends, const std::vector<int64_t>& shape, bool outer,
           const char* what) {
  Tensor offs = offsets(ends);
  Tensor c(a.dtype(), shape), again(a.dtype(), shape), third(a.dtype(), shape);
  run_groups(table, a, b, offs, c, outer, 2);
  Expected expected = model(a, b, ends, c, outer);
  double sum_epsilon = epsilon(a.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32);
  int64_t terms = a.view.dim(outer ? 0 : 1), wrong = 0, first = 0;
  for (int64_t i = 0; i < c.size(); i++) {
    double value = expected.values[size_t(i)];
    double tolerance = 2 * std::sqrt(double(terms + 1)) * sum_epsilon * expected.magnitudes[size_t(i)] +
                       0.5000001 * ulp(a.dtype(), value);
    if (!close(c.at(i), value, tolerance) && wrong++ == 0) first = i;
  }
  FOVEA_CHECK(wrong == 0, "%s %s %s k=%lld n=%lld %s: %lld wrong, the first at %lld", table.isa, name_of(a.dtype()),
              outer ? "outer" : "rows", static_cast<long long>(a.view.dim(1)), static_cast<long long>(c.view.dim(-1)),
              what, static_cast<long long>(wrong), static_cast<long long>(first));
  run_groups(table, a, b, offs, again, outer, 1), run_groups(table, a, b, offs, third, outer, 5);
  FOVEA_CHECK(c.same_bits(again) && c.same_bits(third), "%s %s %s: the number of threads changes bits", table.isa,
              name_of(a.dtype()), what);
}

Tensor filled(Tensor t, uint64_t seed) {
  t.fill_random(seed);
  return t;
}
Tensor matrix(Dtype dtype, int64_t rows, int64_t columns, bool turned, uint64_t seed) {
  return filled(Tensor::strided(dtype, {rows, columns}, turned ? std::vector{1, 0} : std::vector{0, 1}), seed);
}

void check_both(const Table& table, Dtype dtype, const Ends& ends, int64_t k, int64_t n) {
  const int64_t t = ends.back(), groups = int64_t(ends.size());
  const std::vector<int> orders[] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}};
  for (bool turned : {false, true}) {
    Tensor a = matrix(dtype, t, k, turned, 1);
    for (const std::vector<int>& order : orders) {
      Tensor b = filled(Tensor::strided(dtype, {groups, k, n}, order), 2);
      check(table, a, b, ends, {t, n}, false, turned ? "turned" : "");
    }
    for (bool other : {false, true}) {
      Tensor b = matrix(dtype, t, n, other, 3);
      check(table, a, b, ends, {groups, k, n}, true, turned ? "turned" : "");
    }
  }
}

FOVEA_TEST(grouped_matmul_of_every_size_of_group) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kFloats)
      for (auto [k, n] :
           std::initializer_list<std::pair<int64_t, int64_t>>{{1, 1}, {19, 37}, {8, 70}, {70, 8}, {33, 64}})
        check_both(table, dtype, {0, 1, 3, 3, 11, 20, 34, 64, 64}, k, n);
}

FOVEA_TEST(grouped_matmul_tall_wide_and_deep) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16}) {
      check_both(table, dtype, {10, 360}, 21, 33);
      check_both(table, dtype, {12, 15}, 5, 1100);
      check_both(table, dtype, {9, 40}, 2060, 35);
      check_both(table, dtype, {520, 525, 1045}, 9, 12);
      check_both(table, dtype, {2070}, 9, 9);
    }
}

FOVEA_TEST(grouped_matmul_of_nothing) {
  for (const Table& table : tables_of_matmul()) {
    check_both(table, Dtype::f32, {3, 5}, 0, 4);
    check_both(table, Dtype::f32, {3, 5}, 4, 0);
    check_both(table, Dtype::f32, {0, 0}, 4, 3);
  }
}

FOVEA_TEST(grouped_matmul_refuses_offsets) {
  for (const Table& table : tables_of_matmul())
    for (bool outer : {false, true})
      for (Dtype dtype : kInts)
        for (const Ends& ends : {Ends{5, 4}, Ends{2, 3}, Ends{2, 5}, Ends{3, 2, 4}}) {
          int64_t groups = int64_t(ends.size());
          Tensor a = matrix(Dtype::f32, 4, 2, false, 1), b(Dtype::f32, {groups, 2, 3}), rows(Dtype::f32, {4, 3}),
                 offs = offsets(ends, dtype);
          Tensor &second = outer ? rows : b, &c = outer ? b : rows;
          second.fill_random(2);
          FOVEA_CHECK(error_of(table, outer ? "groupedOuter" : "groupedMatmul", NoAttrs{}, {&a, &second, &offs}, {&c},
                               workspace_of(a, second, offs, c, outer, 2)) == "FOVEA_INDEX",
                      "%s: wrong offsets were accepted", table.isa);
        }
}

}  // namespace
}  // namespace fovea::test
