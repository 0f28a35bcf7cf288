// C = activation(alpha A B + beta bias) + residual, batched over the leading axes. Transposed operands are views,
// packed differently. `packed` is one matrix b as matmulPack gave it: then b itself is not read. It is for the CPU
// alone.
#include <algorithm>

#include "core/registry.h"
#include "ops/families.h"
#include "ops/matmul/plan.h"
#include "ops/matmul/workspace.h"

namespace fovea {

size_t matmul_workspace(Views in, Views out, const void* attrs, int threads) {
  auto bytes = [&](const MatmulCuts& cuts) {
    MatmulProblem problem = matmul_problem(in, out[0], *static_cast<const MatmulAttrs*>(attrs), cuts);
    return plan_bytes(matmul_plan(problem, threads), threads);
  };
  size_t vectors = bytes(kVectorCuts);
  return out[0].dtype == Dtype::bf16 ? std::max(vectors, bytes(kTileCuts)) : vectors;
}

void declare_matmul(Registry& r) {
  r.add<MatmulAttrs>("matmul", "a:...~ m k, b:...~ k n, bias?:...~ m~ n~, packed?:s, residual?:...~ m~ n~ -> c:... m n",
                     "T T T T T -> T | T: float int32 int64")
      .with(matmul_workspace);
  r.add<PackAttrs>("matmulPack", "b:k n -> packed:@size", "T -> T | T: float");
}

}  // namespace fovea
