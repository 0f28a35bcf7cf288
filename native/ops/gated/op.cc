// Gated linear units (Shazeer 2020, https://arxiv.org/abs/2002.05202), without the products around them:
//
//   swiglu   y = silu(gate) up            geglu   y = gelu(gate) up
//
// where gate and up are two tensors, or the two halves of the last axis of one.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/gated/attrs.h"

namespace fovea {

void declare_gated(Registry& r) {
  constexpr const char *kForward = "gate:... d, up?:... d -> y:... @width",
                       *kBackward = "gate:... d, up?:... d, dy:... n -> dgate:... d, dup:... @width";
  r.add<SwigluAttrs>("swiglu", kForward, "T T -> T | T: float").with(Layout::dense_rows);
  r.add<GegluAttrs>("geglu", kForward, "T T -> T | T: float").with(Layout::dense_rows);
  r.add<SwigluAttrs>("swigluBackward", kBackward, "T T T -> T T | T: float").with(Layout::dense_rows);
  r.add<GegluAttrs>("gegluBackward", kBackward, "T T T -> T T | T: float").with(Layout::dense_rows);
}

}  // namespace fovea
