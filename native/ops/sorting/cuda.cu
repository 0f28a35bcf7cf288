// Stable sort and top-k along the last axis, on the device.
//
// sort: rows of up to 2048 elements in shared memory (cuda_block.h), longer ones by radix (cuda_radix.h).
// topk: the first k of each row (cuda_first.h).
#include "ops/sorting/attrs.h"
#include "ops/sorting/cuda_first.h"

namespace fovea::cuda {
namespace {

int64_t rows_of(const View& x) { return x.dim(-1) == 0 ? 0 : x.size() / x.dim(-1); }

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

size_t topk_workspace(Views in, Views, const void* attrs, const DeviceLimits& device) {
  const int64_t n = in[0].dim(-1), k = static_cast<const TopkAttrs*>(attrs)->k;
  Carver carver(nullptr);
  if (k < 1 || k > n) return 0;
  dispatch_raw(in[0].dtype, [&](auto zero) { carve_first<decltype(zero)>(carver, rows_of(in[0]), n, k, device); });
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
    const SortOutput<Raw> out{call.out[0].as<Raw>(), call.out[1].as<int64_t>(), k};
    Carver carver(call.workspace);
    const FirstScratch<Raw> scratch = carve_first<Raw>(carver, rows, n, k, call.device);
    launch_first(call, rows_to_sort<Raw>(x), out, order_of<Raw>(x.dtype, attrs.largest), rows, scratch);
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(sorting, FOVEA_CUDA_KERNEL_WITH("sort", sort, SortAttrs, sort_workspace),
                   FOVEA_CUDA_KERNEL_WITH("topk", topk, TopkAttrs, topk_workspace))

}  // namespace fovea::cuda
