// Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864): the first 2r of d components are
// rotated in pairs by the angle of their position; the rest pass.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/rope/attrs.h"

namespace fovea {

void declare_rope(Registry& r) {
  r.add<RopeAttrs>("rope", "x:b h n d, cos:b~ n r, sin:b~ n r -> y:b h n d", "T acc acc -> T | T: float")
      .with(Layout::dense_rows);
}

}  // namespace fovea
