// The first k of each row, in order: short rows are sorted in shared memory, a few of a long row are selected
// (cuda_topk.h); else the row is sorted and cut off.
#pragma once
#include "ops/sorting/cuda_radix.h"
#include "ops/sorting/cuda_topk.h"

namespace fovea::cuda {
namespace {

template <class Raw>
constexpr int kBits = 8 * int(sizeof(Raw));

template <class Raw>
struct FirstScratch {
  int64_t slices = 0;      // that a row is cut into; 0: it is sorted
  SortOutput<Raw> best{};  // of each slice, where there are several
  SortScratch<Raw> sort{};
};
template <class Raw>
FirstScratch<Raw> carve_first(Carver& carver, int64_t rows, int64_t n, int64_t k, const DeviceLimits& device) {
  FirstScratch<Raw> scratch;
  if (n <= kShortRow) return scratch;
  scratch.slices = topk_slices(rows, n, k, device);
  const int64_t items = rows * scratch.slices * k;
  if (scratch.slices == 0) scratch.sort = carve_sort<Raw>(carver, rows, n, kBits<Raw>, nullptr);
  else if (scratch.slices > 1) scratch.best = {carver.take<Raw>(items), carver.take<int64_t>(items), k};
  return scratch;
}
template <class Raw>
void launch_first(const CudaCall& call, const SortInput<Raw>& in, const SortOutput<Raw>& out,
                  const SortOrder<Raw>& order, int64_t rows, const FirstScratch<Raw>& scratch) {
  const int64_t slices = scratch.slices;
  if (in.n <= kShortRow) return launch_short_sort(call, in, out, order, rows);
  if (slices == 0) return sort_rows(call, in, out, order, rows, kBits<Raw>, scratch.sort);
  if (slices == 1) return launch_select(call, in, out, order, rows, 1);
  launch_select(call, in, scratch.best, order, rows, slices);
  launch_short_sort(call, dense_rows<Raw>(scratch.best.items, scratch.best.positions, rows, slices * out.count), out,
                    order, rows);
}

}  // namespace
}  // namespace fovea::cuda
