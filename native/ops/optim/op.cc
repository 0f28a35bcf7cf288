// Optimiser steps over all parameters in one command, in place.
//
// g is the gradient (negated with maximize) plus wd p, unless weight decay is decoupled: then p is multiplied by
// 1 - lr wd. m, v and so on are running averages; t counts steps.
//   adamw_ (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; Loshchilov & Hutter 2019,
//     https://arxiv.org/abs/1711.05101; amsgrad: Reddi et al. 2018, https://arxiv.org/abs/1904.09237):
//     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps), of the largest v so
//     far with amsgrad
//   radam_ (Liu et al. 2020, https://arxiv.org/abs/1908.03265): p -= lr m/(1-b1^t) r sqrt(1-b2^t) / (sqrt(v) + eps),
//     r = sqrt((l-4)(l-2) n / ((n-4)(n-2) l)), n = 2/(1-b2) - 1, l = n - 2t b2^t/(1-b2^t);
//     p -= lr m/(1-b1^t) for l <= 5
//   nadam_ (Dozat 2016, "Incorporating Nesterov momentum into Adam"):
//     p -= (gradientRate g + momentRate m) / (sqrt(v/(1-b2^t)) + eps)
//   adagrad_ (Duchi et al. 2011): sum += g^2;  p -= lr g / (sqrt(sum) + eps)
//   rmsprop_ (Tieleman & Hinton 2012; centered: Graves 2013, https://arxiv.org/abs/1308.0850):
//     v = a v + (1-a) g^2;  m = a m + (1-a) g;  u = momentum u + g / (sqrt(v - m^2) + eps), m^2 if centered;  p -= lr u
//   lion_ (Chen et al. 2023, https://arxiv.org/abs/2302.06675): p -= lr sign(b1 m + (1-b1) g);  m = b2 m + (1-b2) g
//   sophia_ (Liu et al. 2023, https://arxiv.org/abs/2305.14342): m = b1 m + (1-b1) g;
//     p -= lr clip(m / max(gamma h, eps), 1); h is as it was
//   sgd_: u = momentum u + (1 - dampening) g;  p -= lr (nesterov ? g + momentum u : u)
//   adamwCompact_, lionCompact_: the same with states in bfloat16, or in bytes with a scale for each 256 (compact.h)
//   adafactor_ (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235), with r = t^beta2Decay, of the last two axes:
//     row += r (mean of g^2 over columns - row);  col += r (mean over rows - col);  v = row col / max(mean row, eps1)
//     u = g / sqrt(max(v, eps1^2));  p = p (1 - lr wd) - max(eps2, rms p) min(lr, 1/sqrt(t)) u / max(1, rms u / d)
//     for fewer than two axes v += r (g^2 - v)
//   gradNorm: sqrt(sum of squares over all tensors);  clip_: g *= min(1, maxNorm / (norm + 1e-6))
#include "core/registry.h"
#include "ops/families.h"
#include "ops/optim/adafactor_plan.h"
#include "ops/optim/attrs.h"
#include "ops/optim/workspace.h"

namespace fovea {

size_t grad_norm_workspace(Views in, Views, const void*, int) {
  size_t pieces = 0;
  for (const View& v : in) pieces += size_t((v.size() + kNormPiece - 1) / kNormPiece);
  return pieces * sizeof(double);
}

size_t adafactor_workspace(Views in, Views, const void*, int) {
  AdafactorTotals all;
  for (int64_t i = 0; i < in.size(); i += kAdafactorInputs) all.add(in[i]);
  const size_t tensors = size_t(in.size() / kAdafactorInputs);
  return tensors * (sizeof(AdafactorTensor) + sizeof(double)) + AdafactorSums::bytes(all);
}

void declare_optim(Registry& r) {
  constexpr const char *kTwoMoments = "p!:..., g:..., m!:..., v!:... ->", *kTwoTypes = "T T acc acc -> | T: float";
  constexpr const char* kThreeTypes = "T T acc acc acc -> | T: float";
  r.add<AdamwAttrs>("adamw_", "p!:..., g:..., m!:..., v!:..., vMax!?:... ->", kThreeTypes)
      .with(Layout::dense)
      .over_many();
  r.add<RadamAttrs>("radam_", kTwoMoments, kTwoTypes).with(Layout::dense).over_many();
  r.add<NadamAttrs>("nadam_", kTwoMoments, kTwoTypes).with(Layout::dense).over_many();
  r.add<AdagradAttrs>("adagrad_", "p!:..., g:..., sum!:... ->", "T T acc -> | T: float")
      .with(Layout::dense)
      .over_many();
  r.add<RmspropAttrs>("rmsprop_", "p!:..., g:..., v!:..., u!?:..., m!?:... ->", kThreeTypes)
      .with(Layout::dense)
      .over_many();
  r.add<LionAttrs>("lion_", "p!:..., g:..., m!:... ->", "T T acc -> | T: float").with(Layout::dense).over_many();
  r.add<SophiaAttrs>("sophia_", "p!:..., g:..., m!:..., h!:... ->", kTwoTypes).with(Layout::dense).over_many();
  r.add<AdamwAttrs>("adamwCompact_",
                    "p!:..., g:..., m!:..., v!:..., vMax!?:..., mScale!?:k, vScale!?:k, vMaxScale!?:k ->",
                    "T T S S S float32 float32 float32 -> | T: float, S: bfloat16 uint8")
      .with(Layout::dense)
      .over_many();
  r.add<LionAttrs>("lionCompact_", "p!:..., g:..., m!:..., mScale!?:k ->",
                   "T T S float32 -> | T: float, S: bfloat16 uint8")
      .with(Layout::dense)
      .over_many();
  r.add<SgdAttrs>("sgd_", "p!:..., g:..., u!?:... ->", "T T acc -> | T: float").with(Layout::dense).over_many();
  r.add<AdafactorAttrs>("adafactor_", "p!:..., g:..., row!?:*, col!?:*, v!?:* ->", kThreeTypes)
      .with(Layout::dense)
      .with(adafactor_workspace)
      .over_many();
  r.add("gradNorm", "g:... -> norm:", "float -> float32").with(Layout::dense).with(grad_norm_workspace).over_many();
  r.add<ClipAttrs>("clip_", "g!:..., norm: ->", "float float32 ->").with(Layout::dense).over_many();
}

}  // namespace fovea
