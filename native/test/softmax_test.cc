// Softmax and log-softmax against a float64 model: all dtypes, strided rows, sizes from 1 to a vocabulary, NaN and
// infinite rows; the backward ops against their formulas.
#include "test/softmax_model.h"

FOVEA_TEST_FAMILY(softmax)

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {5, 3}, {7, 16}, {3, 33}, {4, 1025}, {2, 2048}, {1, 50257}};

}  // namespace

FOVEA_TEST(softmax_forward) {
  for (const Table& table : tables_of_softmax()) check_softmax(RunOn{table}, kShapes);
}
FOVEA_TEST(softmax_special_rows) {
  for (const Table& table : tables_of_softmax()) check_softmax_special_rows(RunOn{table});
}
FOVEA_TEST(softmax_backward) {
  for (const Table& table : tables_of_softmax()) check_softmax_backward(RunOn{table}, kShapes);
}

}  // namespace fovea::test
