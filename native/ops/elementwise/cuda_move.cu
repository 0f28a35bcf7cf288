// Elementwise ops that move or choose values without computing with them: copies, conversions, where, truth values,
// triangles. A copy whose source lies across its target goes through tiles in shared memory, so that both sides touch
// whole cache lines.
#include "ops/elementwise/cuda_move.h"

#include "ops/elementwise/attrs.h"

namespace fovea::cuda {
namespace {

// Values travel as unsigned integers of their width where the dtype does not matter.
template <class Body>
void dispatch_width(Dtype dtype, Body&& body) {
  switch (bytes_of(dtype)) {
    case 1: return body(uint8_t{});
    case 2: return body(uint16_t{});
    case 4: return body(uint32_t{});
    default: return body(uint64_t{});
  }
}

// ---- transposed copies

constexpr int kTileThreads = 256;
// Rows and columns of a block's tile: 64 bytes of a row at least.
template <class T>
constexpr int kTile = sizeof(T) < 4 ? 64 : 32;

// Where a tile lies, in a target that is dense along `columns` and a source that is dense along `rows`.
struct Tiles {
  int64_t rows, columns;        // of a matrix
  int64_t from_column, to_row;  // strides, in elements
  int64_t down, across;         // tiles of a matrix
};

// to[i][j] = from[i][j] for every matrix.
template <class T>
__global__ void __launch_bounds__(kTileThreads) copy_across(const T* from, T* to, Tiles tiles, Layout<2> matrices) {
  constexpr int tile = kTile<T>, pitch = tile + 1, step = kTileThreads / tile;  // so that a column lies in all banks
  T* held = shared_memory_as<T>();
  const int64_t in_matrix = blockIdx.x % (tiles.down * tiles.across), i0 = in_matrix % tiles.down * tile,
                j0 = in_matrix / tiles.down * tile;
  int64_t at[2];
  matrices.offsets(blockIdx.x / (tiles.down * tiles.across), at);
  const int lane = int(threadIdx.x) % tile, first = int(threadIdx.x) / tile;
  for (int r = first; r < tile; r += step)
    if (i0 + lane < tiles.rows && j0 + r < tiles.columns)
      held[r * pitch + lane] = from[at[1] + (j0 + r) * tiles.from_column + i0 + lane];
  __syncthreads();
  for (int r = first; r < tile; r += step)
    if (i0 + r < tiles.rows && j0 + lane < tiles.columns)
      to[at[0] + (i0 + r) * tiles.to_row + j0 + lane] = held[lane * pitch + r];
}

// The axis along which `from` is dense, where that is not the last axis, but `to` is dense there; else -1.
int crossing_axis(const Layout<2>& layout, int tile) {
  const int last = layout.rank - 1;
  const int64_t *to = layout.strides[0], *from = layout.strides[1];
  if (last < 1 || to[last] != 1 || from[last] <= 1 || layout.shape[last] < tile / 2) return -1;
  for (int d = 0; d < last; d++)
    if (from[d] == 1 && layout.shape[d] >= tile / 2) return d;
  return -1;
}

// False where it is not for tiles.
template <class T>
bool copy_in_tiles(const CudaCall& call, const View& to, const View& from) {
  std::array<View, 2> views = {to, from};
  if (!to.contiguous()) sort_axes(views);
  Layout<2> layout = layout_of_all(views);
  const int last = layout.rank - 1, crossing = crossing_axis(layout, kTile<T>);
  if (crossing < 0) return false;
  Tiles tiles{layout.shape[crossing], layout.shape[last], layout.strides[1][last], layout.strides[0][crossing], 0, 0};
  tiles.down = ceil_div(tiles.rows, kTile<T>), tiles.across = ceil_div(tiles.columns, kTile<T>);
  Layout<2> matrices;
  for (int d = 0; d < last; d++) {
    if (d == crossing) continue;
    matrices.shape[matrices.rank] = layout.shape[d], matrices.size *= layout.shape[d];
    for (int v = 0; v < 2; v++) matrices.strides[v][matrices.rank] = layout.strides[v][d];
    matrices.rank++;
  }
  const int64_t blocks = tiles.down * tiles.across * matrices.size;
  if (blocks >= kNarrow) return false;
  Config config{{unsigned(blocks)}, {kTileThreads}, size_t(kTile<T>) * (kTile<T> + 1) * sizeof(T)};
  call.launch(copy_across<T>, config, from.as<T>(), to.as<T>(), tiles, matrices);
  return true;
}

// ---- copies

void copy_into(const CudaCall& call, const View& to, const View& from) {
  if (to.dtype != from.dtype) return convert(call, to, from);
  dispatch_width(to.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!copy_in_tiles<T>(call, to, from)) map<T>(call, to, Same{}, input<T>(from));
  });
}
void copy(const CudaCall& call, const NoAttrs&) { copy_into(call, call.out[0], call.in[0]); }
void cast(const CudaCall& call, const CastAttrs&) { copy_into(call, call.out[0], call.in[0]); }
void copy_(const CudaCall& call, const NoAttrs&) { copy_into(call, call.in[0], call.in[1]); }

// ---- truth values

struct And {
  __device__ Bool operator()(int32_t a, int32_t b) const { return {uint8_t(a & b)}; }
};
struct Or {
  __device__ Bool operator()(int32_t a, int32_t b) const { return {uint8_t(a | b)}; }
};
struct Xor {
  __device__ Bool operator()(int32_t a, int32_t b) const { return {uint8_t(a ^ b)}; }
};

// The truth of an element of whatever dtype: operands that are not bool are rare, and here may be of two dtypes.
struct AnyOperand {
  const std::byte* data;
  Dtype dtype;
  template <class T>
  __device__ int32_t is_set(int64_t i) const {
    return convert_one<T, Bool>(reinterpret_cast<const T*>(data)[i]).value;
  }
  __device__ int32_t get(int64_t i) const {
    switch (dtype) {
      case Dtype::f32: return is_set<float>(i);
      case Dtype::f64: return is_set<double>(i);
      case Dtype::f16: return is_set<Half>(i);
      case Dtype::bf16: return is_set<Bfloat16>(i);
      case Dtype::i32: return is_set<int32_t>(i);
      case Dtype::i64: return is_set<int64_t>(i);
      default: return is_set<uint8_t>(i);
    }
  }
};
template <class F>
__global__ void combine_any(F f, Bool* out, Layout<3> layout, AnyOperand a, AnyOperand b) {
  for (int64_t i = first_item(); i < layout.size; i += item_step()) {
    int64_t at[3];
    layout.offsets(i, at);
    out[at[0]] = f(a.get(at[1]), b.get(at[2]));
  }
}
template <class F>
void logical(const CudaCall& call, const NoAttrs&) {
  const View &out = call.out[0], &a = call.in[0], &b = call.in[1];
  if (a.dtype == Dtype::boolean && b.dtype == Dtype::boolean)
    return map<Bool>(call, out, F{}, input<Bool>(a), input<Bool>(b));
  auto layout = layout_of(out, a, b);
  Config config{{blocks_for(layout.size, kThreads, call.device)}, {kThreads}};
  call.launch(combine_any<F>, config, F{}, out.as<Bool>(), layout, AnyOperand{a.data, a.dtype},
              AnyOperand{b.data, b.dtype});
}

// ---- choices

struct Choose {
  template <class T>
  __device__ T operator()(int32_t condition, T a, T b) const {
    return condition ? a : b;
  }
};
// The bits of `value` in a dtype of the width of T.
template <class T>
T bits_in(Dtype dtype, double value) {
  T bits{};
  dispatch(dtype, [&](auto zero) {
    auto converted = convert_one<double, decltype(zero)>(value);
    if constexpr (sizeof converted == sizeof bits) __builtin_memcpy(&bits, &converted, sizeof bits);
  });
  return bits;
}
void where(const CudaCall& call, const WhereAttrs& attrs) {
  const View &condition = call.in[0], &a = call.in[1], &b = call.in[2], &out = call.out[0];
  dispatch_width(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    map<T>(call, out, Choose{}, input<Bool>(condition), Input<T>{a, bits_in<T>(out.dtype, attrs.scalarA)},
           Input<T>{b, bits_in<T>(out.dtype, attrs.scalarB)});
  });
}

// ---- triangles

// Keeps x[i][j] where j - i <= diagonal (lower) or >= diagonal (upper), zero elsewhere.
struct Triangle {
  int64_t rows, columns, diagonal;
  bool upper, narrow;  // narrow: fewer than kNarrow elements
  Divisor by_rows, by_columns;
  Triangle(const View& x, const TriangleAttrs& attrs)
      : rows(x.dim(-2)), columns(x.dim(-1)), diagonal(attrs.diagonal), upper(attrs.upper), narrow(x.size() < kNarrow) {
    if (narrow) by_rows = Divisor(rows), by_columns = Divisor(columns);
  }
  __device__ bool keeps(int64_t element) const {
    int64_t row = narrow ? by_columns.divide(uint32_t(element)) : element / columns;
    int64_t matrix = narrow ? by_rows.divide(uint32_t(row)) : row / rows;
    int64_t off = (element - row * columns) - (row - matrix * rows);
    return upper ? off >= diagonal : off <= diagonal;
  }
};
constexpr int kTriangleElements = 4;  // per thread
template <class T>
__global__ void __launch_bounds__(kThreads) keep_triangle(const T* x, T* y, Places<1> places, Triangle triangle) {
  T held[kTriangleElements];
  const int64_t first = int64_t(blockIdx.x) * kThreads * kTriangleElements + threadIdx.x;
#pragma unroll
  for (int k = 0; k < kTriangleElements; k++) {
    int64_t i = first + k * kThreads, at[1];
    held[k] = T{};
    if (i >= places.size || !triangle.keeps(i)) continue;
    if (triangle.narrow) places.find(i, at);
    else places.offsets(i, at);
    held[k] = x[at[0]];
  }
#pragma unroll
  for (int k = 0; k < kTriangleElements; k++)
    if (first + k * kThreads < places.size) y[first + k * kThreads] = held[k];
}
void triangle(const CudaCall& call, const TriangleAttrs& attrs) {
  const View &x = call.in[0], &y = call.out[0];
  Places<1> places(layout_of(x));
  Config config{{unsigned(ceil_div(places.size, kThreads * kTriangleElements))}, {kThreads}};
  dispatch_width(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(keep_triangle<T>, config, x.as<T>(), y.as<T>(), places, Triangle(x, attrs));
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(elementwise_move, FOVEA_CUDA_KERNEL("copy", copy, NoAttrs),
                   FOVEA_CUDA_KERNEL("cast", cast, CastAttrs), FOVEA_CUDA_KERNEL("copy_", copy_, NoAttrs),
                   FOVEA_CUDA_KERNEL("logicalAnd", logical<And>, NoAttrs),
                   FOVEA_CUDA_KERNEL("logicalOr", logical<Or>, NoAttrs),
                   FOVEA_CUDA_KERNEL("logicalXor", logical<Xor>, NoAttrs),
                   FOVEA_CUDA_KERNEL("where", where, WhereAttrs),
                   FOVEA_CUDA_KERNEL("triangle", triangle, TriangleAttrs))

}  // namespace fovea::cuda
