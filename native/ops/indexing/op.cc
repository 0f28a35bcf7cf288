// Ops that read or write where an index tensor says. An index outside of its axis fails with the index and the size.
// TypeScript brings the indexed axis to the place that the rule names.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/indexing/attrs.h"
#include "ops/indexing/workspace.h"

namespace fovea {

size_t embedding_backward_workspace(Views in, Views out, const void*, int) {
  return size_t(out[0].dim(0) + 1 + in[0].size()) * sizeof(int64_t);
}

void declare_indexing(Registry& r) {
  r.add("embedding", "weight:v d, ids:... -> y:... d", "T int -> T | T: any").with(Layout::dense_rows);
  r.add<RowsAttrs>("embeddingBackward", "ids:..., dy:... d -> dweight:@rows d", "int T -> T | T: float")
      .with(Layout::dense)
      .with(embedding_backward_workspace);
  r.add("gather", "x:... n, index:... m -> y:... m", "T int -> T | T: any");
  r.add("scatter_", "y!:... n, index:... m, src:... m ->", "T int T -> | T: any");  // a later duplicate wins
  r.add("scatterAdd_", "y!:... n, index:... m, src:... m ->", "T int T -> | T: float int");
  r.add("indexSelect", "x:o n i, index:m -> y:o m i", "T int -> T | T: any");
  r.add("indexAdd_", "y!:o n i, index:m, src:o m i ->", "T int T -> | T: float int");
  r.add("countNonzero", "x:... -> count:", "any -> int64");
  r.add<NonzeroAttrs>("nonzero", "x:... -> index:@count @rank", "any -> int64");
}

}  // namespace fovea
