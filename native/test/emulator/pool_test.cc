// Pooling on the emulated device against its definition.
#include "test/emulator/harness_cuda.h"
#include "test/pool_model.h"

namespace fovea::test {

FOVEA_TEST(max_pool) {
  for (Dtype dtype : kFloats) {
    for (const PoolCase& c : pool_cases()) check_max_pool(RunCuda{}, c, dtype);
    for (const PoolCase& c : dilated_pool_cases()) check_max_pool(RunCuda{}, c, dtype);
  }
}
FOVEA_TEST(avg_pool) {
  for (Dtype dtype : kFloats)
    for (const PoolCase& c : pool_cases()) check_avg_pool(RunCuda{}, c, dtype);
}
FOVEA_TEST(pool_refuses) { check_pool_refuses(RunCuda{}); }

}  // namespace fovea::test
