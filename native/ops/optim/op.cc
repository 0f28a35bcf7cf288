// Optimiser steps over all parameters in one command, in place.
//   adamw_ (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101):
//     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr ( m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + wd p )
//   sgd_: g += wd p;  u = momentum u + (1 - dampening) g;  p -= lr (nesterov ? g + momentum u : u)
//   gradNorm: sqrt(sum of squares over all tensors);  clip_: g *= min(1, maxNorm / (norm + 1e-6))
#include "core/registry.h"
#include "ops/families.h"
#include "ops/optim/attrs.h"
#include "ops/optim/workspace.h"

namespace fovea {

size_t grad_norm_workspace(Views in, Views, const void*, int) {
  size_t pieces = 0;
  for (const View& v : in) pieces += size_t((v.size() + kNormPiece - 1) / kNormPiece);
  return pieces * sizeof(double);
}

void declare_optim(Registry& r) {
  r.add<AdamwAttrs>("adamw_", "p!:..., g:..., m!:..., v!:... ->", "T T acc acc -> | T: float")
      .with(Layout::dense)
      .over_many();
  r.add<SgdAttrs>("sgd_", "p!:..., g:..., u!?:... ->", "T T acc -> | T: float").with(Layout::dense).over_many();
  r.add("gradNorm", "g:... -> norm:", "float -> float32").with(Layout::dense).with(grad_norm_workspace).over_many();
  r.add<ClipAttrs>("clip_", "g!:..., norm: ->", "float float32 ->").with(Layout::dense).over_many();
}

}  // namespace fovea
