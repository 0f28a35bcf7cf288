// Gather, scatter, embedding and their like on the emulated device against direct models: all dtypes, index types and
// layouts, duplicates, runs long enough to be shared, indices out of range, and nonzero.
#include "ops/indexing/attrs.h"

#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

Tensor random_indices(Dtype dtype, std::vector<int64_t> shape, int64_t size, uint64_t seed) {
  Tensor t(dtype, std::move(shape));
  Numbers numbers{seed};
  for (int64_t i = 0; i < t.size(); i++) t.set(i, double(numbers.bits() % uint64_t(size)));
  return t;
}
Dtype index_type(int64_t i) { return kInts[i % 4]; }
bool is_float(Dtype dtype) { return set_of(dtype) & kFloatTypes; }
// Fractions for floats, and integers whose sums wrap in 8 bits.
Tensor& fill(Tensor& x, uint64_t seed) {
  if (is_float(x.dtype())) return x.fill_random(seed, -4, 4);
  return x.fill_random(seed, x.dtype() == Dtype::i8 ? -99 : 0, x.dtype() == Dtype::boolean ? 2 : 99);
}
std::string text_of(const char* op, const std::vector<Tensor*>& in, const std::vector<Tensor*>& out) {
  try {
    run_cuda(op, NoAttrs{}, in, out);
  } catch (const Error& error) { return std::string(error.code) + " " + error.what(); }
  return "accepted";
}
void check_refused(const char* op, const char* name, int64_t index, int64_t size, const std::vector<Tensor*>& in,
                   const std::vector<Tensor*>& out) {
  const std::string expected =
      format("FOVEA_INDEX %s: %s holds %lld, out of range for an axis of %lld; indices run from 0 to size - 1", op,
             name, (long long)index, (long long)size);
  const std::string text = text_of(op, in, out);
  FOVEA_CHECK(text == expected, "%s", text.c_str());
}

// What should be added to each element, and how much of it in magnitude.
struct Sums {
  std::vector<double> sum, magnitude;
  explicit Sums(std::vector<double> start) : sum(start), magnitude(std::move(start)) {
    for (double& m : magnitude) m = std::fabs(m);
  }
  void add(int64_t at, double value) { sum[size_t(at)] += value, magnitude[size_t(at)] += std::fabs(value); }
  // Integers wrap; floats are rounded once, from a sum in float32 or float64.
  void check(const char* op, const Tensor& y) const {
    for (int64_t i = 0; i < y.size(); i++) {
      const double expected = sum[size_t(i)];
      if (is_float(y.dtype())) {
        const double steps = y.dtype() == Dtype::f64 ? 1e-14 : 3e-6;
        FOVEA_CHECK_CLOSE(y.at(i), expected, ulp(y.dtype(), expected) + steps * magnitude[size_t(i)]);
      } else {
        const int64_t wrapped = int64_t(expected), value = int64_t(y.at(i));
        const int64_t bits = y.dtype() == Dtype::i64 ? -1 : y.dtype() == Dtype::i32 ? 0xffffffff : 0xff;
        FOVEA_CHECK((wrapped & bits) == (value & bits), "%s %s element %lld is %lld, not %lld", op,
                    kDtypeNames[int(y.dtype())], (long long)i, (long long)value, (long long)wrapped);
      }
    }
  }
};

}  // namespace

FOVEA_TEST(indexing_embedding) {
  for (int64_t k = 0; k < 9; k++)
    for (int64_t d : {1, 3, 64, 1030})
      for (int64_t gap : {0, 1, 16}) {
        const Dtype dtype = kAll[k];
        Tensor weight(dtype, {50, d + gap}), y(dtype, {4, 7, d}), ids = Tensor::strided(index_type(k), {4, 7}, {1, 0});
        weight.view.shape[1] = d;  // rows with a gap between them
        fill(weight, 1);
        for (int64_t i = 0; i < ids.size(); i++) ids.set(i, double(i * 13 % 50));
        run_cuda("embedding", NoAttrs{}, {&weight, &ids}, {&y});
        for (int64_t i = 0; i < y.size(); i++)
          FOVEA_CHECK_CLOSE(y.at(i), weight.at(int64_t(ids.at(i / d)) * d + i % d), 0);
        if (d != 64) continue;
        ids.set(9, 50), check_refused("embedding", "ids", 50, 50, {&weight, &ids}, {&y});
        if (index_type(k) == Dtype::u8) continue;
        ids.set(9, -1), check_refused("embedding", "ids", -1, 50, {&weight, &ids}, {&y});
      }
  Tensor weight = Tensor::random(Dtype::f16, {9, 40}, 1), id = Tensor::from(Dtype::i64, {}, {7}), y(Dtype::f16, {40});
  run_cuda("embedding", NoAttrs{}, {&weight, &id}, {&y});
  for (int64_t i = 0; i < 40; i++) FOVEA_CHECK_CLOSE(y.at(i), weight.at(7 * 40 + i), 0);
}

// Tables of one, two and three radix passes; targets sorted in shared memory and not; slices long and short, in vectors
// and single elements.
FOVEA_TEST(indexing_embedding_backward) {
  struct Case {
    int64_t rows, n, d;
  };
  for (Dtype dtype : kFloats)
    for (Case c : {Case{20, 0, 40}, Case{20, 5, 33}, Case{20, 700, 64}, Case{300, 2500, 32}, Case{20, 2100, 1},
                   Case{70000, 2500, 2}, Case{900, 40, 1030}, Case{3, 150, 600}}) {
      const int64_t padding = c.rows == 900 ? -1 : 2;
      Tensor ids = random_indices(Dtype::i64, {c.n}, c.rows, 5), dy = Tensor::random(dtype, {c.n, c.d}, 6),
             y(dtype, {c.rows, c.d}), again(dtype, {c.rows, c.d});
      if (c.rows == 900)
        for (int64_t i = 0; i < 10; i++) ids.set(i, 899);
      run_cuda("embeddingBackward", RowsAttrs{c.rows, padding}, {&ids, &dy}, {&y});
      run_cuda("embeddingBackward", RowsAttrs{c.rows, padding}, {&ids, &dy}, {&again});
      FOVEA_CHECK(y.same_bits(again), "the order of threads matters");
      Sums sums(std::vector<double>(size_t(c.rows * c.d), 0));
      for (int64_t i = 0; i < dy.size(); i++)
        if (int64_t row = int64_t(ids.at(i / c.d)); row != padding) sums.add(row * c.d + i % c.d, dy.at(i));
      sums.check("embeddingBackward", y);
      if (c.n == 0) continue;
      ids.set(c.n / 2, double(c.rows));
      std::string code = code_of([&] { run_cuda("embeddingBackward", RowsAttrs{c.rows, -1}, {&ids, &dy}, {&y}); });
      FOVEA_CHECK(code == "FOVEA_INDEX", "%s", code.c_str());
    }
  Tensor id = Tensor::from(Dtype::i32, {}, {1}), dy = Tensor::random(Dtype::f32, {64}, 1), y(Dtype::f32, {2, 64});
  run_cuda("embeddingBackward", RowsAttrs{2, -1}, {&id, &dy}, {&y});
  for (int64_t i = 0; i < 128; i++) FOVEA_CHECK_CLOSE(y.at(i), i < 64 ? 0 : dy.at(i - 64), 0);
}

// Rows of few indices, whose targets are compared in pairs, and of many.
FOVEA_TEST(indexing_gather_and_scatter) {
  for (int64_t k = 0; k < 9; k++)
    for (int64_t m : {1, 5, 256, 300, 2050}) {
      const Dtype dtype = kAll[k];
      const int64_t n = m == 300 ? 3 : 30;
      Tensor x = Tensor::strided(dtype, {2, 3, n}, {2, 0, 1}, 2),
             index = random_indices(index_type(k), {2, 3, m}, n, 3), y(dtype, {2, 3, m}),
             src = Tensor::strided(dtype, {2, 3, m}, {1, 2, 0});
      fill(x, 4), fill(src, 8);
      run_cuda("gather", NoAttrs{}, {&x, &index}, {&y});
      for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), x.at(i / m * n + int64_t(index.at(i))), 0);

      const std::vector<double> before = x.values();
      std::vector<double> replaced = before;
      Sums sums(before);
      for (int64_t i = 0; i < src.size(); i++) {
        const int64_t at = i / m * n + int64_t(index.at(i));
        replaced[size_t(at)] = src.at(i), sums.add(at, src.at(i));
      }
      run_cuda("scatter_", NoAttrs{}, {&x, &index, &src}, {});
      for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(x.at(i), replaced[size_t(i)], 0);
      if (dtype != Dtype::boolean) {
        x.fill(before);
        run_cuda("scatterAdd_", NoAttrs{}, {&x, &index, &src}, {});
        sums.check("scatterAdd_", x);
      }
      index.set(index.size() - 1, 31);
      check_refused("gather", "index", 31, n, {&x, &index}, {&y});
      check_refused("scatter_", "index", 31, n, {&x, &index, &src}, {});
      if (dtype != Dtype::boolean) check_refused("scatterAdd_", "index", 31, n, {&x, &index, &src}, {});
    }
}

// Short runs are added in the order of the sources, as on the CPU, bit for bit.
FOVEA_TEST(indexing_order_of_sums) {
  for (int64_t m : {200, 1000}) {
    Tensor y = Tensor::random(Dtype::f32, {2, 400}, 1), index = random_indices(Dtype::i32, {2, m}, 400, 2),
           src = Tensor::random(Dtype::f32, {2, m}, 3);
    std::vector<double> expected = y.values();
    for (int64_t i = 0; i < 2 * m; i++) {
      double& to = expected[size_t(i / m * 400 + int64_t(index.at(i)))];
      to = double(float(to) + float(src.at(i)));
    }
    run_cuda("scatterAdd_", NoAttrs{}, {&y, &index, &src}, {});
    for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), expected[size_t(i)], 0);
  }
}

// More rows than are sorted at once, and more of y than the table of scatter_ covers at once.
FOVEA_TEST(indexing_scatter_in_parts) {
  const int64_t rows = 440, m = 300, n = 50;
  Tensor y = Tensor::random(Dtype::bf16, {rows, n}, 1), index = random_indices(Dtype::u8, {rows, m}, n, 2),
         src = Tensor::random(Dtype::bf16, {rows, m}, 3);
  Sums sums(y.values());
  for (int64_t i = 0; i < src.size(); i++) sums.add(i / m * n + int64_t(index.at(i)), src.at(i));
  run_cuda("scatterAdd_", NoAttrs{}, {&y, &index, &src}, {});
  sums.check("scatterAdd_", y);

  const int64_t wide = 5500000;
  Tensor to(Dtype::u8, {2, wide}), at = random_indices(Dtype::i64, {2, m}, wide, 2),
                                   from = random_indices(Dtype::u8, {2, m}, 200, 3);
  for (int64_t i = 0; i < 2 * m; i += 7) at.set(i, double(3000000 + i % 5));
  std::vector<std::byte> expected(to.view.data, to.view.data + 2 * wide);
  for (int64_t i = 0; i < 2 * m; i++) expected[size_t(i / m * wide + int64_t(at.at(i)))] = std::byte(from.at(i));
  run_cuda("scatter_", NoAttrs{}, {&to, &at, &from}, {});
  FOVEA_CHECK(std::memcmp(expected.data(), to.view.data, expected.size()) == 0, "a window is wrong");
}

FOVEA_TEST(indexing_whole_slices) {
  for (int64_t k = 0; k < 9; k++)
    for (int64_t inner : {1, 7, 64, 300})
      for (int64_t m : {9, 200})
        for (bool transposed : {false, true}) {
          const Dtype dtype = kAll[k];
          const int64_t o = 3, n = 6;
          Tensor x = transposed ? Tensor::strided(dtype, {o, n, inner}, {2, 1, 0}) : Tensor(dtype, {o, n, inner});
          Tensor index = random_indices(index_type(k), {m}, n, 3), y(dtype, {o, m, inner}),
                 src = transposed ? Tensor::strided(dtype, {o, m, inner}, {1, 0, 2}) : Tensor(dtype, {o, m, inner});
          fill(x, 2), fill(src, 4);
          for (int64_t i = 0; i < m / 2; i++) index.set(i, 5);  // a long run beside short ones
          run_cuda("indexSelect", NoAttrs{}, {&x, &index}, {&y});
          auto in_x = [&](int64_t i) {
            return i / (m * inner) * n * inner + int64_t(index.at(i / inner % m)) * inner + i % inner;
          };
          for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), x.at(in_x(i)), 0);
          if (dtype != Dtype::boolean) {
            Sums sums(x.values());
            for (int64_t i = 0; i < src.size(); i++) sums.add(in_x(i), src.at(i));
            run_cuda("indexAdd_", NoAttrs{}, {&x, &index, &src}, {});
            sums.check("indexAdd_", x);
          }
          index.set(m - 1, 6);
          check_refused("indexSelect", "index", 6, n, {&x, &index}, {&y});
          if (dtype != Dtype::boolean) check_refused("indexAdd_", "index", 6, n, {&x, &index, &src}, {});
        }
}

// Views that repeat, and sizes of 0.
FOVEA_TEST(indexing_views) {
  Tensor x = Tensor::expanded(Dtype::f32, {3, 5, 4}, {true, false, false}), y(Dtype::f32, {3, 5, 6}),
         index = Tensor::expanded(Dtype::i64, {3, 5, 6}, {false, true, false});
  for (int64_t i = 0; i < 20; i++) x.set(i, double(i));
  for (int64_t i = 0; i < index.size(); i++) index.set(i, double((i / 30 + i % 6) % 4));
  run_cuda("gather", NoAttrs{}, {&x, &index}, {&y});
  for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), double(i / 6 % 5 * 4 + (i / 30 + i % 6) % 4), 0);

  Tensor to = Tensor::random(Dtype::f32, {3, 2}, 1), one = Tensor::expanded(Dtype::f32, {3, 40}, {true, true}),
         where = Tensor::expanded(Dtype::u8, {3, 40}, {true, true});
  one.set(0, 0.5), where.set(0, 1);
  const std::vector<double> before = to.values();
  run_cuda("scatterAdd_", NoAttrs{}, {&to, &where, &one}, {});
  for (int64_t i = 0; i < 6; i++) FOVEA_CHECK_CLOSE(to.at(i), before[size_t(i)] + 20 * double(i % 2), 1e-5);

  Tensor no_index(Dtype::i64, {3, 0}), no_src(Dtype::f32, {3, 0}), nowhere(Dtype::f32, {3, 0}), none(Dtype::i64, {0}),
      slices(Dtype::f32, {2, 4, 3}), no_slices(Dtype::f32, {2, 0, 3}), many(Dtype::i64, {3, 300}),
      much(Dtype::f32, {3, 300});
  for (int64_t i = 0; i < many.size(); i++) many.set(i, 0);
  for (const char* op : {"scatter_", "scatterAdd_"}) {
    run_cuda(op, NoAttrs{}, {&to, &no_index, &no_src}, {});
    check_refused(op, "index", 0, 0, {&nowhere, &many, &much}, {});
    check_refused(op, "index", 1, 0, {&nowhere, &where, &one}, {});
  }
  run_cuda("gather", NoAttrs{}, {&to, &no_index}, {&no_src});
  run_cuda("indexSelect", NoAttrs{}, {&slices, &none}, {&no_slices});
  run_cuda("indexAdd_", NoAttrs{}, {&slices, &none, &no_slices}, {});
}

FOVEA_TEST(indexing_nonzero) {
  for (Dtype dtype : kAll)
    for (int64_t n : {0, 1, 5, 3000})
      for (bool dense : {false, true}) {
        Tensor x = dense ? Tensor(dtype, {2, n, 3}) : Tensor::strided(dtype, {2, n, 3}, {0, 2, 1});
        for (int64_t i = 0; i < x.size(); i++) x.set(i, i * i % 7 == 1 ? 1 : 0);
        if (is_float(dtype) && n > 0) x.set(0, -0.0), x.set(2, NAN), x.set(3, -1), x.set(4, 1e-7);
        std::vector<double> expected;
        for (int64_t i = 0; i < x.size(); i++)
          if (x.at(i) != 0) expected.insert(expected.end(), {double(i / (n * 3)), double(i / 3 % n), double(i % 3)});
        const int64_t results = int64_t(expected.size() / 3);
        Tensor count(Dtype::i64, {}), index(Dtype::i64, {results, 3});
        run_cuda("countNonzero", NoAttrs{}, {&x}, {&count});
        FOVEA_CHECK_CLOSE(count.at(0), double(results), 0);
        run_cuda("nonzero", NonzeroAttrs{results, 3}, {&x}, {&index});
        for (int64_t i = 0; i < index.size(); i++) FOVEA_CHECK_CLOSE(index.at(i), expected[size_t(i)], 0);
        for (int64_t wrong : {results - 1, results + 1}) {
          if (wrong < 0) continue;
          Tensor room(Dtype::i64, {wrong, 3});
          std::string text = "accepted";
          try {
            run_cuda("nonzero", NonzeroAttrs{wrong, 3}, {&x}, {&room});
          } catch (const Error& error) { text = std::string(error.code) + " " + error.what(); }
          FOVEA_CHECK(text == format("FOVEA_ARGUMENT nonzero: count is %lld, but x has %lld nonzero elements; take it "
                                     "from countNonzero",
                                     (long long)wrong, (long long)results),
                      "%s", text.c_str());
        }
      }
  Tensor x = Tensor::from(Dtype::f32, {}, {2}), index(Dtype::i64, {1, 0}), count(Dtype::i64, {});
  run_cuda("nonzero", NonzeroAttrs{1, 0}, {&x}, {&index});
  run_cuda("countNonzero", NoAttrs{}, {&x}, {&count});
  FOVEA_CHECK_CLOSE(count.at(0), 1, 0);
  std::string code = code_of([&] { run_cuda("nonzero", NonzeroAttrs{1, 1}, {&x}, {&index}); });
  FOVEA_CHECK(code == "FOVEA_ARGUMENT", "%s", code.c_str());
}

}  // namespace fovea::test
