// Ops that misbehave on purpose, for the tests of failures, ordering and sanitizers. Not reachable from the public API.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/faults/attrs.h"

namespace fovea {

void declare_faults(Registry& r) {
  r.add<ThrowAttrs>("throws", "x:... -> y:...", "T -> T | T: any");
  r.add<BusyAttrs>("busy", "x:... -> y:...", "T -> T | T: any").with(Layout::dense);
}

}  // namespace fovea
