// Gated linear units on the emulated device against a float64 model, in packs and without.
#include "test/emulator/harness_cuda.h"
#include "test/gated_model.h"

namespace fovea::test {

FOVEA_TEST(gated_units) { check_gated(RunCuda{}, {{1, 1}, {3, 5}, {7, 64}, {4, 1025}}); }
FOVEA_TEST(gated_widths_must_fit) { check_gated_widths(RunCuda{}); }

}  // namespace fovea::test
