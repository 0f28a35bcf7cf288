// Draws of tokens on the emulated device: the CPU's, for every restriction, dtype and way to put a row in order; rows
// from which nothing can be drawn.
#include "ops/sampling/workspace.h"
#include "test/emulator/harness_cuda.h"

FOVEA_TEST_FAMILY(sampling)

namespace fovea::test {
namespace {

void check_draws(Tensor& logits, const SampleAttrs& attrs) {
  const int64_t rows = logits.view.dim(0), n = logits.view.dim(1);
  Tensor ids(Dtype::i64, {rows}), expected(Dtype::i64, {rows});
  run_cuda("sampleTokens", attrs, {&logits}, {&ids});
  run(tables_of_sampling().front(), "sampleTokens", attrs, {&logits}, {&expected}, 2,
      size_t(2 * SampleScratch(n, attrs).bytes));
  for (int64_t row = 0; row < rows; row++)
    FOVEA_CHECK(ids.at(row) == expected.at(row), "%s [%lld of %lld]: %g, expected %g", name_of(logits.dtype()),
                (long long)row, (long long)n, ids.at(row), expected.at(row));
}

}  // namespace

FOVEA_TEST(sampling_draws_what_the_cpu_draws) {
  for (Dtype dtype : kFloats)
    for (int64_t n : {1, 7, 300, 2500, 9000}) {
      Tensor logits(dtype, {5, n + 2});
      logits.view.shape[1] = n, logits.fill_random(uint64_t(n), -4, 4);
      for (const SampleAttrs& attrs :
           {SampleAttrs{.seed = 1}, SampleAttrs{.topK = 1}, SampleAttrs{.topK = 40, .seed = 2, .offset = 9},
            SampleAttrs{.topP = 0.8, .seed = 3}, SampleAttrs{.temperature = 0.5, .minP = 0.3, .seed = 4},
            SampleAttrs{.temperature = 2, .topP = 0.9, .topK = 900, .seed = 1ll << 40}})
        check_draws(logits, attrs);
    }
}

FOVEA_TEST(sampling_without_finite_logits) {
  Tensor logits = Tensor::from(Dtype::f32, {4, 3},
                               {NAN, 1, 2, 0, INFINITY, 1, -INFINITY, -INFINITY, -INFINITY, -INFINITY, 4, -INFINITY});
  for (const SampleAttrs& attrs : {SampleAttrs{}, SampleAttrs{.topK = 2}, SampleAttrs{.topP = 0.9}})
    check_draws(logits, attrs);
  Tensor huge = Tensor::from(Dtype::f32, {1, 2}, {3e38, 0}), ids(Dtype::i64, {1});
  for (double temperature : {1e-9, 0.0, -1.0}) {
    const SampleAttrs attrs{.temperature = temperature};
    std::string code = code_of([&] { run_cuda("sampleTokens", attrs, {&huge}, {&ids}); });
    FOVEA_CHECK(code == "FOVEA_ARGUMENT", "a temperature of %g", temperature);
  }
}

}  // namespace fovea::test
