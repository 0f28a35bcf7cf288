// Sort and top-k on the emulated device against std::stable_sort: rows in shared memory, radix passes over one tile and
// several, selection, all dtypes, many duplicates, NaN, -0, both orders, strided rows.
#include "ops/sorting/attrs.h"

#include <algorithm>
#include <numeric>

#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

void fill(Tensor& x, uint64_t seed, double spread) {
  x.fill_random(seed, x.dtype() == Dtype::u8 ? 0 : -spread, spread);
  if (!(set_of(x.dtype()) & kFloatTypes) || x.size() < 9) return;
  x.set(1, 0.0), x.set(3, -0.0), x.set(4, NAN), x.set(5, INFINITY), x.set(6, -INFINITY);
  x.set(7, std::copysign(NAN, -1.0)), x.set(8, 0.0);
}
// Positions of row `row` in sorted order; NaN is the largest, equals keep their order.
std::vector<int64_t> order_of(const Tensor& x, int64_t row, bool descending) {
  const int64_t n = x.view.dim(-1);
  std::vector<double> values(size_t(n), 0);
  for (int64_t i = 0; i < n; i++) values[size_t(i)] = x.at(row * n + i);
  std::vector<int64_t> order(size_t(n), 0);
  std::iota(order.begin(), order.end(), 0);
  auto less = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const double u = values[size_t(a)], v = values[size_t(b)];
    return descending ? less(v, u) : less(u, v);
  });
  return order;
}
// The first k columns of values and indices are those of the model, bit for bit.
void check_rows(const char* op, const Tensor& x, int64_t k, bool descending, const Tensor& values,
                const Tensor& indices) {
  const int64_t n = x.view.dim(-1);
  for (int64_t row = 0; row < x.size() / n; row++) {
    const std::vector<int64_t> order = order_of(x, row, descending);
    for (int64_t i = 0; i < k; i++) {
      const int64_t expected = order[size_t(i)];
      FOVEA_CHECK(indices.at(row * k + i) == double(expected), "%s %s n=%lld k=%lld row %lld place %lld: %g, not %lld",
                  op, kDtypeNames[int(x.dtype())], (long long)n, (long long)k, (long long)row, (long long)i,
                  indices.at(row * k + i), (long long)expected);
      FOVEA_CHECK(std::memcmp(values.bytes(row * k + i), x.bytes(row * n + expected), bytes_of(x.dtype())) == 0,
                  "%s %s value %lld", op, kDtypeNames[int(x.dtype())], (long long)i);
    }
  }
}
void check_sort(Tensor& x, bool descending) {
  Tensor values(x.dtype(), {x.view.dim(0), x.view.dim(1)}), indices(Dtype::i64, {x.view.dim(0), x.view.dim(1)});
  run_cuda("sort", SortAttrs{descending}, {&x}, {&values, &indices});
  check_rows("sort", x, x.view.dim(-1), descending, values, indices);
}
void check_topk(Tensor& x, int64_t k, bool largest) {
  Tensor values(x.dtype(), {x.view.dim(0), k}), indices(Dtype::i64, {x.view.dim(0), k});
  run_cuda("topk", TopkAttrs{k, largest}, {&x}, {&values, &indices});
  check_rows("topk", x, k, largest, values, indices);
}
// The largest values that make every byte of a key count.
double widest(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
    case Dtype::i64: return 9e18;
    case Dtype::f32: return 1e30;
    case Dtype::f16: return 6e4;
    case Dtype::i32: return 2e9;
    case Dtype::i8: return 127;
    default: return 255;
  }
}

}  // namespace

FOVEA_TEST(sorting_short_rows) {
  for (Dtype dtype : kAll)
    for (int64_t n : {1, 2, 33, 64, 1000, 2048})
      for (bool descending : {false, true}) {
        Tensor x = Tensor::strided(dtype, {3, n}, {1, 0});
        for (double spread : {2.0, widest(dtype)}) fill(x, uint64_t(n), spread), check_sort(x, descending);
      }
}

FOVEA_TEST(sorting_many_rows) {
  for (int64_t n : {1, 3, 50, 700}) {
    Tensor x(Dtype::f32, {n < 100 ? 2500 / n : 5, n});
    fill(x, 3, 4);
    check_sort(x, true);
    check_topk(x, (n + 1) / 2, false);
  }
}

FOVEA_TEST(sorting_long_rows) {
  for (Dtype dtype : kAll)
    for (int64_t n : {2049, 4096, 5003})
      for (bool descending : {false, true}) {
        Tensor x = Tensor::strided(dtype, {2, n}, {1, 0}, 1 + (n == 5003));
        fill(x, uint64_t(n), descending ? 2.0 : widest(dtype));
        check_sort(x, descending);
      }
}

// More tiles than one step of a scan takes.
FOVEA_TEST(sorting_many_tiles) {
  for (Dtype dtype : {Dtype::f16, Dtype::u8}) {
    Tensor x(dtype, {1, 36 * 2048 + 5});
    fill(x, 1, 200);
    check_sort(x, false);
  }
}

// Rows of views: a leading axis that repeats, and axes that do not merge.
FOVEA_TEST(sorting_views) {
  for (int64_t n : {40, 2100}) {
    Tensor x = Tensor::expanded(Dtype::i32, {2, 3, n}, {false, true, false}), values(Dtype::i32, {2, 3, n}),
           indices(Dtype::i64, {2, 3, n});
    for (int64_t i = 0; i < x.size(); i++) x.set(i, double((i % n * 7919 + i / (3 * n)) % 1013));
    run_cuda("sort", SortAttrs{true}, {&x}, {&values, &indices});
    check_rows("sort", x, n, true, values, indices);
    Tensor same = Tensor::expanded(Dtype::f32, {2, n}, {false, true});
    same.set(0, 3), same.set(n, -1);
    check_sort(same, false);
    check_topk(same, 5, true);
  }
}

FOVEA_TEST(sorting_topk) {
  for (Dtype dtype : kAll)
    for (int64_t n : {1, 33, 2048, 5003})
      for (int64_t k : {1, 7, 256, 300, 5003})
        for (bool largest : {false, true}) {
          if (k > n) continue;
          Tensor x = Tensor::strided(dtype, {2, n}, {1, 0});
          fill(x, uint64_t(n + k), k == 7 ? 3.0 : widest(dtype));
          check_topk(x, k, largest);
        }
}

// Long rows are cut into slices: 16384 elements into two, 50257 into six.
FOVEA_TEST(sorting_topk_of_slices) {
  for (int64_t n : {16384, 50257})
    for (int64_t k : {1, 50, 256})
      for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f64, Dtype::u8}) {
        Tensor x(dtype, {1, n});
        fill(x, uint64_t(k), 100);
        check_topk(x, k, true);
      }
  Tensor ascending(Dtype::f32, {1, 50257}), same(Dtype::i8, {1, 50257});
  for (int64_t i = 0; i < same.size(); i++) ascending.set(i, double(i)), same.set(i, 1);
  for (bool largest : {false, true}) check_topk(ascending, 50, largest), check_topk(same, 50, largest);
}

// All of the best belong to few threads, so that their bests bound little: keys are bisected, then places among equals.
FOVEA_TEST(sorting_topk_bisects) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::u8}) {
    const int64_t n = 30000, k = 250;
    Tensor x(dtype, {20, n});  // so many rows that none is cut
    for (int64_t i = 0; i < x.size(); i++) {
      const int64_t place = i % n, row = i / n;
      x.set(i, place % 512 < 100 ? double(200 + (row % 2 ? place / 512 % 50 : 0)) : double(place % 100));
    }
    check_topk(x, k, true);
  }
}

FOVEA_TEST(sorting_nothing_to_sort) {
  Tensor none(Dtype::f32, {3, 0}), no_index(Dtype::i64, {3, 0}), x = Tensor::random(Dtype::f32, {3, 9}, 1),
                                                                 one(Dtype::f32, {3, 10}), index(Dtype::i64, {3, 10});
  run_cuda("sort", SortAttrs{}, {&none}, {&none, &no_index});
  run_cuda("topk", TopkAttrs{0, true}, {&none}, {&none, &no_index});
  run_cuda("topk", TopkAttrs{0, true}, {&x}, {&none, &no_index});
  for (int64_t k : {-1, 10}) {
    std::string text = "accepted";
    try {
      run_cuda("topk", TopkAttrs{k, true}, {&x}, {&one, &index});
    } catch (const Error& error) { text = std::string(error.code) + " " + error.what(); }
    FOVEA_CHECK(text == format("FOVEA_ARGUMENT topk: k is %lld, but the axis has 9 elements; k must lie between 0 and "
                               "that",
                               (long long)k),
                "%s", text.c_str());
  }
}

}  // namespace fovea::test
