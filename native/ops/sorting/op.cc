// Sorting along the last axis: stable, NaN counts as the largest value.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/sorting/attrs.h"
#include "ops/sorting/workspace.h"

namespace fovea {

static size_t bytes_of_items(const View& x, int64_t items, int threads) {
  int64_t n = x.dim(-1);
  size_t slots = x.size() > n ? size_t(threads) : 1;
  return slots * 2 * size_t(items) * (sorts_narrow(x.dtype, n) ? sizeof(NarrowItem) : sizeof(WideItem));
}
size_t sort_workspace(Views in, Views, const void*, int threads) {
  return bytes_of_items(in[0], in[0].dim(-1), threads);
}
size_t topk_workspace(Views in, Views, const void* attrs, int threads) {
  int64_t k = static_cast<const TopkAttrs*>(attrs)->k, n = in[0].dim(-1);
  if (k < 0 || k > n) return 0;  // the kernel refuses it
  return bytes_of_items(in[0], topk_candidates(k), threads);
}

void declare_sorting(Registry& r) {
  r.add<SortAttrs>("sort", "x:... n -> values:... n, indices:... n", "T -> T int64 | T: any").with(sort_workspace);
  r.add<TopkAttrs>("topk", "x:... n -> values:... @k, indices:... @k", "T -> T int64 | T: any")
      .with(topk_workspace);  // sorted; k <= n or it fails
}

}  // namespace fovea
