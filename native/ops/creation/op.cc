// Ops that write a tensor without reading one.
#include "core/registry.h"
#include "ops/creation/attrs.h"
#include "ops/families.h"

namespace fovea {

void declare_creation(Registry& r) {
  r.add<FillAttrs>("fill_", "x!:... ->", "any ->").overwriting();
  r.add<ArangeAttrs>("arange_", "x!:n ->", "T -> | T: float int").overwriting();  // x[i] = start + i step
}

}  // namespace fovea
