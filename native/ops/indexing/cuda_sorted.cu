// Sorting of targets, and sums of single elements over runs of equal ones.
#include "ops/indexing/cuda_sorted.h"

#include "ops/sorting/cuda_radix.h"

namespace fovea::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads) read_targets(TargetRows t, uint64_t* targets) {
  for (int64_t row = first_row(); row < t.count; row += row_step()) {
    int64_t at[1];
    t.rows.offsets(t.first + row, at);
    for (int64_t first = first_along(); first < t.length; first += along_step())
      for (int u = 0; u < kPerRowThread; u++) {
        const int64_t i = first + u * int64_t(blockDim.x);
        if (i >= t.length) break;
        const int64_t target = t.index(at[0] + i * t.step);
        targets[row * t.length + i] = uint64_t(target < 0 || target == t.unwanted ? t.index.size : target);
      }
  }
}

int bits_of_targets(int64_t size) {
  int bits = 1;
  while (size >> bits) bits++;
  return bits;
}

// All lanes of a warp share a run that is long: every 32nd source each.
template <class T>
__device__ void add_long_run(const ElementRuns<T>& r, const uint64_t* targets, const int64_t* positions, int64_t start,
                             T* y, const T* src) {
  const uint64_t target = targets[start];
  Compute<T> sum = 0;
  const int64_t lane = threadIdx.x % 32;
#pragma unroll 4
  for (int64_t i = start + lane; i < r.sorted.length && targets[i] == target; i += 32)
    sum = Compute<T>(sum + widen(src[positions[i] * r.src_step]));
  if constexpr (sizeof(sum) < 4) {
    const unsigned all = __reduce_add_sync(~0u, unsigned(sum));
    sum = Compute<T>(all);
  } else {
    for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart);
  }
  if (lane > 0) return;
  T* to = y + int64_t(target) * r.y_step;
  *to = narrow<T>(Compute<T>(widen(*to) + sum));
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 4) add_runs(ElementRuns<T> r) {
  const bool whole_warps = blockDim.x >= 32;  // else rows are so short that no run is worth sharing
  for (int64_t row = first_row(); row < r.count; row += row_step()) {
    int64_t at[2];
    r.rows.offsets(r.first + row, at);
    T* y = r.y + at[0];
    const T* src = r.src + at[1];
    const uint64_t* targets = r.sorted.targets + row * r.sorted_step;
    const int64_t* positions = r.sorted.positions + row * r.sorted_step;
    // Lanes of a warp stay together.
    for (int64_t base = first_along() - threadIdx.x; base < r.sorted.length; base += along_step())
      for (int u = 0; u < kPerRowThread; u++) {
        const int64_t start = base + u * int64_t(blockDim.x) + threadIdx.x;
        const uint64_t target = start < r.sorted.length ? targets[start] : r.sorted.none;
        const bool starts = target < r.sorted.none && (start == 0 || targets[start - 1] != target);
        const bool is_long =
            starts && whole_warps && start + kLongRun < r.sorted.length && targets[start + kLongRun] == target;
        if (starts && !is_long) {
          T* to = y + int64_t(target) * r.y_step;
          Compute<T> sum = widen(*to);
          for (int64_t i = start; i < r.sorted.length && targets[i] == target; i++)
            sum = Compute<T>(sum + widen(src[positions[i] * r.src_step]));
          *to = narrow<T>(sum);
        }
        if (!whole_warps) continue;
        for (unsigned rest = __ballot_sync(~0u, is_long); rest; rest &= rest - 1)
          add_long_run(r, targets, positions, start - threadIdx.x % 32 + (__ffs(int(rest)) - 1), y, src);
      }
  }
}

}  // namespace

TargetScratch carve_targets(Carver& carver, int64_t rows, int64_t length, int64_t size) {
  TargetScratch scratch;
  const int bits = bits_of_targets(size), passes = radix_passes(length, bits);
  scratch.sorted = {carver.take<uint64_t>(rows * length), carver.take<int64_t>(rows * length), length};
  scratch.sort = carve_sort(carver, rows, length, bits, &scratch.sorted);
  // The first pass does not write where the unsorted targets lie.
  if (passes > 1) scratch.unsorted = passes % 2 ? scratch.sort.odd.items : scratch.sorted.items;
  else scratch.unsorted = carver.take<uint64_t>(rows * length);
  return scratch;
}
SortedTargets sort_targets(const CudaCall& call, const TargetRows& rows, const TargetScratch& scratch) {
  call.launch(read_targets, rows_config(rows.count, rows.length), rows, scratch.unsorted);
  sort_rows(call, dense_rows<uint64_t>(scratch.unsorted, nullptr, rows.count, rows.length), scratch.sorted,
            SortOrder<uint64_t>{}, rows.count, bits_of_targets(rows.index.size), scratch.sort);
  return {scratch.sorted.items, scratch.sorted.positions, rows.length, uint64_t(rows.index.size)};
}

template <class T>
void add_elements(const CudaCall& call, const ElementRuns<T>& runs) {
  call.launch(add_runs<T>, rows_config(runs.count, runs.sorted.length), runs);
}
template void add_elements(const CudaCall&, const ElementRuns<float>&);
template void add_elements(const CudaCall&, const ElementRuns<double>&);
template void add_elements(const CudaCall&, const ElementRuns<Half>&);
template void add_elements(const CudaCall&, const ElementRuns<Bfloat16>&);
template void add_elements(const CudaCall&, const ElementRuns<uint8_t>&);

}  // namespace fovea::cuda
