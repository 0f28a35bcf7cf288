// Cross entropy against a float64 model: all dtypes, label smoothing, ignored rows, targets out of range, and the
// gradient against its formula.
#include "ops/loss/attrs.h"
#include "test/loss_model.h"

FOVEA_TEST_FAMILY(loss)

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {5, 3}, {7, 64}, {3, 1025}, {2, 50257}};

}  // namespace

FOVEA_TEST(loss_cross_entropy) {
  for (const Table& table : tables_of_loss()) check_cross_entropy(RunOn{table}, kShapes);
}

FOVEA_TEST(loss_targets_out_of_range) {
  for (const Table& table : tables_of_loss())
    for (double wrong : {3.0, -1.0, -100.0}) {
      Tensor logits = Tensor::random(Dtype::f32, {2, 3}, 3), target = Tensor::from(Dtype::i64, {2}, {0, wrong}),
             loss(Dtype::f32, {2}), lse(Dtype::f32, {2});
      Tensor dlogits(Dtype::f32, {2, 3});
      CrossEntropyAttrs attrs{.ignoreIndex = 7};
      FOVEA_CHECK(error_of(table, "crossEntropy", attrs, {&logits, &target}, {&loss, &lse}) == "FOVEA_INDEX",
                  "target %g", wrong);
      FOVEA_CHECK(
          error_of(table, "crossEntropyBackward", attrs, {&logits, &target, &loss, &loss}, {&dlogits}) == "FOVEA_INDEX",
          "target %g", wrong);
    }
}

FOVEA_TEST(loss_extreme_logits) {
  for (const Table& table : tables_of_loss()) {
    Tensor logits = Tensor::from(Dtype::f32, {3, 2}, {1000, -1000, -INFINITY, 5, NAN, 1}),
           target = Tensor::from(Dtype::i64, {3}, {1, 1, 0});
    Tensor loss(Dtype::f32, {3}), lse(Dtype::f32, {3});
    run(table, "crossEntropy", CrossEntropyAttrs{}, {&logits, &target}, {&loss, &lse});
    FOVEA_CHECK_CLOSE(loss.at(0), 2000, 1e-3);
    FOVEA_CHECK_CLOSE(loss.at(1), 0, 0);
    FOVEA_CHECK_CLOSE(loss.at(2), NAN, 0);
  }
}

}  // namespace fovea::test
