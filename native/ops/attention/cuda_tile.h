// Products of tiles with plain arithmetic, for the kernels that take every dtype, width and alignment.
//
// 128 threads own a tile of 64 x 64 scores: thread (ty, tx) = (thread / 16, thread % 16) rows 8 ty to 8 ty + 7 and
// columns 4 tx to 4 tx + 3. The sixteen threads of a row are half a warp.
#pragma once
#include "ops/attention/cuda_problem.h"

namespace fovea::cuda {

constexpr int kTileSide = 64, kTileThreads = 128, kTileRows = 8, kTileColumns = 4, kTileLanes = 16;
constexpr int kTileDepth = 32;             // of the operands in shared memory at a time
constexpr int kTilePitch = kTileSide + 4;  // keeps 16-byte alignment, breaks up columns over the banks

// A tile of weights, transposed; behind it two operands, or rows of one.
template <class A>
constexpr size_t kTileBytes = sizeof(A) * (kTileSide + 2 * kTileDepth) * kTilePitch;

__device__ inline int tile_row() { return int(threadIdx.x) / kTileLanes * kTileRows; }
__device__ inline int tile_column() { return int(threadIdx.x) % kTileLanes * kTileColumns; }
template <class A>
__device__ A* tile_weights() {
  return shared_memory_as<A>();
}
template <class A>
__device__ A* tile_operands() {
  return shared_memory_as<A>() + kTileSide * kTilePitch;
}

// Rows of one head.
template <class T>
struct Matrix {
  const T* data;
  int64_t stride, rows, width;
  bool vectors;  // four elements may be loaded at once
};

template <class T>
struct alignas(sizeof(T) * 4 < 16 ? sizeof(T) * 4 : 16) Four {
  T value[4];
};
// Elements column to column + 3 of a row; 0 where there is none.
template <class T>
__device__ Four<Compute<T>> load_four(const Matrix<T>& x, int64_t row, int64_t column) {
  using A = Compute<T>;
  Four<A> out = {};
  if (row >= x.rows || column >= x.width) return out;
  const T* from = x.data + row * x.stride + column;
  if (x.vectors && column + 4 <= x.width) {
    Four<T> four = *reinterpret_cast<const Four<T>*>(from);
#pragma unroll
    for (int i = 0; i < 4; i++) out.value[i] = widen(four.value[i]);
    return out;
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (column + i < x.width) out.value[i] = widen(from[i]);
  return out;
}

// kTileDepth columns of 64 rows, transposed: to[column kTilePitch + row].
template <class T, class A = Compute<T>>
__device__ void load_transposed(const Matrix<T>& x, int64_t row, int64_t column, A* to) {
  const int r = int(threadIdx.x) % kTileSide, part = int(threadIdx.x) / kTileSide;
  constexpr int kPart = kTileDepth / (kTileThreads / kTileSide);
#pragma unroll
  for (int c = part * kPart; c < part * kPart + kPart; c += 4) {
    Four<A> four = load_four(x, row + r, column + c);
#pragma unroll
    for (int i = 0; i < 4; i++) to[(c + i) * kTilePitch + r] = four.value[i];
  }
}
// kWidth columns of kTileDepth rows: to[row kWidth + column]. Whether some element is infinite or NaN.
template <int kWidth, class T, class A = Compute<T>>
__device__ bool load_rows(const Matrix<T>& x, int64_t row, int64_t column, A* to) {
  bool special = false;
#pragma unroll 4
  for (int at = int(threadIdx.x) * 4; at < kTileDepth * kWidth; at += kTileThreads * 4) {
    Four<A> four = load_four(x, row + at / kWidth, column + at % kWidth);
    *reinterpret_cast<Four<A>*>(to + at) = four;
#pragma unroll
    for (int i = 0; i < 4; i++) special |= four.value[i] - four.value[i] != 0;
  }
  return special;
}

// s[r][c] = x_row . y_row for the thread's rows of x, from `x_row` on, and of y, from `y_row` on.
template <class T, class A = Compute<T>>
__device__ void score_tile(const Matrix<T>& x, int64_t x_row, const Matrix<T>& y, int64_t y_row,
                           A (&s)[kTileRows][kTileColumns]) {
  A *left = tile_operands<A>(), *right = left + kTileDepth * kTilePitch;
#pragma unroll
  for (int r = 0; r < kTileRows; r++)
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) s[r][c] = 0;
  for (int64_t column = 0; column < x.width; column += kTileDepth) {
    __syncthreads();
    load_transposed(x, x_row, column, left);
    load_transposed(y, y_row, column, right);
    __syncthreads();
#pragma unroll 4
    for (int l = 0; l < kTileDepth; l++) {
      A a[kTileRows], b[kTileColumns];
#pragma unroll
      for (int r = 0; r < kTileRows; r++) a[r] = left[l * kTilePitch + tile_row() + r];
#pragma unroll
      for (int c = 0; c < kTileColumns; c++) b[c] = right[l * kTilePitch + tile_column() + c];
#pragma unroll
      for (int r = 0; r < kTileRows; r++)
#pragma unroll
        for (int c = 0; c < kTileColumns; c++) s[r][c] += a[r] * b[c];
    }
  }
}

// The weights of a tile into shared memory, for add_product().
template <class A>
__device__ void share_weights(const A (&s)[kTileRows][kTileColumns]) {
  __syncthreads();  // others may still read the last ones
#pragma unroll
  for (int c = 0; c < kTileColumns; c++)
#pragma unroll
    for (int r = 0; r < kTileRows; r++) tile_weights<A>()[(tile_column() + c) * kTilePitch + tile_row() + r] = s[r][c];
}

// What this thread has shared.
template <class A>
__device__ A own_weight(int r, int c) {
  return tile_weights<A>()[(tile_column() + c) * kTilePitch + tile_row() + r];
}

// One step of add_product. With kGuarded a weight of 0 keeps out what is infinite or NaN; the other sums are the same
// to the bit.
template <bool kGuarded, int kWidth, class A>
__device__ void add_step(const A* weights, const A* values, A (&o)[kTileRows][kWidth / kTileLanes]) {
  constexpr int kEach = kWidth / kTileLanes;
#pragma unroll 4
  for (int l = 0; l < kTileDepth; l++) {
    A w[kTileRows], x[kEach];
#pragma unroll
    for (int r = 0; r < kTileRows; r++) w[r] = weights[l * kTilePitch + tile_row() + r];
#pragma unroll
    for (int c = 0; c < kEach; c++) x[c] = values[l * kWidth + c / 4 * kTileSide + tile_column() + c % 4];
#pragma unroll
    for (int r = 0; r < kTileRows; r++)
#pragma unroll
      for (int c = 0; c < kEach; c++)
        if (!kGuarded || w[r] != 0) o[r][c] += w[r] * x[c];
  }
}
// o[r][c] += the shared weights of the thread's rows times rows [row, row + 64) of x, columns column + o_column(c).
template <int kWidth, class T, class A = Compute<T>>
__device__ void add_product(const Matrix<T>& x, int64_t row, int64_t column, bool guarded,
                            A (&o)[kTileRows][kWidth / kTileLanes]) {
  A* values = tile_operands<A>();
  const int count = int(min_of(kTileSide, x.rows - row));
  for (int l = 0; l < count; l += kTileDepth) {
    __syncthreads();
    bool special = load_rows<kWidth>(x, row + l, column, values);
    special = __syncthreads_or(special && guarded);
    const A* weights = tile_weights<A>() + l * kTilePitch;
    if (special) add_step<true, kWidth>(weights, values, o);
    else add_step<false, kWidth>(weights, values, o);
  }
}
__device__ inline int o_column(int c) { return c / 4 * kTileSide + tile_column() + c % 4; }

}  // namespace fovea::cuda
