// C = activation(alpha A B + beta bias) + residual, batched over the leading axes. Transposed operands are views,
// packed differently. `packed` is one matrix b as matmulPack gave it: then b itself is not read. It is for the CPU
// alone.
//
// Groups of neighbouring rows, which end where offs says, each with a matrix of its own: groupedMatmul multiplies by
// it, groupedOuter makes it, c[g] = a_g^T b_g.
#include <algorithm>

#include "core/registry.h"
#include "ops/families.h"
#include "ops/matmul/grouped_plan.h"
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

static size_t grouped_bytes(Views in, const View& out, bool sums_rows, int threads) {
  auto bytes = [&](const MatmulCuts& cuts) {
    return plan_bytes(grouped_plan(grouped_problem(in, out, sums_rows, cuts)), threads);
  };
  size_t vectors = bytes(kVectorCuts);
  return out.dtype == Dtype::bf16 ? std::max(vectors, bytes(kTileCuts)) : vectors;
}
size_t grouped_matmul_workspace(Views in, Views out, const void*, int threads) {
  return grouped_bytes(in, out[0], false, threads);
}
size_t grouped_outer_workspace(Views in, Views out, const void*, int threads) {
  return grouped_bytes(in, out[0], true, threads);
}

void declare_matmul(Registry& r) {
  r.add<MatmulAttrs>("matmul", "a:...~ m k, b:...~ k n, bias?:...~ m~ n~, packed?:s, residual?:...~ m~ n~ -> c:... m n",
                     "T T T T T -> T | T: float int32 int64")
      .with(matmul_workspace);
  r.add<PackAttrs>("matmulPack", "b:k n -> packed:@size", "T -> T | T: float");
  r.add("groupedMatmul", "x:t k, weights:g k n, offs:g -> y:t n", "T T int -> T | T: float")
      .with(grouped_matmul_workspace);
  r.add("groupedOuter", "a:t k, b:t n, offs:g -> c:g k n", "T T int -> T | T: float").with(grouped_outer_workspace);
}

}  // namespace fovea
