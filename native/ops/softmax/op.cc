// Softmax and log-softmax over the last axis.
#include "core/registry.h"
#include "ops/families.h"

namespace fovea {

void declare_softmax(Registry& r) {
  for (const char* name : {"softmax", "logSoftmax"})
    r.add(name, "x:... n -> y:... n", "T -> T | T: float").with(Layout::dense_rows);
  for (const char* name : {"softmaxBackward", "logSoftmaxBackward"})
    r.add(name, "y:... n, dy:... n -> dx:... n", "T T -> T | T: float").with(Layout::dense_rows);
}

}  // namespace fovea
