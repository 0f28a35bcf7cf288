// Recurrent cells against a float64 model, over widths around a block.
#include "test/rnn_model.h"

FOVEA_TEST_FAMILY(rnn)

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {3, 5}, {7, 64}, {4, 257}, {60, 300}};

}  // namespace

FOVEA_TEST(rnn_lstm_cell) {
  for (const Table& table : tables_of_rnn()) check_lstm(RunOn{table}, kShapes);
}
FOVEA_TEST(rnn_gru_cell) {
  for (const Table& table : tables_of_rnn()) check_gru(RunOn{table}, kShapes);
}
FOVEA_TEST(rnn_widths_must_fit) {
  for (const Table& table : tables_of_rnn()) check_cell_widths(RunOn{table});
}

}  // namespace fovea::test
