// Softmax and log-softmax on the emulated device against a float64 model: all dtypes, strided and repeated rows, sizes
// around the packs and groups of threads, NaN and infinite rows; the backward ops against their formulas.
#include "test/emulator/harness_cuda.h"
#include "test/softmax_model.h"

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {5, 3}, {7, 16}, {131, 8}, {3, 33}, {4, 1025}, {2, 2048}, {1, 5003}, {1, 20480}};

}  // namespace

FOVEA_TEST(softmax_forward) { check_softmax(RunCuda{}, kShapes); }
FOVEA_TEST(softmax_special_rows) { check_softmax_special_rows(RunCuda{}); }
FOVEA_TEST(softmax_backward) { check_softmax_backward(RunCuda{}, kShapes); }

}  // namespace fovea::test
