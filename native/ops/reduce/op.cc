// Reductions over the last axis. TypeScript moves the reduced axes to the end first, as a view, and merges them.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/reduce/attrs.h"
#include "ops/reduce/workspace.h"

namespace fovea {

size_t reduce_workspace(Views in, Views out, const void*, int) {
  int64_t outputs = out[0].size();
  return reduce_may_split(outputs, in[0].size()) ? size_t((kReducePieces + 2) * outputs) * sizeof(double) : 0;
}

void declare_reduce(Registry& r) {
  constexpr const char* kReduce = "x:... r -> y:...";
  r.add("sum", kReduce, "T -> T | T: float int64 int32").with(reduce_workspace);
  r.add("mean", kReduce, "T -> T | T: float").with(reduce_workspace);
  r.add("prod", kReduce, "T -> T | T: float int64 int32").with(reduce_workspace);
  r.add("max", kReduce, "T -> T | T: any").with(reduce_workspace);  // a NaN wins; an empty axis fails
  r.add("min", kReduce, "T -> T | T: any").with(reduce_workspace);
  r.add("argmax", kReduce, "any -> int64").with(reduce_workspace);  // the first of equals
  r.add("argmin", kReduce, "any -> int64").with(reduce_workspace);
  r.add("any", kReduce, "bool -> bool").with(reduce_workspace);
  r.add("all", kReduce, "bool -> bool").with(reduce_workspace);
  r.add<VarianceAttrs>("variance", "x:... r -> y:..., mean:...", "T -> T acc | T: float").with(reduce_workspace);
  r.add<NormAttrs>("norm", kReduce, "T -> T | T: float").with(reduce_workspace);
  r.add("logsumexp", kReduce, "T -> T | T: float").with(reduce_workspace);
  r.add("cumsum", "x:... r -> y:... r", "T -> T | T: float int64 int32");
}

}  // namespace fovea
