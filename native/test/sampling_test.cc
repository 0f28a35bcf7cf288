// Draws of tokens: by hand where one token is left, within the likeliest, the same for every number of threads, at the
// frequencies that the weights say.
#include <algorithm>

#include "ops/sampling/workspace.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(sampling)

namespace fovea::test {
namespace {

std::vector<int64_t> draw(const Table& table, Tensor& logits, const SampleAttrs& attrs, int threads = 2) {
  Tensor ids(Dtype::i64, {logits.view.dim(0)});
  const size_t bytes = size_t(threads) * size_t(SampleScratch(logits.view.dim(1), attrs).bytes);
  run(table, "sampleTokens", attrs, {&logits}, {&ids}, threads, bytes);
  std::vector<int64_t> result;
  for (double id : ids.values()) result.push_back(int64_t(id));
  return result;
}
// The numbers of a row's elements, the largest first; of equal ones the first.
std::vector<int64_t> order_of(const Tensor& logits, int64_t row) {
  const int64_t n = logits.view.dim(1);
  std::vector<int64_t> order(size_t(n), 0);
  for (int64_t i = 0; i < n; i++) order[size_t(i)] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return logits.at(row * n + a) > logits.at(row * n + b); });
  return order;
}

}  // namespace

FOVEA_TEST(sampling_takes_the_likeliest) {
  for (const Table& table : tables_of_sampling())
    for (Dtype dtype : kFloats)
      for (int64_t n : {1, 2, 63, 65, 1030, 5000}) {
        Tensor logits(dtype, {7, n + 1});
        logits.view.shape[1] = n, logits.fill_random(uint64_t(n));
        for (const SampleAttrs& attrs : {SampleAttrs{.topK = 1}, SampleAttrs{.topP = 0}, SampleAttrs{.topP = 1e-9}}) {
          const std::vector<int64_t> ids = draw(table, logits, attrs);
          for (int64_t row = 0; row < 7; row++)
            FOVEA_CHECK(ids[size_t(row)] == order_of(logits, row)[0], "%s [%lld]", table.isa, (long long)row);
        }
        for (int64_t k : {2, 50}) {
          const std::vector<int64_t> ids = draw(table, logits, {.topK = k, .seed = 3});
          for (int64_t row = 0; row < 7; row++) {
            const std::vector<int64_t> order = order_of(logits, row);
            const auto end = order.begin() + std::min(k, n);
            FOVEA_CHECK(std::find(order.begin(), end, ids[size_t(row)]) != end, "%s: among %lld", table.isa,
                        (long long)k);
          }
        }
      }
}

FOVEA_TEST(sampling_follows_the_weights) {
  const int64_t rows = 20000, n = 5;
  const double probabilities[n] = {0.05, 0.4, 0.1, 0.25, 0.2};
  for (const Table& table : tables_of_sampling())
    for (const SampleAttrs& attrs : {SampleAttrs{.seed = 1}, SampleAttrs{.topP = 0.8, .seed = 2},
                                     SampleAttrs{.minP = 0.45, .seed = 3}, SampleAttrs{.topK = 3, .seed = 4}}) {
      Tensor logits(Dtype::f32, {rows, n});
      for (int64_t i = 0; i < rows * n; i++) logits.set(i, std::log(probabilities[i % n]));
      const std::vector<int64_t> ids = draw(table, logits, attrs, 1);
      FOVEA_CHECK(ids == draw(table, logits, attrs, 5), "%s: threads", table.isa);
      const bool all = attrs.topP == 1 && attrs.minP == 0 && attrs.topK == 0;
      for (int64_t id = 0; id < n; id++) {
        const double expected = all ? probabilities[id] : probabilities[id] >= 0.2 ? probabilities[id] / 0.85 : 0;
        const double share = double(std::count(ids.begin(), ids.end(), id)) / double(rows);
        FOVEA_CHECK_CLOSE(share, expected, expected == 0 ? 0 : 0.02);
      }
    }
}

FOVEA_TEST(sampling_without_finite_logits) {
  for (const Table& table : tables_of_sampling()) {
    Tensor logits = Tensor::from(Dtype::f32, {4, 3},
                                 {NAN, 1, 2, 0, INFINITY, 1, -INFINITY, -INFINITY, -INFINITY, -INFINITY, 4, -INFINITY});
    for (const SampleAttrs& attrs : {SampleAttrs{}, SampleAttrs{.topK = 2}, SampleAttrs{.topP = 0.9}})
      FOVEA_CHECK((draw(table, logits, attrs) == std::vector<int64_t>{-1, -1, -1, 1}), "%s", table.isa);
    Tensor huge = Tensor::from(Dtype::f32, {1, 2}, {3e38, 0}), ids(Dtype::i64, {1});
    const SampleAttrs cold{.temperature = 1e-9};
    const auto bytes = size_t(2 * SampleScratch(2, cold).bytes);
    FOVEA_CHECK(error_of(table, "sampleTokens", cold, {&huge}, {&ids}, bytes) == "FOVEA_ARGUMENT", "overflow");
    FOVEA_CHECK(
        error_of(table, "sampleTokens", SampleAttrs{.temperature = 0}, {&huge}, {&ids}, bytes) == "FOVEA_ARGUMENT",
        "temperature 0");
  }
}

}  // namespace fovea::test
