// Rotary embedding against the definition in float64.
#include "test/rope_model.h"

FOVEA_TEST_FAMILY(rope)

namespace fovea::test {

FOVEA_TEST(rope_rotates_pairs) {
  for (const Table& table : tables_of_rope()) check_rope_rotations(RunOn{table}, {4, 8, 70, 128, 64});
}
FOVEA_TEST(rope_inverse_undoes) {
  for (const Table& table : tables_of_rope()) check_rope_inverse(RunOn{table});
}
FOVEA_TEST(rope_rejects_too_many_angles) {
  for (const Table& table : tables_of_rope()) check_rope_rejects_too_many_angles(RunOn{table});
}

}  // namespace fovea::test
