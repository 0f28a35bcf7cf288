// Cross entropy of class logits against class numbers, one row at a time:
//   loss = lse - (1 - s) x[target] - s mean(x), lse = log sum exp x; 0 where target = ignoreIndex.
// crossEntropyBackward_ writes the gradient over the logits.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/loss/attrs.h"

namespace fovea {

void declare_loss(Registry& r) {
  r.add<CrossEntropyAttrs>("crossEntropy", "logits:n c, target:n -> loss:n, lse:n", "T int64 -> acc acc | T: float")
      .with(Layout::dense_rows);
  r.add<CrossEntropyAttrs>("crossEntropyBackward", "logits:n c, target:n, lse:n, dloss:n -> dlogits:n c",
                           "T int64 acc acc -> T | T: float")
      .with(Layout::dense);
  r.add<CrossEntropyAttrs>("crossEntropyBackward_", "logits!:n c, target:n, lse:n, dloss:n ->",
                           "T int64 acc acc -> | T: float")
      .with(Layout::dense);
}

}  // namespace fovea
