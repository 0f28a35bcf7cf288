// Random kernels: Philox against its published vector, moments, bounds, the same bits on every instruction set and for
// every number of threads, and what multinomial refuses.
#include <algorithm>

#include "core/random.h"
#include "ops/random/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(random)

using namespace fovea;
using namespace fovea::test;

FOVEA_TEST(random_philox_known_answer) {
  PhiloxBlock zero = philox(0, 0);  // Random123, kat_vectors: philox4x32 10, all zeros
  FOVEA_CHECK(zero.word[0] == 0x6627e8d5u && zero.word[1] == 0xe169c58du && zero.word[2] == 0xbc57ac4cu &&
                  zero.word[3] == 0x9b00dbd8u,
              "%08x", zero.word[0]);
}

FOVEA_TEST(random_moments_and_bounds) {
  for (const Table& t : tables_of_random())
    for (Dtype dtype : kFloats) {
      Tensor x(dtype, {100003});
      double n = double(x.size()), mean = 0, square = 0;
      run(t, "uniform_", UniformAttrs{.seed = 1, .offset = 7, .low = -1, .high = 3}, {&x}, {});
      for (double v : x.values()) {
        FOVEA_CHECK(v >= -1 && v < 3, "%s %s: %.17g", t.isa, name_of(dtype), v);
        mean += v / n, square += (v - 1) * (v - 1) / n;
      }
      FOVEA_CHECK_CLOSE(mean, 1, 0.02);
      FOVEA_CHECK_CLOSE(square, 16.0 / 12, 0.02);
      run(t, "normal_", NormalAttrs{.seed = 1, .offset = 7, .mean = 2, .std = 3}, {&x}, {});
      mean = square = 0;
      double fourth = 0;
      for (double v : x.values())
        mean += v / n, square += std::pow((v - 2) / 3, 2) / n, fourth += std::pow((v - 2) / 3, 4) / n;
      FOVEA_CHECK_CLOSE(mean, 2, 0.04);
      FOVEA_CHECK_CLOSE(square, 1, 0.02);
      FOVEA_CHECK_CLOSE(fourth, 3, 0.1);
      run(t, "uniform_", UniformAttrs{.low = 0.5, .high = 0.5}, {&x}, {});
      FOVEA_CHECK(x.at(0) == 0.5 && x.at(77) == 0.5, "%s", t.isa);
      run(t, "uniform_", UniformAttrs{.low = 1000, .high = 1000.1}, {&x}, {});
      for (double v : x.values()) FOVEA_CHECK(v < 1000.1, "%s %s: %.17g", t.isa, name_of(dtype), v);
    }
}

FOVEA_TEST(random_follows_the_convention) {
  for (const Table& t : tables_of_random()) {
    Tensor x(Dtype::f32, {1030}), strided = Tensor::strided(Dtype::f32, {103, 10}, {1, 0}, 2),
                                  normal(Dtype::f64, {1030});
    run(t, "uniform_", UniformAttrs{.seed = 5, .offset = 3}, {&x}, {});
    run(t, "uniform_", UniformAttrs{.seed = 5, .offset = 3}, {&strided}, {});
    run(t, "normal_", NormalAttrs{.seed = 5, .offset = 3}, {&normal}, {});
    for (int64_t i = 0; i < x.size(); i++) {
      FOVEA_CHECK_CLOSE(x.at(i), uniform_of(philox_word(5, 3, uint64_t(i))), 0);
      FOVEA_CHECK_CLOSE(strided.at(i), x.at(i), 0);
      auto u = [&](int64_t k) {
        return double(uint64_t(philox_word(5, 3, uint64_t(k))) << 21 | philox_word(5, 3, uint64_t(k), 1) >> 11) *
               0x1p-53;
      };
      double radius = std::sqrt(-2 * std::log(u(i & ~1) + 0x1p-53)), angle = 2 * M_PI * u(i | 1);
      FOVEA_CHECK_CLOSE(normal.at(i), radius * (i & 1 ? std::sin(angle) : std::cos(angle)), 1e-13);
    }
  }
}

FOVEA_TEST(random_same_bits_everywhere) {
  const Table& first = tables_of_random()[0];
  for (const Table& t : tables_of_random())
    for (Dtype dtype : kFloats) {
      Tensor a(dtype, {70001}), b(dtype, {70001}), x = Tensor::random(dtype, {70001}, 1),
                                                   p = Tensor::random(dtype, {9, 501}, 2, 0, 1);
      auto both = [&](const char* name, const auto& attrs) {
        run(first, name, attrs, {&a}, {}, 1), run(t, name, attrs, {&b}, {}, 3);
        FOVEA_CHECK(a.same_bits(b), "%s differs between %s and %s in %s", name, first.isa, t.isa, name_of(dtype));
      };
      both("uniform_", UniformAttrs{.seed = 1ll << 40, .offset = 1ll << 33, .low = -0.3, .high = 0.7});
      both("normal_", NormalAttrs{.seed = 9, .offset = 8, .mean = 0.1, .std = 1.7});
      both("randint_", RandintAttrs{.seed = 9, .offset = 8, .low = -5, .high = 1000});
      run(first, "dropout", DropoutAttrs{.p = 0.3, .seed = 4}, {&x}, {&a}, 1),
          run(t, "dropout", DropoutAttrs{.p = 0.3, .seed = 4}, {&x}, {&b}, 3);
      FOVEA_CHECK(a.same_bits(b), "dropout differs between %s and %s", first.isa, t.isa);
      for (bool replacement : {true, false}) {
        Tensor i(Dtype::i64, {9, 20}), j(Dtype::i64, {9, 20});
        MultinomialAttrs attrs{.numSamples = 20, .replacement = replacement, .seed = 3};
        run(first, "multinomial", attrs, {&p}, {&i}, 1, 501 * 8),
            run(t, "multinomial", attrs, {&p}, {&j}, 3, 3 * 501 * 8);
        FOVEA_CHECK(i.same_bits(j), "multinomial differs between %s and %s", first.isa, t.isa);
      }
    }
}

FOVEA_TEST(random_dropout) {
  for (const Table& t : tables_of_random())
    for (Dtype dtype : kFloats) {
      Tensor x = Tensor::strided(dtype, {300, 100}, {1, 0}), y(dtype, {300, 100});
      x.fill_random(1, 1, 2);
      run(t, "dropout", DropoutAttrs{.p = 0.25, .seed = 2}, {&x}, {&y});
      double kept = 0;
      for (int64_t i = 0; i < y.size(); i++) {
        kept += y.at(i) != 0;
        if (y.at(i) != 0) FOVEA_CHECK_CLOSE(y.at(i), round_to(dtype, x.at(i) / 0.75), ulp(dtype, y.at(i)));
      }
      FOVEA_CHECK_CLOSE(kept / 30000, 0.75, 0.01);
      x.set(5, INFINITY);
      run(t, "dropout", DropoutAttrs{.p = 1}, {&x}, {&y});
      for (double v : y.values()) FOVEA_CHECK(v == 0, "%g", v);
      run(t, "dropout", DropoutAttrs{.p = 0}, {&x}, {&y});
      FOVEA_CHECK(y.values() == x.values(), "p = 0 keeps all");
      FOVEA_CHECK(error_of(t, "dropout", DropoutAttrs{.p = NAN}, {&x}, {&y}) == "FOVEA_ARGUMENT", "%s", t.isa);
    }
}

FOVEA_TEST(random_randint) {
  for (const Table& t : tables_of_random()) {
    Tensor x(Dtype::u8, {60000}), wide(Dtype::i64, {1000});
    run(t, "randint_", RandintAttrs{.seed = 3, .low = 2, .high = 8}, {&x}, {});
    std::vector<int> counts(256);
    for (double v : x.values()) counts[size_t(v)]++;
    for (int i = 2; i < 8; i++) FOVEA_CHECK_CLOSE(counts[size_t(i)], 10000, 500);
    run(t, "randint_", RandintAttrs{.seed = 3, .low = -(1ll << 52), .high = 1ll << 52}, {&wide}, {});
    for (double v : wide.values()) FOVEA_CHECK(std::fabs(v) <= 0x1p52, "%g", v);
    FOVEA_CHECK(error_of(t, "randint_", RandintAttrs{.low = 3, .high = 3}, {&x}, {}) == "FOVEA_ARGUMENT", "%s", t.isa);
  }
}

FOVEA_TEST(random_multinomial) {
  for (const Table& t : tables_of_random()) {
    constexpr int64_t n = 5, samples = 40000;
    Tensor p = Tensor::from(Dtype::f32, {1, n}, {1, 0, 2, 4, 1}), ids(Dtype::i64, {1, samples});
    run(t, "multinomial", MultinomialAttrs{.numSamples = samples, .replacement = true, .seed = 1}, {&p}, {&ids}, 2,
        2 * n * 8);
    std::vector<double> share(n);
    for (double id : ids.values()) share[size_t(id)] += 1.0 / samples;
    for (int64_t j = 0; j < n; j++) FOVEA_CHECK_CLOSE(share[size_t(j)], p.at(j) / 8, 0.01);

    // Without replacement: the first draw follows the weights, and a row is a permutation of what is not zero.
    constexpr int64_t rows = 20000;
    Tensor many = Tensor::expanded(Dtype::f32, {rows, n}, {true, false}), order(Dtype::i64, {rows, 4});
    many.fill({[] {
      std::vector<double> v;
      for (int64_t i = 0; i < rows; i++) v.insert(v.end(), {1, 0, 2, 4, 1});
      return v;
    }()});
    run(t, "multinomial", MultinomialAttrs{.numSamples = 4, .seed = 1}, {&many}, {&order}, 2, 2 * n * 8);
    std::vector<double> first(n);
    for (int64_t r = 0; r < rows; r++) {
      first[size_t(order.at(r * 4))] += 1.0 / rows;
      std::vector<double> row = {order.at(r * 4), order.at(r * 4 + 1), order.at(r * 4 + 2), order.at(r * 4 + 3)};
      std::sort(row.begin(), row.end());
      FOVEA_CHECK(row == std::vector<double>({0, 2, 3, 4}), "row %lld", static_cast<long long>(r));
    }
    for (int64_t j = 0; j < n; j++) FOVEA_CHECK_CLOSE(first[size_t(j)], p.at(j) / 8, 0.015);

    Tensor few(Dtype::i64, {1, 5});
    auto refuses = [&](std::vector<double> weights, MultinomialAttrs attrs) {
      Tensor bad = Tensor::from(Dtype::f32, {1, n}, weights);
      FOVEA_CHECK(error_of(t, "multinomial", attrs, {&bad}, {&few}, 2 * n * 8) == "FOVEA_ARGUMENT", "%s", t.isa);
    };
    refuses({1, 0, 2, 4, 1}, {.numSamples = 5});
    refuses({0, 0, 0, 0, 0}, {.numSamples = 5, .replacement = true});
    refuses({1, -1, 2, 4, 1}, {.numSamples = 5, .replacement = true});
    refuses({1, NAN, 2, 4, 1}, {.numSamples = 5, .replacement = true});
    refuses({1, INFINITY, 2, 4, 1}, {.numSamples = 5, .replacement = true});
  }
}
