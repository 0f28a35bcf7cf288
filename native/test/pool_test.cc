// Pooling against its definition.
#include "test/pool_model.h"

FOVEA_TEST_FAMILY(pool)

namespace fovea::test {

FOVEA_TEST(max_pool) {
  for (const Table& table : tables_of_pool())
    for (Dtype dtype : kFloats) {
      for (const PoolCase& c : pool_cases()) check_max_pool(RunOn{table}, c, dtype);
      for (const PoolCase& c : dilated_pool_cases()) check_max_pool(RunOn{table}, c, dtype);
    }
}
FOVEA_TEST(avg_pool) {
  for (const Table& table : tables_of_pool())
    for (Dtype dtype : kFloats)
      for (const PoolCase& c : pool_cases())
        check_avg_pool(RunOn{table, 3, size_t(3 * c.height * c.width) * sizeof(double)}, c, dtype);
}
FOVEA_TEST(pool_refuses) {
  for (const Table& table : tables_of_pool()) check_pool_refuses(RunOn{table});
}

}  // namespace fovea::test
