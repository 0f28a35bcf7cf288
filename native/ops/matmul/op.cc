// C = activation(alpha A B + beta bias), batched over the leading axes. Transposed operands are views, packed
// differently.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/matmul/plan.h"
#include "ops/matmul/workspace.h"

namespace fovea {

size_t matmul_workspace(Views in, Views out, const void* attrs, int threads) {
  MatmulProblem problem = matmul_problem(in, out[0], *static_cast<const MatmulAttrs*>(attrs));
  MatmulPlan plan = matmul_plan(problem, threads);
  return size_t(plan.shared_bytes + plan.thread_bytes * threads);
}

void declare_matmul(Registry& r) {
  r.add<MatmulAttrs>("matmul", "a:...~ m k, b:...~ k n, bias?:...~ m~ n~ -> c:... m n",
                     "T T T -> T | T: float int32 int64")
      .with(matmul_workspace);
}

}  // namespace fovea
