// Recurrent cells on the emulated device against a float64 model.
#include "test/emulator/harness_cuda.h"
#include "test/rnn_model.h"

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {3, 5}, {7, 64}, {4, 257}};

}  // namespace

FOVEA_TEST(rnn_lstm_cell) { check_lstm(RunCuda{}, kShapes); }
FOVEA_TEST(rnn_gru_cell) { check_gru(RunCuda{}, kShapes); }
FOVEA_TEST(rnn_widths_must_fit) { check_cell_widths(RunCuda{}); }

}  // namespace fovea::test
