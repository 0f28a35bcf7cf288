// Ops that read where an index tensor says, on the device; the others are in cuda_scatter.cu, cuda_add.cu and
// cuda_nonzero.cu.
//
//   embedding    y[i, :] = weight[ids[i], :]
//   gather       y[.., j] = x[.., index[.., j]]
//   indexSelect  y[:, j, :] = x[:, index[j], :]
#include "ops/indexing/cuda_kernels.h"

namespace fovea::cuda {
namespace {

// ---- whole slices: y[outer, j, :] = x[outer, index[j], :], in units of up to 16 bytes

struct Slices {
  CheckedIndices index;
  Layout<1> places;  // of the indices
  const std::byte* x;
  std::byte* y;                             // dense
  int64_t rows;                             // of y: outer times indices
  int64_t length;                           // of a row, in units
  int64_t outer_step, slice_step, in_step;  // of x, in units
};
template <class Unit>
__global__ void __launch_bounds__(kRowThreads, 4) copy_slices(Slices s) {
  for (int64_t row = first_row(); row < s.rows; row += row_step()) {
    const int64_t outer = row / s.places.size;
    int64_t place[1];
    s.places.offsets(row - outer * s.places.size, place);
    const int64_t slice = s.index(place[0]);
    if (slice < 0) continue;
    const Unit* from = reinterpret_cast<const Unit*>(s.x) + outer * s.outer_step + slice * s.slice_step;
    Unit* to = reinterpret_cast<Unit*>(s.y) + row * s.length;
    for (int64_t first = first_along(); first < s.length; first += along_step()) {
      Unit values[kPerRowThread];
#pragma unroll
      for (int u = 0; u < kPerRowThread; u++)
        if (int64_t i = first + u * int64_t(blockDim.x); i < s.length) values[u] = from[i * s.in_step];
#pragma unroll
      for (int u = 0; u < kPerRowThread; u++)
        if (int64_t i = first + u * int64_t(blockDim.x); i < s.length) to[i] = values[u];
    }
  }
}
// Steps and length come in elements of `width` bytes.
void launch_copy(const CudaCall& call, Slices s, int64_t width) {
  int64_t unit = width;
  if (s.in_step == 1 || s.length == 1) {
    s.in_step = 1;
    const uint64_t places = reinterpret_cast<uintptr_t>(s.x) | reinterpret_cast<uintptr_t>(s.y) |
                            uint64_t((s.length | s.outer_step | s.slice_step) * width);
    while (unit < 16 && places % uint64_t(2 * unit) == 0) unit *= 2;
  }
  const int64_t merged = unit / width;
  s.length /= merged, s.outer_step /= merged, s.slice_step /= merged;
  const Config config = rows_config(s.rows, s.length);
  switch (unit) {
    case 1: return call.launch(copy_slices<uint8_t>, config, s);
    case 2: return call.launch(copy_slices<uint16_t>, config, s);
    case 4: return call.launch(copy_slices<uint32_t>, config, s);
    case 8: return call.launch(copy_slices<uint64_t>, config, s);
    default: return call.launch(copy_slices<uint4>, config, s);
  }
}

void embedding(const CudaCall& call, const NoAttrs&) {
  const View &weight = call.in[0], &ids = call.in[1], &y = call.out[0];
  const Slices s{.index = ids_of(call, ids, weight.dim(0)),
                 .places = layout_of(ids),
                 .x = weight.data,
                 .y = y.data,
                 .rows = ids.size(),
                 .length = weight.dim(1),
                 .outer_step = 0,
                 .slice_step = weight.stride(0),
                 .in_step = 1};
  launch_copy(call, s, int64_t(kDtypeBytes[int(weight.dtype)]));
}
void index_select(const CudaCall& call, const NoAttrs&) {
  const View &x = call.in[0], &index = call.in[1], &y = call.out[0];
  const Slices s{.index = index_of(call, index, x.dim(1)),
                 .places = layout_of(index),
                 .x = x.data,
                 .y = y.data,
                 .rows = x.dim(0) * index.dim(0),
                 .length = x.dim(2),
                 .outer_step = x.stride(0),
                 .slice_step = x.stride(1),
                 .in_step = x.stride(2)};
  launch_copy(call, s, int64_t(kDtypeBytes[int(x.dtype)]));
}

// ---- single elements

struct GatherRows {
  CheckedIndices index;
  Layout<2> rows;  // of x and index
  int64_t length;  // of a row of indices
  int64_t x_step, index_step;
};
template <class T>
__global__ void __launch_bounds__(kRowThreads, 4) gather_rows(GatherRows g, const T* x, T* y) {
  for (int64_t row = first_row(); row < g.rows.size; row += row_step()) {
    int64_t at[2];
    g.rows.offsets(row, at);
    for (int64_t first = first_along(); first < g.length; first += along_step()) {
      int64_t from[kPerRowThread];
#pragma unroll
      for (int u = 0; u < kPerRowThread; u++) {
        const int64_t i = first + u * int64_t(blockDim.x);
        from[u] = i < g.length ? g.index(at[1] + i * g.index_step) : -1;
      }
#pragma unroll
      for (int u = 0; u < kPerRowThread; u++)
        if (from[u] >= 0) y[row * g.length + first + u * int64_t(blockDim.x)] = x[at[0] + from[u] * g.x_step];
    }
  }
}
void gather(const CudaCall& call, const NoAttrs&) {
  const View &x = call.in[0], &index = call.in[1];
  const GatherRows g{.index = index_of(call, index, x.dim(-1)),
                     .rows = layout_of(without_axis(x), without_axis(index)),
                     .length = index.dim(-1),
                     .x_step = x.stride(-1),
                     .index_step = index.stride(-1)};
  dispatch_width(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(gather_rows<T>, rows_config(g.rows.size, g.length), g, x.as<T>(), call.out[0].as<T>());
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(indexing, FOVEA_CUDA_KERNEL("embedding", embedding, NoAttrs),
                   FOVEA_CUDA_KERNEL_WITH("embeddingBackward", embedding_backward, RowsAttrs,
                                          embedding_backward_workspace),
                   FOVEA_CUDA_KERNEL("gather", gather, NoAttrs),
                   FOVEA_CUDA_KERNEL("indexSelect", index_select, NoAttrs),
                   FOVEA_CUDA_KERNEL_WITH("scatter_", scatter, NoAttrs, scatter_workspace),
                   FOVEA_CUDA_KERNEL_WITH("scatterAdd_", scatter_add, NoAttrs, scatter_add_workspace),
                   FOVEA_CUDA_KERNEL_WITH("indexAdd_", index_add, NoAttrs, index_add_workspace),
                   FOVEA_CUDA_KERNEL("countNonzero", count_nonzero, NoAttrs),
                   FOVEA_CUDA_KERNEL_WITH("nonzero", nonzero, NonzeroAttrs, nonzero_workspace))

}  // namespace fovea::cuda
