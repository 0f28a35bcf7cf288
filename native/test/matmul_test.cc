// Matrix products against a plain float64 model: odd sizes, every stride pattern, broadcasting, all dtypes, special
// values, and the same bits for every number of threads.
#include <array>

#include "ops/matmul/workspace.h"
#include "test/activation_model.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY_WITH_AMX(matmul)

namespace fovea::test {
namespace {

using Shape = std::vector<int64_t>;
using Sizes = std::array<int64_t, 3>;  // m, n, k

void run_matmul(const Table& table, const MatmulAttrs& attrs, Tensor& a, Tensor& b, Tensor* bias, Tensor& c,
                int threads = 2, Tensor* packed = nullptr, Tensor* residual = nullptr) {
  auto view = [](Tensor* t) { return t ? t->view : View{}; };
  View in[5] = {a.view, b.view, view(bias), view(packed), view(residual)};
  size_t workspace = matmul_workspace({in, 5}, {&c.view, 1}, &attrs, threads);
  run(table, "matmul", attrs, {&a, &b, bias, packed, residual}, {&c}, threads, workspace);
}

// The expected values, and with each the sum of the magnitudes that it was summed from, which bounds the error; what an
// activation makes of it is included. `errors` are those of the activation itself.
struct Expected {
  std::vector<double> values, magnitudes, errors;
};
Expected model(const MatmulAttrs& attrs, const Tensor& a, const Tensor& b, const Tensor* bias, const Tensor* residual,
               const Tensor& c) {
  int64_t m = c.view.dim(-2), n = c.view.dim(-1), k = a.view.dim(-1);
  std::vector<double> x = a.values(), y = b.values(), z = bias ? bias->values() : std::vector<double>(),
                      r = residual ? residual->values() : std::vector<double>(size_t(c.size()));
  MatmulActivation activation{attrs.activation};
  double slope = activation == MatmulActivation::none ? 1 : kSteepest;
  Expected e;
  for (int64_t i = 0; i < c.size(); i++) {
    int64_t batch = i / (m * n), row = i / n % m, column = i % n;
    double sum = 0, magnitude = 0;
    for (int64_t p = 0; p < k; p++) {
      double term = x[size_t((batch * m + row) * k + p)] * y[size_t((batch * k + p) * n + column)];
      sum += term, magnitude += std::fabs(term);
    }
    bool biased = bias && attrs.beta != 0;
    double y = activated(activation, attrs.alpha * sum + (biased ? attrs.beta * z[size_t(i)] : 0));
    e.values.push_back(y + r[size_t(i)]), e.errors.push_back(activation_error(activation, a.dtype(), y));
    e.magnitudes.push_back(
        slope * (std::fabs(attrs.alpha) * magnitude + (biased ? std::fabs(attrs.beta * z[size_t(i)]) : 0)) +
        std::fabs(r[size_t(i)]));
  }
  return e;
}

// |error| <= 2 sqrt(k) epsilon |a||b| in the type that is summed in, and one rounding to the storage type.
void check(const Table& table, const MatmulAttrs& attrs, Tensor& a, Tensor& b, Tensor* bias, Shape shape,
           const char* what, Tensor* packed = nullptr, Tensor* residual = nullptr) {
  Tensor c(a.dtype(), shape);
  run_matmul(table, attrs, a, b, bias, c, 2, packed, residual);
  Expected expected = model(attrs, a, b, bias, residual, c);
  bool exact = a.dtype() == Dtype::i32 || a.dtype() == Dtype::i64;
  double sum_epsilon = a.dtype() == Dtype::f64 ? epsilon(Dtype::f64) : epsilon(Dtype::f32);
  int64_t k = a.view.dim(-1), wrong = 0, first = -1;
  for (int64_t i = 0; i < c.size(); i++) {
    double value = expected.values[size_t(i)], tolerance = 0;
    if (!exact)
      tolerance = 2 * std::sqrt(double(k + 2)) * sum_epsilon * expected.magnitudes[size_t(i)] +
                  expected.errors[size_t(i)] + 0.5000001 * ulp(a.dtype(), value);
    if (!close(c.at(i), value, tolerance) && wrong++ == 0) first = i;
  }
  FOVEA_CHECK(wrong == 0, "%s %s %s m=%lld n=%lld k=%lld: %lld wrong, the first at %lld: %.9g, expected %.9g",
              table.isa, name_of(a.dtype()), what, static_cast<long long>(c.view.dim(-2)),
              static_cast<long long>(c.view.dim(-1)), static_cast<long long>(k), static_cast<long long>(wrong),
              static_cast<long long>(first), c.at(first < 0 ? 0 : first),
              expected.values[size_t(first < 0 ? 0 : first)]);
  for (int threads : {1, 3}) {
    Tensor again(a.dtype(), shape);
    run_matmul(table, attrs, a, b, bias, again, threads, packed, residual);
    FOVEA_CHECK(c.same_bits(again), "%s %s %s: %d threads give other bits than 2", table.isa, name_of(a.dtype()), what,
                threads);
  }
}

Tensor whole(Tensor t, uint64_t seed) {
  bool integers = t.dtype() == Dtype::i32 || t.dtype() == Dtype::i64;
  t.fill_random(seed, integers ? -100 : -2, integers ? 100 : 2);
  return t;
}

constexpr Dtype kMatmulTypes[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i32, Dtype::i64};

void check_layouts(const Table& table, Dtype dtype, int64_t m, int64_t n, int64_t k) {
  struct Layout {
    const char* name;
    std::vector<int> order;
    int64_t step;
  };
  const Layout layouts[] = {
      {"row-major", {0, 1}, 1}, {"transposed", {1, 0}, 1}, {"spaced", {0, 1}, 2}, {"backwards", {1, 0}, -1}};
  for (const Layout& left : layouts)
    for (const Layout& right : layouts) {
      if (&left >= layouts + 2 && &right >= layouts + 2 && &left != &right) continue;
      Tensor a = whole(Tensor::strided(dtype, {m, k}, left.order, left.step), 1),
             b = whole(Tensor::strided(dtype, {k, n}, right.order, right.step), 2);
      check(table, {}, a, b, nullptr, {m, n}, format("%s x %s", left.name, right.name).c_str());
    }
}

FOVEA_TEST(matmul_every_height_and_layout) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kMatmulTypes)
      for (int64_t m : {1, 2, 3, 4, 5, 7, 13, 14, 15, 29}) check_layouts(table, dtype, m, 37, 19);
}

FOVEA_TEST(matmul_every_width) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kMatmulTypes)
      for (int64_t n : {1, 2, 4, 5, 8, 11, 12, 13, 16, 17, 31, 32, 33, 48, 65, 130})
        check_layouts(table, dtype, 9, n, 33);
}

FOVEA_TEST(matmul_tall_wide_and_deep) {
  const int64_t sizes[][3] = {{1, 1, 1},      {1, 1, 9001},     {3, 2, 5000},    {301, 2, 67},    {400, 1, 513},
                              {1, 700, 130},  {170, 33, 1100},  {500, 70, 30},   {20, 1100, 600}, {172, 1200, 5},
                              {30, 30, 2049}, {300, 200, 1100}, {270, 1060, 520}};
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16})
      for (const auto& [m, n, k] : sizes)
        for (bool left : {false, true})
          for (bool right : {false, true}) {
            Tensor a = whole(Tensor::strided(dtype, {m, k}, left ? std::vector{1, 0} : std::vector{0, 1}), 3);
            Tensor b = whole(Tensor::strided(dtype, {k, n}, right ? std::vector{1, 0} : std::vector{0, 1}), 4);
            check(table, {}, a, b, nullptr, {m, n}, left ? (right ? "tt" : "tn") : (right ? "nt" : "nn"));
          }
}

// Few rows and a B of which several tasks take whole rows; also as the transposed product, and with gaps between rows.
FOVEA_TEST(matmul_of_few_rows_streams_whole_rows) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kFloats)
      for (auto [m, n, k] :
           std::initializer_list<Sizes>{{1, 4101, 67}, {3, 1401, 390}, {7, 2053, 270}, {8, 1030, 530}, {5, 70, 9000}}) {
        Tensor a = whole(Tensor(dtype, {m, k}), 5), b = whole(Tensor(dtype, {k, n}), 6);
        Tensor bias = whole(Tensor::expanded(dtype, {m, n}, {true, false}), 7),
               residual = whole(Tensor(dtype, {m, n}), 8);
        check(table, {}, a, b, nullptr, {m, n}, "whole rows");
        check(table, {.alpha = -3, .beta = 2, .activation = int64_t(MatmulActivation::relu)}, a, b, &bias, {m, n},
              "whole rows, finished", nullptr, &residual);
        Tensor left = whole(Tensor::strided(dtype, {n, k}, {1, 0}), 9), right = whole(Tensor(dtype, {k, m}), 10);
        check(table, {}, left, right, nullptr, {n, m}, "whole rows, transposed");
      }
}

FOVEA_TEST(matmul_bias_alpha_beta) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kMatmulTypes)
      for (auto [m, n, k] : std::initializer_list<Sizes>{{3, 45, 20}, {40, 33, 600}, {190, 21, 7}, {50, 3, 8}}) {
        Tensor a = whole(Tensor(dtype, {m, k}), 5), b = whole(Tensor(dtype, {k, n}), 6);
        for (auto [rows, columns] :
             std::initializer_list<std::pair<bool, bool>>{{false, false}, {true, false}, {false, true}, {true, true}}) {
          Tensor bias = whole(Tensor::expanded(dtype, {m, n}, {rows, columns}), 7);
          check(table, {}, a, b, &bias, {m, n}, "bias");
          check(table, {.alpha = -3, .beta = 2}, a, b, &bias, {m, n}, "alpha and beta");
        }
        Tensor transposed = whole(Tensor::strided(dtype, {m, n}, {1, 0}), 8), unread = Tensor(dtype, {m, n});
        check(table, {.alpha = 2, .beta = -1}, a, b, &transposed, {m, n}, "transposed bias");
        check(table, {.alpha = 2, .beta = 0}, a, b, &unread, {m, n}, "beta = 0 and a bias of NaN");
      }
}

// Every path, whole vectors and the rest of one, sums over several blocks of k, and nothing to sum.
FOVEA_TEST(matmul_activations) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kFloats)
      for (auto [m, n, k] : std::initializer_list<Sizes>{
               {1, 300, 40}, {3, 45, 20}, {6, 64, 33}, {40, 33, 1100}, {190, 21, 7}, {50, 3, 8}, {9, 70, 0}}) {
        Tensor a = whole(Tensor(dtype, {m, k}), 5), b = whole(Tensor::strided(dtype, {k, n}, {1, 0}), 6),
               bias = whole(Tensor::expanded(dtype, {m, n}, {true, false}), 7);
        double alpha = 1 / std::sqrt(double(k + 1));
        for (int64_t activation : {1, 2, 3, 4}) {
          check(table, {.activation = activation}, a, b, nullptr, {m, n}, "activation");
          check(table, {.activation = activation}, a, b, &bias, {m, n}, "activation and bias");
          check(table, {.alpha = alpha, .beta = -1, .activation = activation}, a, b, &bias, {m, n},
                "activation, scaled");
        }
      }
  for (const Table& table : tables_of_matmul()) {
    Tensor a = whole(Tensor(Dtype::f32, {40, 6, 17}), 8), b = whole(Tensor(Dtype::f32, {40, 17, 11}), 9);
    check(table, {.alpha = 0.25, .activation = 1}, a, b, nullptr, {40, 6, 11}, "activation of many matrices");
  }
}

// Every path, with and without an activation before it, repeated rows and columns, other strides, and many matrices.
FOVEA_TEST(matmul_residual) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kMatmulTypes)
      for (auto [m, n, k] : std::initializer_list<Sizes>{
               {1, 300, 40}, {3, 45, 20}, {40, 33, 1100}, {190, 21, 7}, {50, 3, 8}, {9, 70, 0}}) {
        Tensor a = whole(Tensor(dtype, {m, k}), 5), b = whole(Tensor::strided(dtype, {k, n}, {1, 0}), 6),
               bias = whole(Tensor::expanded(dtype, {m, n}, {true, false}), 7),
               dense = whole(Tensor(dtype, {m, n}), 37), turned = whole(Tensor::strided(dtype, {m, n}, {1, 0}), 38),
               column = whole(Tensor::expanded(dtype, {m, n}, {false, true}), 39);
        int64_t last = dtype == Dtype::i32 || dtype == Dtype::i64 ? 0 : 4;
        for (Tensor* residual : {&dense, &turned, &column})
          for (int64_t activation = 0; activation <= last; activation += 4) {
            check(table, {.activation = activation}, a, b, nullptr, {m, n}, "residual", nullptr, residual);
            check(table, {.alpha = 2, .beta = -1, .activation = activation}, a, b, &bias, {m, n},
                  "residual, scaled, with bias", nullptr, residual);
          }
      }
  for (const Table& table : tables_of_matmul())
    for (auto [m, n, k] : std::initializer_list<Sizes>{{1, 20, 30}, {6, 17, 9}, {180, 5, 3}})
      for (int pattern = 0; pattern < 4; pattern++) {
        Tensor a = whole(Tensor(Dtype::f32, {3, 2, m, k}), 8);
        Tensor b = whole(Tensor::expanded(Dtype::f32, {3, 2, k, n}, {true, true, false, false}), 9);
        Tensor r = whole(Tensor::expanded(Dtype::f32, {3, 2, m, n}, {pattern % 2 == 1, pattern > 1, false, false}), 10);
        check(table, {}, a, b, nullptr, {3, 2, m, n}, "residual of many matrices", nullptr, &r);
      }
}

FOVEA_TEST(matmul_batches) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::i64})
      for (auto [m, n, k] :
           std::initializer_list<Sizes>{{1, 20, 30}, {6, 17, 9}, {33, 40, 12}, {180, 5, 3}, {7, 2, 40}}) {
        for (int pattern = 0; pattern < 16; pattern++) {
          bool a0 = pattern & 1, a1 = pattern & 2, b0 = pattern & 4, b1 = pattern & 8;
          Tensor a = whole(Tensor::expanded(dtype, {3, 2, m, k}, {a0, a1, false, false}), 9);
          Tensor b = whole(Tensor::expanded(dtype, {3, 2, k, n}, {b0, b1, false, false}), 10);
          Tensor bias = whole(Tensor::expanded(dtype, {3, 2, m, n}, {b1, b0, true, false}), 11);
          check(table, {}, a, b, nullptr, {3, 2, m, n}, "batched");
          check(table, {}, a, b, &bias, {3, 2, m, n}, "batched with bias");
        }
        // [b, t, h, d] seen as [b, h, t, d], as heads are.
        Tensor q = whole(Tensor::strided(dtype, {2, 3, m, k}, {0, 2, 1, 3}), 12),
               w = whole(Tensor::strided(dtype, {2, 3, k, n}, {0, 3, 1, 2}), 13);
        check(table, {}, q, w, nullptr, {2, 3, m, n}, "heads");
      }
}

FOVEA_TEST(matmul_large_batches_and_large_matrices) {
  for (const Table& table : tables_of_matmul()) {
    Tensor a = whole(Tensor(Dtype::f32, {40, 30, 65}), 14),
           b = whole(Tensor::strided(Dtype::f32, {40, 65, 50}, {0, 2, 1}), 15);
    check(table, {}, a, b, nullptr, {40, 30, 50}, "many matrices");
    Tensor x = whole(Tensor(Dtype::f32, {2, 190, 700}), 16), y = whole(Tensor(Dtype::f32, {2, 700, 140}), 17);
    check(table, {}, x, y, nullptr, {2, 190, 140}, "large matrices");
    for (Dtype dtype : {Dtype::f32, Dtype::bf16})
      for (bool transposed : {false, true}) {
        Tensor u = whole(Tensor(dtype, {20, 8229}), 18);
        Tensor v = whole(Tensor::strided(dtype, {8229, 33}, transposed ? std::vector{1, 0} : std::vector{0, 1}), 19);
        check(table, {}, u, v, nullptr, {20, 33}, "deep matrices");
      }
  }
}

// Which tables pack bfloat16 as pairs, which take no more room.
bool packs(const Table& table, Dtype dtype) {
  std::string isa = table.isa;
  bool pairs = isa == "avx512bf16" || isa == "amx" || isa == "neonbf16";
  return dtype == Dtype::f32 || dtype == Dtype::f64 || (dtype == Dtype::bf16 && pairs);
}
Tensor packed_of(const Table& table, Tensor& b, int threads) {
  auto padded = [](int64_t n) { return (n + 31) / 32 * 32; };
  Tensor packed(b.dtype(), {padded(b.view.dim(0)) * padded(b.view.dim(1))});
  run(table, "matmulPack", PackAttrs{packed.size()}, {&b}, {&packed}, threads);
  return packed;
}

FOVEA_TEST(matmul_prepacked) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16}) {
      if (!packs(table, dtype)) continue;
      for (auto [n, k] : std::initializer_list<std::pair<int64_t, int64_t>>{
               {1, 1}, {37, 19}, {300, 65}, {1200, 700}, {64, 2049}, {5, 0}})
        for (bool transposed : {false, true}) {
          Tensor b = whole(Tensor::strided(dtype, {k, n}, transposed ? std::vector{1, 0} : std::vector{0, 1}), 31);
          Tensor packed = packed_of(table, b, 3);
          for (int64_t m : {1, 2, 8, 13, 33, 400}) {
            Tensor a = whole(Tensor(dtype, {m, k}), 33),
                   row = whole(Tensor::expanded(dtype, {m, n}, {true, false}), 34);
            check(table, {}, a, b, nullptr, {m, n}, "packed before", &packed);
            check(table, {.alpha = 0.5, .beta = 2, .activation = 1}, a, b, &row, {m, n}, "packed before, with bias",
                  &packed);
          }
        }
    }
}
FOVEA_TEST(matmul_prepacked_must_fit) {
  for (const Table& table : tables_of_matmul()) {
    Tensor a = whole(Tensor(Dtype::f32, {3, 40}), 35), b = whole(Tensor(Dtype::f32, {40, 50}), 36),
           c(Dtype::f32, {3, 50}), packed(Dtype::f32, {64 * 32}), half(Dtype::f16, {40, 50}),
           room(Dtype::f16, {64 * 64});
    View in[4] = {a.view, b.view, View{}, packed.view};
    MatmulAttrs attrs;
    size_t workspace = matmul_workspace({in, 4}, {&c.view, 1}, &attrs, 2);
    FOVEA_CHECK(error_of(table, "matmul", attrs, {&a, &b, nullptr, &packed}, {&c}, workspace) == "FOVEA_ARGUMENT",
                "packed for fewer columns");
    FOVEA_CHECK(error_of(table, "matmulPack", PackAttrs{64 * 32}, {&b}, {&packed}) == "FOVEA_ARGUMENT", "a wrong size");
    FOVEA_CHECK(error_of(table, "matmulPack", PackAttrs{64 * 64}, {&half}, {&room}) == "FOVEA_UNSUPPORTED", "float16");
  }
}

FOVEA_TEST(matmul_empty) {
  for (const Table& table : tables_of_matmul())
    for (auto [m, n, k] :
         std::initializer_list<Sizes>{{0, 5, 3}, {5, 0, 3}, {5, 300, 0}, {0, 0, 0}, {1, 1, 0}, {9, 1, 0}}) {
      Tensor a = whole(Tensor(Dtype::f32, {2, m, k}), 18), b = whole(Tensor(Dtype::f32, {2, k, n}), 19),
             bias = whole(Tensor(Dtype::f32, {2, m, n}), 20);
      check(table, {}, a, b, nullptr, {2, m, n}, "empty");
      check(table, {.beta = 0.5}, a, b, &bias, {2, m, n}, "empty with bias");
      Tensor none_a(Dtype::f32, {0, m, k}), none_b(Dtype::f32, {0, k, n});
      check(table, {}, none_a, none_b, nullptr, {0, m, n}, "no batches");
    }
}

// One NaN or infinity reaches its row or column and nothing else: padding must not multiply infinity by zero.
FOVEA_TEST(matmul_special_values) {
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : kFloats)
      for (double special : {double(NAN), double(INFINITY), -double(INFINITY)})
        for (auto [m, n, k] :
             std::initializer_list<Sizes>{{1, 35, 21}, {3, 18, 40}, {17, 37, 23}, {180, 9, 5}, {40, 2, 17}}) {
          Tensor a = Tensor::random(dtype, {m, k}, 21, 0.5, 2), b = Tensor::random(dtype, {k, n}, 22, 0.5, 2),
                 c(dtype, {m, n});
          int64_t row = m - 1, column = n - 1;
          a.set(row * k + k - 1, special);
          b.set(column, -special);
          run_matmul(table, {}, a, b, nullptr, c);
          for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
              double value = c.at(i * n + j);
              bool right = i == row && j == column ? std::isnan(value)
                           : i == row              ? (std::isnan(special) ? std::isnan(value) : value == special)
                           : j == column           ? (std::isnan(special) ? std::isnan(value) : value == -special)
                                                   : std::isfinite(value);
              FOVEA_CHECK(right, "%s %s m=%lld: c[%lld][%lld] = %g", table.isa, name_of(dtype),
                          static_cast<long long>(m), static_cast<long long>(i), static_cast<long long>(j), value);
            }
        }
}

FOVEA_TEST(matmul_sixteen_bits_sum_in_float32) {
  // 2048 ones cannot be counted in float16 one at a time past 2048, nor 4096 in bfloat16 past 256.
  for (const Table& table : tables_of_matmul())
    for (Dtype dtype : {Dtype::f16, Dtype::bf16})
      for (int64_t m : {1, 20}) {
        int64_t k = 8192;
        Tensor a(dtype, {m, k}), b(dtype, {k, 40}), c(dtype, {m, 40});
        a.fill(std::vector<double>(size_t(m * k), 1)), b.fill(std::vector<double>(size_t(k * 40), 1));
        run_matmul(table, {}, a, b, nullptr, c);
        for (int64_t i = 0; i < c.size(); i++) FOVEA_CHECK_CLOSE(c.at(i), 8192.0, 0.0);
      }
}

FOVEA_TEST(matmul_integers_wrap_and_refuse_fractions_and_activations) {
  for (const Table& table : tables_of_matmul()) {
    Tensor a = Tensor::from(Dtype::i32, {1, 2}, {2147483647, 2}), b = Tensor::from(Dtype::i32, {2, 1}, {2, 3}),
           c(Dtype::i32, {1, 1});
    run_matmul(table, {}, a, b, nullptr, c);
    FOVEA_CHECK_CLOSE(c.at(0), 4.0, 0.0);
    FOVEA_CHECK(
        error_of(table, "matmul", MatmulAttrs{.alpha = 0.5}, {&a, &b, nullptr}, {&c}, 1 << 20) == "FOVEA_ARGUMENT",
        "alpha of 0.5 was accepted");
    FOVEA_CHECK(
        error_of(table, "matmul", MatmulAttrs{.beta = NAN}, {&a, &b, nullptr}, {&c}, 1 << 20) == "FOVEA_ARGUMENT",
        "beta of NaN was accepted");
    FOVEA_CHECK(
        error_of(table, "matmul", MatmulAttrs{.activation = 1}, {&a, &b, nullptr}, {&c}, 1 << 20) == "FOVEA_ARGUMENT",
        "an activation of integers was accepted");
    Tensor x = whole(Tensor(Dtype::f32, {2, 2}), 1), y(Dtype::f32, {2, 2});
    for (int64_t unknown : {-1, 5})
      FOVEA_CHECK(error_of(table, "matmul", MatmulAttrs{.activation = unknown}, {&x, &x, nullptr}, {&y}, 1 << 20) ==
                      "FOVEA_ARGUMENT",
                  "activation %d was accepted", int(unknown));
  }
}

}  // namespace
}  // namespace fovea::test
