// Ops that add whole slices where an index tensor says, on the device:
//
//   embeddingBackward   dweight[r, :] = sum of dy[i, :] over ids[i] = r
//   indexAdd_           y[:, index[j], :] += src[:, j, :]
//
// Integers are added atomically. For other types the indices are sorted (cuda_sorted.h), and a block adds up all slices
// of one target, in float32 (float64 for itself), rounding once. Short slices are added by a thread per element
// instead.
#include "ops/indexing/cuda_sorted.h"

namespace fovea::cuda {
namespace {

constexpr int kSliceThreads = 256;
constexpr int64_t kShortSlice = 32;  // elements

template <class T>
struct SliceRuns {
  SortedTargets sorted;
  T* y;
  const T* src;
  int64_t outer, inner;
  int64_t y_outer, y_slice, y_inner, src_outer, src_slice, src_inner;
  bool fresh;  // y starts out as zeros
};

// kVector elements of a slice, neighbours in memory if there are several.
template <class T, int kVector>
struct alignas(sizeof(T) * kVector) Elements {
  T value[kVector];
};
// Adds elements [at, at + kVector) of the sources first, first + step, ... of a run to `sums`.
template <class T, int kVector>
__device__ void add_sources(const SliceRuns<T>& r, uint64_t target, int64_t first, int64_t step, const T* at,
                            Compute<T> (&sums)[kVector]) {
  constexpr int kAhead = 4;  // slices that are on their way at once
  for (int64_t i = first;; i += kAhead * step) {
    int64_t positions[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      const int64_t place = i + a * step;
      const bool there = place < r.sorted.length && r.sorted.targets[place] == target;
      positions[a] = there ? r.sorted.positions[place] : -1;
    }
    Elements<T, kVector> elements[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++)
      if (positions[a] >= 0)
        elements[a] = *reinterpret_cast<const Elements<T, kVector>*>(at + positions[a] * r.src_slice);
#pragma unroll
    for (int a = 0; a < kAhead; a++)
      if (positions[a] >= 0)
        for (int v = 0; v < kVector; v++) sums[v] = Compute<T>(sums[v] + widen(elements[a].value[v]));
    if (positions[kAhead - 1] < 0) return;
  }
}
template <class T, int kVector>
__device__ void load_target(const SliceRuns<T>& r, const T* y, Compute<T> (&sums)[kVector]) {
  Elements<T, kVector> elements = {};
  if (!r.fresh) elements = *reinterpret_cast<const Elements<T, kVector>*>(y);
  for (int v = 0; v < kVector; v++) sums[v] = widen(elements.value[v]);
}
template <class T, int kVector>
__device__ void store_target(T* y, const Compute<T> (&sums)[kVector]) {
  Elements<T, kVector> elements;
  for (int v = 0; v < kVector; v++) elements.value[v] = narrow<T>(sums[v]);
  *reinterpret_cast<Elements<T, kVector>*>(y) = elements;
}

// A run of many slices: warps take turns, and warp 0 adds up what they have.
template <class T, int kVector>
__device__ void add_long_run(const SliceRuns<T>& r, uint64_t target, int64_t start, T* y, const T* src) {
  Compute<T>(*partial)[32][kVector] = shared_memory_as<Compute<T>[32][kVector]>();  // [warp][lane]
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, warps = int(blockDim.x) / 32;
  for (int64_t base = 0; base < r.inner; base += 32 * kVector) {
    const int64_t at = base + lane * kVector;
    Compute<T> sums[kVector] = {};
    if (at < r.inner) add_sources<T, kVector>(r, target, start + warp, warps, src + at * r.src_inner, sums);
    for (int v = 0; v < kVector; v++) partial[warp][lane][v] = sums[v];
    __syncthreads();
    if (warp == 0 && at < r.inner) {
      load_target<T, kVector>(r, y + at * r.y_inner, sums);
      for (int w = 0; w < warps; w++)
        for (int v = 0; v < kVector; v++) sums[v] = Compute<T>(sums[v] + partial[w][lane][v]);
      store_target<T, kVector>(y + at * r.y_inner, sums);
    }
    __syncthreads();
  }
}

// A block for every sorted target; those that are not the first of their run have nothing to do.
template <class T, int kVector>
__global__ void __launch_bounds__(kSliceThreads) add_slices(SliceRuns<T> r) {
  const int64_t start = blockIdx.x;
  const uint64_t target = r.sorted.targets[start];
  if (target >= r.sorted.none || (start > 0 && r.sorted.targets[start - 1] == target)) return;
  const bool is_long = start + kLongRun < r.sorted.length && r.sorted.targets[start + kLongRun] == target;
  for (int64_t outer = blockIdx.y; outer < r.outer; outer += gridDim.y) {
    T* y = r.y + outer * r.y_outer + int64_t(target) * r.y_slice;
    const T* src = r.src + outer * r.src_outer;
    if (is_long) {
      add_long_run<T, kVector>(r, target, start, y, src);
      continue;
    }
    for (int64_t at = int64_t(threadIdx.x) * kVector; at < r.inner; at += int64_t(blockDim.x) * kVector) {
      Compute<T> sums[kVector];
      load_target<T, kVector>(r, y + at * r.y_inner, sums);
      add_sources<T, kVector>(r, target, start, 1, src + at * r.src_inner, sums);
      store_target<T, kVector>(y + at * r.y_inner, sums);
    }
  }
}

template <class T, int kVector>
void launch_add_slices(const CudaCall& call, const SliceRuns<T>& runs) {
  const int64_t threads = clamp_to(round_up(ceil_div(runs.inner, kVector), 32), 128, kSliceThreads);
  constexpr int64_t kMostY = 65535;
  const Config config{.grid = dim3(unsigned(runs.sorted.length), unsigned(min_of(runs.outer, kMostY))),
                      .block = dim3(unsigned(threads)),
                      .shared = size_t(threads) * kVector * sizeof(Compute<T>)};
  call.launch(add_slices<T, kVector>, config, runs);
}
template <class T>
bool takes_vectors(const SliceRuns<T>& r) {
  constexpr int64_t kBytes = 16;
  const uint64_t places = reinterpret_cast<uintptr_t>(r.y) | reinterpret_cast<uintptr_t>(r.src) |
                          uint64_t((r.inner | r.y_outer | r.y_slice | r.src_outer | r.src_slice) * sizeof(T));
  return r.y_inner == 1 && r.src_inner == 1 && places % kBytes == 0;
}

// y[o, n, i] += src[o, m, i] where the sorted targets say.
template <class T>
void add_sorted(const CudaCall& call, const View& y, const View& src, const SortedTargets& sorted, bool fresh) {
  if (y.dim(2) < kShortSlice) {
    const Layout<2> rows = layout_of(without_axis(y, 1), without_axis(src, 1));
    return add_elements<T>(call, {sorted, 0, y.as<T>(), src.as<T>(), rows, 0, rows.size, y.stride(1), src.stride(1)});
  }
  const SliceRuns<T> runs{sorted,      y.as<T>(),   src.as<T>(),   y.dim(0),      y.dim(2),      y.stride(0),
                          y.stride(1), y.stride(2), src.stride(0), src.stride(1), src.stride(2), fresh};
  if (takes_vectors(runs)) launch_add_slices<T, 16 / int(sizeof(T))>(call, runs);
  else launch_add_slices<T, 1>(call, runs);
}

// A thread per element of src.
template <class T>
struct AtomicAdds {
  CheckedIndices index;
  int64_t index_step, sources, rows;  // rows: outer times sources
  T* y;
  const T* src;
  int64_t inner, y_outer, y_slice, y_inner, src_outer, src_slice, src_inner;
};
template <class T>
__global__ void __launch_bounds__(kRowThreads) add_slices_atomically(AtomicAdds<T> a) {
  for (int64_t row = first_row(); row < a.rows; row += row_step()) {
    const int64_t outer = row / a.sources, source = row - outer * a.sources, target = a.index(source * a.index_step);
    if (target < 0) continue;
    T* y = a.y + outer * a.y_outer + target * a.y_slice;
    const T* src = a.src + outer * a.src_outer + source * a.src_slice;
    for (int64_t first = first_along(); first < a.inner; first += along_step())
      for (int u = 0; u < kPerRowThread; u++)
        if (int64_t i = first + u * int64_t(blockDim.x); i < a.inner)
          add_atomically(y + i * a.y_inner, src[i * a.src_inner]);
  }
}

TargetRows all_targets(const CheckedIndices& index, int64_t count, int64_t step, int64_t unwanted) {
  Layout<1> one;
  return {index, one, 0, 1, count, step, unwanted};
}

}  // namespace

size_t index_add_workspace(Views in, Views, const void*, const DeviceLimits&) {
  if (adds_atomically(in[0].dtype)) return 0;
  Carver carver(nullptr);
  carve_targets(carver, 1, in[1].dim(0), in[0].dim(1));
  return carver.used();
}
void index_add(const CudaCall& call, const NoAttrs&) {
  const View &y = call.in[0], &index = call.in[1], &src = call.in[2];
  if (src.size() == 0) return;
  const CheckedIndices indices = index_of(call, index, y.dim(1));
  dispatch_add(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (kSame<T, uint32_t> || kSame<T, uint64_t>) {
      const AtomicAdds<T> adds{
          indices,     index.stride(0), index.dim(0), y.dim(0) * index.dim(0), y.as<T>(),     src.as<T>(),  y.dim(2),
          y.stride(0), y.stride(1),     y.stride(2),  src.stride(0),           src.stride(1), src.stride(2)};
      call.launch(add_slices_atomically<T>, rows_config(adds.rows, adds.inner), adds);
    } else {
      Carver carver(call.workspace);
      const TargetScratch scratch = carve_targets(carver, 1, index.dim(0), y.dim(1));
      const TargetRows targets = all_targets(indices, index.dim(0), index.stride(0), -1);
      add_sorted<T>(call, y, src, sort_targets(call, targets, scratch), false);
    }
  });
}

size_t embedding_backward_workspace(Views in, Views out, const void*, const DeviceLimits&) {
  Carver carver(nullptr);
  carve_targets(carver, 1, in[0].size(), out[0].dim(0));
  return carver.used();
}
void embedding_backward(const CudaCall& call, const RowsAttrs& attrs) {
  const View &ids = call.in[0], &dy = call.in[1], &dweight = call.out[0];
  const int64_t n = ids.size(), rows = dweight.dim(0), d = dweight.dim(1);
  call.fill_zero(dweight.data, size_t(dweight.size()) * kDtypeBytes[int(dweight.dtype)]);
  if (n == 0 || d == 0) return;
  Carver carver(call.workspace);
  const TargetScratch scratch = carve_targets(carver, 1, n, rows);
  const TargetRows targets = all_targets(ids_of(call, ids, rows), n, 1, attrs.paddingIndex);
  const SortedTargets sorted = sort_targets(call, targets, scratch);
  View y = dweight, src = dy;  // [1, rows, d] and [1, n, d]
  y.rank = src.rank = 3;
  y.shape[0] = src.shape[0] = 1, y.shape[1] = rows, src.shape[1] = n, y.shape[2] = src.shape[2] = d;
  y.make_contiguous_strides(), src.make_contiguous_strides();
  dispatch_float(dweight.dtype, [&](auto zero) { add_sorted<decltype(zero)>(call, y, src, sorted, true); });
}

}  // namespace fovea::cuda
