// Cross entropy on the emulated device against a float64 model: all dtypes, label smoothing, ignored rows, targets out
// of range, extreme logits, strided rows, and the gradient against its formula.
#include "ops/loss/attrs.h"
#include "test/emulator/harness_cuda.h"
#include "test/loss_model.h"

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {5, 3}, {7, 64}, {131, 8}, {3, 1025}, {2, 5003}, {3, 20480}};

}  // namespace

FOVEA_TEST(loss_cross_entropy) { check_cross_entropy(RunCuda{}, kShapes); }

FOVEA_TEST(loss_targets_out_of_range) {
  for (double wrong : {3.0, -1.0, -100.0}) {
    Tensor logits = Tensor::random(Dtype::f32, {2, 3}, 3), target = Tensor::from(Dtype::i64, {2}, {0, wrong}),
           loss(Dtype::f32, {2}), lse(Dtype::f32, {2});
    Tensor dlogits(Dtype::f32, {2, 3});
    CrossEntropyAttrs attrs{.ignoreIndex = 7};
    FOVEA_CHECK(code_of([&] {
                  run_cuda("crossEntropy", attrs, {&logits, &target}, {&loss, &lse});
                }) == "FOVEA_INDEX",
                "target %g", wrong);
    FOVEA_CHECK(code_of([&] {
                  run_cuda("crossEntropyBackward", attrs, {&logits, &target, &loss, &loss}, {&dlogits});
                }) == "FOVEA_INDEX",
                "target %g", wrong);
  }
}

FOVEA_TEST(loss_extreme_logits) {
  Tensor logits = Tensor::from(Dtype::f32, {3, 2}, {1000, -1000, -INFINITY, 5, NAN, 1}),
         target = Tensor::from(Dtype::i64, {3}, {1, 1, 0});
  Tensor loss(Dtype::f32, {3}), lse(Dtype::f32, {3});
  run_cuda("crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
  FOVEA_CHECK_CLOSE(loss.at(0), 2000, 1e-3);
  FOVEA_CHECK_CLOSE(loss.at(1), 0, 0);
  FOVEA_CHECK_CLOSE(loss.at(2), NAN, 0);
}

FOVEA_TEST(loss_strided_rows_and_targets) {
  Tensor logits = Tensor::expanded(Dtype::f32, {5, 12}, {true, false}),
         target = Tensor::strided(Dtype::i64, {5}, {0}, 3);
  logits.fill_random(1);
  for (int64_t row = 0; row < 5; row++) target.set(row, double(row * 2));
  Tensor loss(Dtype::f32, {5}), lse(Dtype::f32, {5});
  run_cuda("crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
  for (int64_t row = 0; row < 5; row++) {
    const double expected = log_sum_exp(logits, row);
    FOVEA_CHECK_CLOSE(lse.at(row), expected, 1e-5);
    FOVEA_CHECK_CLOSE(loss.at(row), expected - logits.at(row * 12 + row * 2), 1e-5);
  }
}

FOVEA_TEST(loss_names_the_wrong_target) {
  Tensor logits = Tensor::random(Dtype::f32, {2, 3}, 3), target = Tensor::from(Dtype::i64, {2}, {0, 9}),
         loss(Dtype::f32, {2}), lse(Dtype::f32, {2});
  std::string text;
  try {
    run_cuda("crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
  } catch (const Error& error) { text = error.what(); }
  FOVEA_CHECK(text.find("target[1] is 9, but there are 3 classes") != std::string::npos, "%s", text.c_str());
}

}  // namespace fovea::test
