// Gated linear units against a float64 model, over lengths around a block.
#include "test/gated_model.h"

FOVEA_TEST_FAMILY(gated)

namespace fovea::test {

FOVEA_TEST(gated_units) {
  for (const Table& table : tables_of_gated())
    check_gated(RunOn{table}, {{1, 1}, {3, 5}, {7, 64}, {4, 1025}, {60, 300}});
}
FOVEA_TEST(gated_widths_must_fit) {
  for (const Table& table : tables_of_gated()) check_gated_widths(RunOn{table});
}

}  // namespace fovea::test
