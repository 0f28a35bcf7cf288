// unfold and fold on the emulated device against their definition.
#include "test/conv_model.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {

FOVEA_TEST(unfold_and_fold) {
  for (Dtype dtype : kFloats)
    for (const ConvCase& c : conv_cases()) check_unfold(RunCuda{}, c, dtype);
}
FOVEA_TEST(unfold_refuses) {
  Tensor x = Tensor::random(Dtype::f32, {1, 1, 3, 3}, 1), columns(Dtype::f32, {1, 1, 1, 1, 3, 3});
  ConvAttrs a = steps(1, 0, 1, 0, 0);
  FOVEA_CHECK(code_of([&] { run_cuda("unfold", a, {&x}, {&columns}); }) == "FOVEA_ARGUMENT", "a stride of 0");
}

}  // namespace fovea::test
