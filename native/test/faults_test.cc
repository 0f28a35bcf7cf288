// The kernels that fail on purpose do fail, on the calling thread and in chunks.
#include "ops/faults/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(faults)

using namespace fovea;
using namespace fovea::test;

FOVEA_TEST(faults_fail) {
  for (const Table& t : tables_of_faults()) {
    Tensor x = Tensor::random(Dtype::f32, {5}, 1), y(Dtype::f32, {5});
    FOVEA_CHECK(error_of(t, "throws", ThrowAttrs{false}, {&x}, {&y}) == "FOVEA_KERNEL_FAILED", "%s", t.isa);
    FOVEA_CHECK(error_of(t, "throws", ThrowAttrs{true}, {&x}, {&y}) == "FOVEA_KERNEL_FAILED", "%s", t.isa);
    run(t, "busy", BusyAttrs{.milliseconds = 1}, {&x}, {&y});
    FOVEA_CHECK(x.same_bits(y), "%s", t.isa);
  }
}
