// Stable sort and top-k against std::stable_sort: all dtypes, many duplicates, NaN, -0, both orders, strided rows.
#include <algorithm>
#include <numeric>

#include "ops/sorting/attrs.h"
#include "ops/sorting/workspace.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(sorting)

namespace fovea::test {
namespace {

void fill(Tensor& x, uint64_t seed, double spread) {
  bool is_unsigned = x.dtype() == Dtype::u8;
  x.fill_random(seed, is_unsigned ? 0 : -spread, spread);
  if (!(set_of(x.dtype()) & kFloatTypes) || x.size() < 8) return;
  x.set(1, 0.0), x.set(3, -0.0), x.set(4, NAN), x.set(6, -INFINITY), x.set(7, std::copysign(NAN, -1.0));
}
// Positions of row `row` in sorted order; NaN is the largest, equals keep their order.
std::vector<int64_t> order_of(const Tensor& x, int64_t row, bool descending) {
  int64_t n = x.view.dim(-1);
  std::vector<int64_t> order(size_t(n), 0);
  std::iota(order.begin(), order.end(), 0);
  auto less = [&](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    double u = x.at(row * n + a), v = x.at(row * n + b);
    return descending ? less(v, u) : less(u, v);
  });
  return order;
}
// The first k columns of values and indices are those of the model, bit for bit.
void check_rows(const Table& table, const char* op, const Tensor& x, int64_t k, bool descending, const Tensor& values,
                const Tensor& indices) {
  int64_t n = x.view.dim(-1);
  for (int64_t row = 0; row < x.size() / n; row++) {
    std::vector<int64_t> order = order_of(x, row, descending);
    for (int64_t i = 0; i < k; i++) {
      int64_t expected = order[size_t(i)];
      FOVEA_CHECK(indices.at(row * k + i) == double(expected),
                  "%s %s %s n=%lld k=%lld place %lld holds %g, expected %lld", table.isa, op,
                  kDtypeNames[int(x.dtype())], (long long)n, (long long)k, (long long)i, indices.at(row * k + i),
                  (long long)expected);
      FOVEA_CHECK(std::memcmp(values.bytes(row * k + i), x.bytes(row * n + expected), bytes_of(x.dtype())) == 0,
                  "%s %s", table.isa, op);
    }
  }
}

}  // namespace

FOVEA_TEST(sorting_sort) {
  for (const Table& table : tables_of_sorting())
    for (Dtype dtype : kAll)
      for (int64_t n : {1, 2, 33, 64, 65, 1000, 5003})
        for (double spread : {2.0, 100.0})
          for (bool descending : {false, true}) {
            Tensor x = Tensor::strided(dtype, {3, n}, {1, 0}), values(dtype, {3, n}), indices(Dtype::i64, {3, n});
            fill(x, uint64_t(n), spread);
            run(table, "sort", SortAttrs{descending}, {&x}, {&values, &indices}, 2, size_t(4 * n) * sizeof(WideItem));
            check_rows(table, "sort", x, n, descending, values, indices);
          }
}

FOVEA_TEST(sorting_topk) {
  for (const Table& table : tables_of_sorting())
    for (Dtype dtype : kAll)
      for (int64_t n : {1, 33, 1000, 5003})
        for (int64_t k : {1, 7, 50, 300, 5003})
          for (bool largest : {false, true}) {
            if (k > n) continue;
            Tensor x(dtype, {2, n}), values(dtype, {2, k}), indices(Dtype::i64, {2, k});
            fill(x, uint64_t(n + k), 100);
            run(table, "topk", TopkAttrs{k, largest}, {&x}, {&values, &indices}, 2,
                size_t(4 * topk_candidates(k)) * sizeof(WideItem));
            check_rows(table, "topk", x, k, largest, values, indices);
          }
}

// Every element beats those before it: the candidates overflow again and again.
FOVEA_TEST(sorting_topk_of_ascending_rows) {
  for (const Table& table : tables_of_sorting()) {
    const int64_t n = 50257, k = 50;
    Tensor x(Dtype::f32, {1, n}), values(Dtype::f32, {1, k}), indices(Dtype::i64, {1, k});
    for (int64_t i = 0; i < n; i++) x.set(i, double(i));
    run(table, "topk", TopkAttrs{k, true}, {&x}, {&values, &indices}, 1,
        size_t(2 * topk_candidates(k)) * sizeof(WideItem));
    for (int64_t i = 0; i < k; i++) FOVEA_CHECK_CLOSE(indices.at(i), double(n - 1 - i), 0);
    FOVEA_CHECK(error_of(table, "topk", TopkAttrs{n + 1, true}, {&x}, {&values, &indices}) == "FOVEA_ARGUMENT",
                "k beyond n");
    Tensor none(Dtype::f32, {1, 0}), no_index(Dtype::i64, {1, 0});
    run(table, "topk", TopkAttrs{0, true}, {&x}, {&none, &no_index});
    run(table, "sort", SortAttrs{}, {&none}, {&none, &no_index});
  }
}

}  // namespace fovea::test
