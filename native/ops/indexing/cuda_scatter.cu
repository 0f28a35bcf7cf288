// Ops that write single elements of the last axis where an index tensor says, on the device:
//
//   scatter_      y[.., index[.., j]] = src[.., j];  of sources with one target, the last wins
//   scatterAdd_   y[.., index[.., j]] += src[.., j]
//
// Up to kPairwise sources to a row are compared with each other in shared memory. Beyond that, scatter_ notes the last
// source of every target in a table, a window of y at a time, and then writes what is noted. scatterAdd_ adds integers
// atomically, and sorts the targets of everything else (cuda_sorted.h), some rows at a time.
#include "ops/indexing/cuda_sorted.h"

namespace fovea::cuda {
namespace {

struct ScatterRows {
  CheckedIndices index;
  Layout<3> rows;    // of y, index and src
  int64_t n, count;  // length of a row of y; of indices and sources
  int64_t y_step, index_step, src_step;
};
ScatterRows scatter_rows(const CudaCall& call) {
  const View &y = call.in[0], &index = call.in[1], &src = call.in[2];
  return {.index = index_of(call, index, y.dim(-1)),
          .rows = layout_of(without_axis(y), without_axis(index), without_axis(src)),
          .n = y.dim(-1),
          .count = index.dim(-1),
          .y_step = y.stride(-1),
          .index_step = index.stride(-1),
          .src_step = src.stride(-1)};
}
int64_t rows_of(const View& v) { return without_axis(v).size(); }

// ---- few sources to a row

constexpr int kPairwise = 256;

// The last of several sources with one target writes it; or the first adds them all, in order.
template <class T, bool kAdd>
__global__ void __launch_bounds__(kPairwise) scatter_short_rows(ScatterRows s, T* y, const T* src) {
  int64_t* targets = shared_memory_as<int64_t>();
  const int count = int(s.count), together = kPairwise / count;
  const int local = int(threadIdx.x) / count, mine = int(threadIdx.x) % count;
  const int64_t *own = targets + local * count, step = int64_t(gridDim.x) * together;
  for (int64_t first = int64_t(blockIdx.x) * together; first < s.rows.size; first += step) {
    const bool there = local < together && first + local < s.rows.size;
    int64_t at[3], target = -1;
    if (there) {
      s.rows.offsets(first + local, at);
      target = s.index(at[1] + mine * s.index_step);
      targets[threadIdx.x] = target;
    }
    __syncthreads();
    if (target >= 0) {
      bool writes = true;
      for (int i = kAdd ? 0 : mine + 1; i < (kAdd ? mine : count); i++) writes = writes && own[i] != target;
      T* to = y + at[0] + target * s.y_step;
      const T* from = src + at[2];
      if constexpr (kAdd) {
        if (writes) {
          Compute<T> sum = widen(*to);
          for (int i = mine; i < count; i++)
            if (own[i] == target) sum = Compute<T>(sum + widen(from[i * s.src_step]));
          *to = narrow<T>(sum);
        }
      } else if (writes) {
        *to = from[mine * s.src_step];
      }
    }
    __syncthreads();
  }
}
template <class T, bool kAdd>
void launch_short(const CudaCall& call, const ScatterRows& s) {
  constexpr int64_t kMostX = 0x7fffffff;
  const Config config{.grid = dim3(unsigned(min_of(ceil_div(s.rows.size, kPairwise / s.count), kMostX))),
                      .block = dim3(kPairwise),
                      .shared = kPairwise * sizeof(int64_t)};
  call.launch(scatter_short_rows<T, kAdd>, config, s, call.in[0].as<T>(), call.in[2].as<T>());
}

// ---- scatter_ with a table

// Positions [first, first + size) of y, counted row-major, and sources [from, to) of every row.
struct Window {
  int64_t first, size;
  int64_t first_row, rows;  // that have positions in it
  int64_t from, to;
  unsigned* last;  // of each position: 1 + the last source that goes there, counted from `from`; 0 for none
};
// body(the place in the table, 1 + source, offsets of the row, target) for every source of the thread.
template <class Body>
__device__ void each_source(const ScatterRows& s, const Window& w, Body body) {
  for (int64_t row = first_row(); row < w.rows; row += row_step()) {
    int64_t at[3];
    s.rows.offsets(w.first_row + row, at);
    for (int64_t first = first_along(); first < w.to - w.from; first += along_step())
      for (int u = 0; u < kPerRowThread; u++) {
        const int64_t i = first + u * int64_t(blockDim.x);
        if (i >= w.to - w.from) break;
        const int64_t target = s.index(at[1] + (w.from + i) * s.index_step);
        const int64_t place = (w.first_row + row) * s.n + target - w.first;
        if (target >= 0 && place >= 0 && place < w.size) body(w.last + place, unsigned(1 + i), at, target);
      }
  }
}
__global__ void __launch_bounds__(kRowThreads) note_last(ScatterRows s, Window w) {
  each_source(s, w, [](unsigned* last, unsigned number, const int64_t*, int64_t) { atomicMax(last, number); });
}
template <class T>
__global__ void __launch_bounds__(kRowThreads, 5)  // the compiler goes for six, and spills
    write_last(ScatterRows s, Window w, T* y, const T* src) {
  each_source(s, w, [&](const unsigned* last, unsigned number, const int64_t* at, int64_t target) {
    if (*last == number) y[at[0] + target * s.y_step] = src[at[2] + (w.from + number - 1) * s.src_step];
  });
}
int64_t window_size(const View& y, const DeviceLimits& device) {
  return min_of(y.size(), 8 * int64_t(device.l2_bytes) / int64_t(sizeof(unsigned)));
}
void scatter_with_table(const CudaCall& call, const ScatterRows& s) {
  constexpr int64_t kMostSources = int64_t(1) << 31;
  const View &y = call.in[0], &src = call.in[2];
  const int64_t size = window_size(y, call.device);
  if (size == 0) {  // no index is in range
    Window none{};
    none.rows = s.rows.size, none.to = s.count;
    return call.launch(note_last, rows_config(none.rows, none.to), s, none);
  }
  for (int64_t first = 0; first < y.size(); first += size)
    for (int64_t from = 0; from < s.count; from += kMostSources) {
      Window w{};
      w.first = first, w.size = min_of(size, y.size() - first), w.first_row = first / s.n;
      w.rows = ceil_div(first + w.size, s.n) - w.first_row;
      w.from = from, w.to = min_of(s.count, from + kMostSources), w.last = call.scratch<unsigned>();
      call.fill_zero(w.last, size_t(w.size) * sizeof(unsigned));
      const Config config = rows_config(w.rows, w.to - w.from);
      call.launch(note_last, config, s, w);
      dispatch_width(y.dtype, [&](auto zero) {
        using T = decltype(zero);
        call.launch(write_last<T>, config, s, w, y.as<T>(), src.as<T>());
      });
    }
}

// ---- scatterAdd_

template <class T>
__global__ void __launch_bounds__(kRowThreads) scatter_atomically(ScatterRows s, T* y, const T* src) {
  for (int64_t row = first_row(); row < s.rows.size; row += row_step()) {
    int64_t at[3];
    s.rows.offsets(row, at);
    for (int64_t first = first_along(); first < s.count; first += along_step())
      for (int u = 0; u < kPerRowThread; u++) {
        const int64_t i = first + u * int64_t(blockDim.x);
        if (i >= s.count) break;
        const int64_t target = s.index(at[1] + i * s.index_step);
        if (target >= 0) add_atomically(y + at[0] + target * s.y_step, src[at[2] + i * s.src_step]);
      }
  }
}
// So many that what is sorted stays in the L2 cache.
int64_t rows_at_once(int64_t rows, int64_t count, const DeviceLimits& device) {
  constexpr int64_t kBytes = 32;  // of a source
  return clamp_to(int64_t(device.l2_bytes) / (kBytes * max_of(count, 1)), 1, rows);
}
template <class T>
void scatter_add_sorted(const CudaCall& call, const ScatterRows& s) {
  const View &y = call.in[0], &index = call.in[1], &src = call.in[2];
  const int64_t rows = s.rows.size, at_once = rows_at_once(rows, s.count, call.device);
  Carver carver(call.workspace);
  const TargetScratch scratch = carve_targets(carver, at_once, s.count, s.n);
  for (int64_t first = 0; first < rows; first += at_once) {
    const int64_t here = min_of(at_once, rows - first);
    const TargetRows targets{s.index, layout_of(without_axis(index)), first, here, s.count, s.index_step, -1};
    const SortedTargets sorted = sort_targets(call, targets, scratch);
    add_elements<T>(call, {sorted, s.count, y.as<T>(), src.as<T>(), layout_of(without_axis(y), without_axis(src)),
                           first, here, s.y_step, s.src_step});
  }
}

}  // namespace

size_t scatter_workspace(Views in, Views, const void*, const DeviceLimits& device) {
  return in[1].dim(-1) <= kPairwise ? 0 : size_t(window_size(in[0], device)) * sizeof(unsigned);
}
void scatter(const CudaCall& call, const NoAttrs&) {
  const ScatterRows s = scatter_rows(call);
  if (s.rows.size == 0 || s.count == 0) return;
  if (s.count > kPairwise) return scatter_with_table(call, s);
  dispatch_width(call.in[0].dtype, [&](auto zero) { launch_short<decltype(zero), false>(call, s); });
}

size_t scatter_add_workspace(Views in, Views, const void*, const DeviceLimits& device) {
  const int64_t count = in[1].dim(-1), rows = rows_of(in[0]);
  if (count <= kPairwise || rows == 0 || adds_atomically(in[0].dtype)) return 0;
  Carver carver(nullptr);
  carve_targets(carver, rows_at_once(rows, count, device), count, in[0].dim(-1));
  return carver.used();
}
void scatter_add(const CudaCall& call, const NoAttrs&) {
  const ScatterRows s = scatter_rows(call);
  if (s.rows.size == 0 || s.count == 0) return;
  dispatch_add(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (kSame<T, uint32_t> || kSame<T, uint64_t>)
      call.launch(scatter_atomically<T>, rows_config(s.rows.size, s.count), s, call.in[0].as<T>(), call.in[2].as<T>());
    else if (s.count <= kPairwise) launch_short<T, true>(call, s);
    else scatter_add_sorted<T>(call, s);
  });
}

}  // namespace fovea::cuda
