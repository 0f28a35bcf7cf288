// Stable sort and top-k along the last axis, on the device.
//
// sort: rows of up to 2048 elements in shared memory (cuda_block.h), longer ones by radix (cuda_radix.h).
// topk: short rows like sort; a few of a long row are selected (cuda_topk.h); else the row is sorted and cut off.
#include "ops/sorting/attrs.h"
#include "ops/sorting/cuda_radix.h"
#include "ops/sorting/cuda_topk.h"

namespace fovea::cuda {
namespace {

int64_t rows_of(const View& x) { return x.dim(-1) == 0 ? 0 : x.size() / x.dim(-1); }
template <class Raw>
constexpr int kBits = 8 * int(sizeof(Raw));

size_t sort_workspace(Views in, Views, const void*, const DeviceLimits&) {
  Carver carver(nullptr);
  dispatch_raw(in[0].dtype, [&](auto zero) {
    using Raw = decltype(zero);
    const SortOutput<Raw> out{};
    carve_sort<Raw>(carver, rows_of(in[0]), in[0].dim(-1), kBits<Raw>, &out);
  });
  return carver.used();
}
void sort(const CudaCall& call, const SortAttrs& attrs) {
  const View& x = call.in[0];
  const int64_t rows = rows_of(x), n = x.dim(-1);
  if (rows == 0) return;
  dispatch_raw(x.dtype, [&](auto zero) {
    using Raw = decltype(zero);
    const SortOutput<Raw> out{call.out[0].as<Raw>(), call.out[1].as<int64_t>(), n};
    Carver carver(call.workspace);
    const SortScratch<Raw> scratch = carve_sort<Raw>(carver, rows, n, kBits<Raw>, &out);
    sort_rows(call, rows_to_sort<Raw>(x), out, order_of<Raw>(x.dtype, attrs.descending), rows, kBits<Raw>, scratch);
  });
}

// The best of each slice, where a row is cut into several.
template <class Raw>
SortOutput<Raw> carve_slices(Carver& carver, int64_t rows, int64_t slices, int64_t k) {
  return {carver.take<Raw>(rows * slices * k), carver.take<int64_t>(rows * slices * k), k};
}
size_t topk_workspace(Views in, Views, const void* attrs, const DeviceLimits& device) {
  const int64_t rows = rows_of(in[0]), n = in[0].dim(-1), k = static_cast<const TopkAttrs*>(attrs)->k;
  Carver carver(nullptr);
  if (k < 1 || k > n || n <= kShortRow) return 0;
  dispatch_raw(in[0].dtype, [&](auto zero) {
    using Raw = decltype(zero);
    const int64_t slices = topk_slices(rows, n, k, device);
    if (slices == 0) carve_sort<Raw>(carver, rows, n, kBits<Raw>, nullptr);
    else if (slices > 1) carve_slices<Raw>(carver, rows, slices, k);
  });
  return carver.used();
}
void topk(const CudaCall& call, const TopkAttrs& attrs) {
  const View& x = call.in[0];
  const int64_t rows = rows_of(x), n = x.dim(-1), k = attrs.k;
  if (k < 0 || k > n)
    call.fail("FOVEA_ARGUMENT", "k is %lld, but the axis has %lld elements; k must lie between 0 and that",
              static_cast<long long>(k), static_cast<long long>(n));
  if (k == 0 || rows == 0) return;
  dispatch_raw(x.dtype, [&](auto zero) {
    using Raw = decltype(zero);
    const SortInput<Raw> in = rows_to_sort<Raw>(x);
    const SortOutput<Raw> out{call.out[0].as<Raw>(), call.out[1].as<int64_t>(), k};
    const SortOrder<Raw> order = order_of<Raw>(x.dtype, attrs.largest);
    Carver carver(call.workspace);
    if (n <= kShortRow) return launch_short_sort(call, in, out, order, rows);
    const int64_t slices = topk_slices(rows, n, k, call.device);
    if (slices == 0)
      return sort_rows(call, in, out, order, rows, kBits<Raw>, carve_sort<Raw>(carver, rows, n, kBits<Raw>, nullptr));
    if (slices == 1) return launch_select(call, in, out, order, rows, 1);
    const SortOutput<Raw> best = carve_slices<Raw>(carver, rows, slices, k);
    launch_select(call, in, best, order, rows, slices);
    launch_short_sort(call, dense_rows<Raw>(best.items, best.positions, rows, slices * k), out, order, rows);
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(sorting, FOVEA_CUDA_KERNEL_WITH("sort", sort, SortAttrs, sort_workspace),
                   FOVEA_CUDA_KERNEL_WITH("topk", topk, TopkAttrs, topk_workspace))

}  // namespace fovea::cuda
