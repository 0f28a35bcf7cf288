// Gather, scatter, embedding and their like against direct models: all dtypes, index types and layouts, duplicates,
// indices out of range, and nonzero.
#include "ops/indexing/attrs.h"
#include "ops/indexing/workspace.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(indexing)

namespace fovea::test {
namespace {

Tensor random_indices(Dtype dtype, std::vector<int64_t> shape, int64_t size, uint64_t seed) {
  Tensor t(dtype, std::move(shape));
  Numbers numbers{seed};
  for (int64_t i = 0; i < t.size(); i++) t.set(i, double(numbers.bits() % uint64_t(size)));
  return t;
}
Tensor random_values(Dtype dtype, std::vector<int64_t> shape, uint64_t seed) {
  bool small = dtype == Dtype::u8 || dtype == Dtype::i8;
  return Tensor::random(dtype, std::move(shape), seed, 0, small ? 5 : 100);
}
Dtype index_type(int64_t i) { return kInts[i % 4]; }

}  // namespace

FOVEA_TEST(indexing_embedding) {
  for (const Table& table : tables_of_indexing())
    for (int64_t k = 0; k < 9; k++)
      for (int64_t d : {1, 3, 64, 1030}) {
        Dtype dtype = kAll[k];
        Tensor weight = random_values(dtype, {50, d}, 1), y(dtype, {4, 7, d}),
               ids = Tensor::strided(index_type(k), {4, 7}, {1, 0});
        for (int64_t i = 0; i < ids.size(); i++) ids.set(i, double(i * 13 % 50));
        run(table, "embedding", NoAttrs{}, {&weight, &ids}, {&y});
        for (int64_t i = 0; i < y.size(); i++)
          FOVEA_CHECK_CLOSE(y.at(i), weight.at(int64_t(ids.at(i / d)) * d + i % d), 0);
        if (index_type(k) == Dtype::u8) continue;
        ids.set(9, -1);
        FOVEA_CHECK(error_of(table, "embedding", NoAttrs{}, {&weight, &ids}, {&y}) == "FOVEA_INDEX", "negative id");
        ids.set(9, 50);
        FOVEA_CHECK(error_of(table, "embedding", NoAttrs{}, {&weight, &ids}, {&y}) == "FOVEA_INDEX",
                    "id beyond the table");
      }
}

FOVEA_TEST(indexing_embedding_backward) {
  for (const Table& table : tables_of_indexing())
    for (Dtype dtype : kFloats)
      for (int64_t d : {1, 33, 1030})
        for (int64_t n : {0, 5, 700}) {
          const int64_t rows = 20, padding = 3;
          Tensor ids = random_indices(Dtype::i64, {n}, rows, 5), dy = Tensor::random(dtype, {n, d}, 6),
                 one(dtype, {rows, d}), three(dtype, {rows, d});
          size_t workspace = size_t(rows + 1 + n) * 8;
          run(table, "embeddingBackward", RowsAttrs{rows, padding}, {&ids, &dy}, {&one}, 1, workspace);
          run(table, "embeddingBackward", RowsAttrs{rows, padding}, {&ids, &dy}, {&three}, 3, workspace);
          FOVEA_CHECK(one.same_bits(three), "thread count matters (%s)", table.isa);
          std::vector<double> expected(size_t(rows * d), 0);
          for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < d; j++)
              if (int64_t(ids.at(i)) != padding) expected[size_t(int64_t(ids.at(i)) * d + j)] += dy.at(i * d + j);
          for (int64_t i = 0; i < rows * d; i++)
            FOVEA_CHECK_CLOSE(one.at(i), expected[size_t(i)],
                              epsilon(dtype) * (std::fabs(expected[size_t(i)]) + 1e-1) + 1e-5 * (dtype != Dtype::f64));
        }
}

FOVEA_TEST(indexing_gather_and_scatter) {
  for (const Table& table : tables_of_indexing())
    for (int64_t k = 0; k < 9; k++)
      for (int64_t m : {1, 5, 40}) {
        Dtype dtype = kAll[k];
        const int64_t n = 30;
        Tensor x = Tensor::strided(dtype, {2, 3, n}, {2, 0, 1}, 2),
               index = random_indices(index_type(k), {2, 3, m}, n, 3), y(dtype, {2, 3, m});
        x.fill_random(4, 0, 5);
        run(table, "gather", NoAttrs{}, {&x, &index}, {&y});
        for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), x.at(i / m * n + int64_t(index.at(i))), 0);

        Tensor src = random_values(dtype, {2, 3, m}, 8);
        std::vector<double> replaced = x.values(), added = replaced;
        for (int64_t i = 0; i < src.size(); i++) {
          size_t at = size_t(i / m * n + int64_t(index.at(i)));
          replaced[at] = src.at(i), added[at] = round_to(dtype, added[at] + src.at(i));
        }
        std::vector<double> before = x.values();
        run(table, "scatter_", NoAttrs{}, {&x, &index, &src}, {});
        for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(x.at(i), replaced[size_t(i)], 0);
        if (dtype == Dtype::boolean) continue;
        x.fill(before);
        run(table, "scatterAdd_", NoAttrs{}, {&x, &index, &src}, {});
        for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(x.at(i), added[size_t(i)], 0);
        index.set(0, 31);
        for (const char* op : {"scatter_", "scatterAdd_"})
          FOVEA_CHECK(error_of(table, op, NoAttrs{}, {&x, &index, &src}, {}) == "FOVEA_INDEX", "%s", op);
        FOVEA_CHECK(error_of(table, "gather", NoAttrs{}, {&x, &index}, {&y}) == "FOVEA_INDEX", "gather");
      }
}

FOVEA_TEST(indexing_whole_slices) {
  for (const Table& table : tables_of_indexing())
    for (int64_t k = 0; k < 9; k++)
      for (int64_t inner : {1, 7, 1100}) {
        Dtype dtype = kAll[k];
        const int64_t o = 3, n = 6, m = 9;
        for (bool transposed : {false, true}) {
          Tensor x = transposed ? Tensor::strided(dtype, {o, n, inner}, {2, 1, 0}) : Tensor(dtype, {o, n, inner});
          x.fill_random(2, 0, 5);
          Tensor index = random_indices(index_type(k), {m}, n, 3), y(dtype, {o, m, inner}),
                 src = random_values(dtype, {o, m, inner}, 4);
          run(table, "indexSelect", NoAttrs{}, {&x, &index}, {&y});
          auto in_x = [&](int64_t i) {
            return i / (m * inner) * n * inner + int64_t(index.at(i / inner % m)) * inner + i % inner;
          };
          for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), x.at(in_x(i)), 0);
          if (dtype == Dtype::boolean) continue;
          std::vector<double> added = x.values();
          for (int64_t i = 0; i < src.size(); i++)
            added[size_t(in_x(i))] = round_to(dtype, added[size_t(in_x(i))] + src.at(i));
          run(table, "indexAdd_", NoAttrs{}, {&x, &index, &src}, {});
          for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(x.at(i), added[size_t(i)], 0);
        }
      }
}

FOVEA_TEST(indexing_nonzero) {
  for (const Table& table : tables_of_indexing())
    for (Dtype dtype : kAll)
      for (int64_t n : {0, 1, 5, 3000}) {
        Tensor x = Tensor::strided(dtype, {2, n, 3}, {0, 2, 1}), count(Dtype::i64, {});
        for (int64_t i = 0; i < x.size(); i++) x.set(i, i * i % 7 == 1 ? 1 : 0);
        bool is_float = set_of(dtype) & kFloatTypes;
        if (is_float && n > 0) x.set(0, -0.0), x.set(2, NAN);
        std::vector<double> expected;
        for (int64_t i = 0; i < x.size(); i++)
          if (x.at(i) != 0) expected.insert(expected.end(), {double(i / (n * 3)), double(i / 3 % n), double(i % 3)});
        run(table, "countNonzero", NoAttrs{}, {&x}, {&count});
        FOVEA_CHECK_CLOSE(count.at(0), double(expected.size() / 3), 0);
        Tensor index(Dtype::i64, {int64_t(expected.size() / 3), 3});
        run(table, "nonzero", NonzeroAttrs{int64_t(expected.size() / 3), 3}, {&x}, {&index});
        for (int64_t i = 0; i < index.size(); i++) FOVEA_CHECK_CLOSE(index.at(i), expected[size_t(i)], 0);
        FOVEA_CHECK(error_of(table, "nonzero", NonzeroAttrs{int64_t(expected.size() / 3) + 1, 3}, {&x}, {&index}) ==
                        "FOVEA_ARGUMENT",
                    "wrong count");
      }
  for (const Table& table : tables_of_indexing()) {
    Tensor x = Tensor::from(Dtype::f32, {}, {2}), index(Dtype::i64, {1, 0});
    run(table, "nonzero", NonzeroAttrs{1, 0}, {&x}, {&index});
  }
}

}  // namespace fovea::test
