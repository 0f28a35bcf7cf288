// Random numbers from Philox counters (core/random.h): the same on every device, instruction set and thread count.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/random/attrs.h"
#include "ops/random/workspace.h"

namespace fovea {

void declare_random(Registry& r) {
  r.add<UniformAttrs>("uniform_", "x!:... ->", "float ->").overwriting();
  r.add<NormalAttrs>("normal_", "x!:... ->", "float ->")
      .overwriting();  // Box-Muller on the two halves of a Philox block
  r.add<RandintAttrs>("randint_", "x!:... ->", "any ->").overwriting();   // [low, high)
  r.add<DropoutAttrs>("dropout", "x:... -> y:...", "T -> T | T: float");  // the same call on dy is its gradient
  r.add<DropoutAttrs>("dropoutAdd", "x:..., residual:... -> y:...", "T T -> T | T: float").with(Layout::dense);
  r.add<MultinomialAttrs>("multinomial", "probs:b n -> ids:b @numSamples", "float -> int64")
      .with(Layout::dense_rows)
      .with(multinomial_workspace);
}

}  // namespace fovea
