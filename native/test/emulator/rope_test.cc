// Rotary embedding on the emulated device against a float64 model: all dtypes, both kinds of pairs, the inverse,
// strided rows, shared angles, components that pass, widths that do not fill packs.
#include "test/emulator/harness_cuda.h"
#include "test/rope_model.h"

namespace fovea::test {

FOVEA_TEST(rope_rotates_pairs) { check_rope_rotations(RunCuda{}, {2, 2, 9, 128, 64}); }
FOVEA_TEST(rope_inverse_undoes) { check_rope_inverse(RunCuda{}); }
FOVEA_TEST(rope_rejects_too_many_angles) { check_rope_rejects_too_many_angles(RunCuda{}); }

}  // namespace fovea::test
