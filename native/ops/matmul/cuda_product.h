// One call of matmul as its CUDA kernels see it: c = activation(alpha sum + beta bias) + residual over m, n, k and what
// is left of the leading axes (plan.h). Where m n is small and k large, k is split: each part writes its bare sums to
// `partial`, and a second kernel adds them in a fixed order and finishes them.
#pragma once
#include "cuda/convert.h"
#include "cuda/index.h"
#include "cuda/math.h"
#include "cuda/ptx.h"
#include "ops/matmul/plan.h"

namespace fovea::cuda {

// S is the storage type; integers are multiplied as unsigned ones, which wrap around.
template <class S>
struct Product {
  using T = Compute<S>;
  MatmulProblem shape;
  const S *a, *b, *bias, *residual;  // nullptr: there is none
  S* c;
  T alpha, beta;
  MatmulActivation activation = MatmulActivation::none;
  int64_t splits = 1, depth = 0;  // parts of k, and the length of each but the last
  T* partial = nullptr;           // [splits, batches, m, n] where splits > 1
  bool wide_stores = false;       // rows of c, and of `partial`, may be written in groups of four
};

// The matrices at one index of the leading axes, and the part of k that is theirs.
template <class S>
struct Matrices {
  const S *a, *b, *bias, *residual;
  S* c;
  Compute<S>* partial;  // of this part of k, nullptr where k is whole
  int64_t from, to;     // of k
};

template <class S>
__device__ inline Matrices<S> matrices_at(const Product<S>& product, int64_t batch, int64_t split) {
  const MatmulProblem& p = product.shape;
  Matrices<S> at{product.a, product.b, product.bias, product.residual, product.c + batch * p.m * p.n, nullptr, 0, p.k};
  if (product.splits > 1) {
    at.partial = product.partial + (split * p.batches + batch) * p.m * p.n;
    at.from = split * product.depth, at.to = min_of(p.k, at.from + product.depth);
  }
  for (int i = 0; i < p.rank; i++) {  // plan.h lists the last axis first
    int64_t rest = batch / p.shape[i], index = batch - rest * p.shape[i];
    at.a += index * p.a_leading[i], at.b += index * p.b_leading[i];
    if (product.bias) at.bias += index * p.bias_leading[i];
    if (product.residual) at.residual += index * p.residual_leading[i];
    batch = rest;
  }
  return at;
}

template <class S>
constexpr bool kHasActivations = !kSame<S, uint32_t> && !kSame<S, uint64_t>;

// x[j] = f(x[j]) with one copy of f, since several at work take registers that the sums need: x goes round.
template <class T, int kCount, class F>
__device__ inline void one_by_one(T (&x)[kCount], F&& f) {
#pragma unroll 1
  for (int i = 0; i < kCount; i++) {
    T y = f(x[0]);
    for (int j = 0; j + 1 < kCount; j++) x[j] = x[j + 1];
    x[kCount - 1] = y;
  }
}

template <class T>
__device__ inline T activated(MatmulActivation activation, T x) {
  if (activation == MatmulActivation::relu) return x < 0 ? T(0) : x;
  if (activation == MatmulActivation::gelu) return gelu(x);
  return activation == MatmulActivation::gelu_tanh ? gelu_tanh(x) : silu(x);
}

// The short functions for 16 bits are computed side by side. Where there is nothing to do it costs a branch at which no
// warp divides.
template <class S, int kCount>
__device__ inline void activate(MatmulActivation activation, Compute<S> (&x)[kCount]) {
  if (activation == MatmulActivation::none) return;
  if constexpr (kSame<S, Half> || kSame<S, Bfloat16>) {
    if (activation == MatmulActivation::gelu)
      for (int j = 0; j < kCount; j++) x[j] = short_gelu(x[j]);
    else if (activation == MatmulActivation::gelu_tanh)
      for (int j = 0; j < kCount; j++) x[j] = short_gelu_tanh(x[j]);
    else if (activation == MatmulActivation::relu)
      for (int j = 0; j < kCount; j++) x[j] = x[j] < 0 ? 0 : x[j];
    else
      for (int j = 0; j < kCount; j++) x[j] = short_times_sigmoid(x[j], x[j]);
  } else if constexpr (kHasActivations<S>) {
    one_by_one(x, [activation](Compute<S> v) { return activated(activation, v); });
  }
}

template <class S, int kCount>
struct alignas(sizeof(S) * kCount) Group {
  S value[kCount];
};

// What is done to kCount neighbouring finished sums of a row, as far as there are so many.
template <int kCount, bool kActivates, class S>
__device__ inline Group<S, kCount> finish(const Product<S>& product, const Matrices<S>& at, int64_t row, int64_t column,
                                          const Compute<S>* sums) {
  using T = Compute<S>;
  const MatmulProblem& p = product.shape;
  T x[kCount];
  for (int j = 0; j < kCount; j++) {
    x[j] = product.alpha * sums[j];
    if (product.bias && column + j < p.n)
      x[j] += product.beta * T(widen(at.bias[row * p.bias_row + (column + j) * p.bias_column]));
  }
  if constexpr (kActivates) activate<S>(product.activation, x);
  for (int j = 0; j < kCount; j++)
    if (product.residual && column + j < p.n)
      x[j] += T(widen(at.residual[row * p.residual_row + (column + j) * p.residual_column]));
  Group<S, kCount> group;
  for (int j = 0; j < kCount; j++) group.value[j] = narrow<S>(x[j]);
  return group;
}

// Stores kCount neighbouring sums of a row, `column` being a multiple of kCount. kActivates: false where the caller
// knows that there is no activation.
template <int kCount, bool kActivates = true, class S>
__device__ inline void store(const Product<S>& product, const Matrices<S>& at, int64_t row, int64_t column,
                             const Compute<S>* sums) {
  using T = Compute<S>;
  const MatmulProblem& p = product.shape;
  if (row >= p.m || column >= p.n) return;
  if (at.partial) {
    T* to = at.partial + row * p.n + column;
    if (product.wide_stores) {
      Group<T, kCount> group;
      for (int j = 0; j < kCount; j++) group.value[j] = sums[j];
      *reinterpret_cast<Group<T, kCount>*>(to) = group;
    } else {
      for (int j = 0; j < kCount; j++)
        if (column + j < p.n) to[j] = sums[j];
    }
    return;
  }
  S* to = at.c + row * p.c_row + column * p.c_column;
  Group<S, kCount> group = finish<kCount, kActivates>(product, at, row, column, sums);
  if (product.wide_stores) {
    *reinterpret_cast<Group<S, kCount>*>(to) = group;
  } else {
    for (int j = 0; j < kCount; j++)
      if (column + j < p.n) to[j * p.c_column] = group.value[j];
  }
}

// Stores kRows by 32 sums that a warp has left in shared memory, so that eight threads store a row.
constexpr int kStagedPitch = 32 + 4;  // floats
template <int kRows, class S>
__device__ inline void store_staged(const Product<S>& product, const Matrices<S>& at, int64_t row, int64_t column,
                                    const float* staged) {
  int lane = thread_index() % 32, first = lane % 8 * 4;
#pragma unroll 1
  for (int r = lane / 8; r < kRows; r += 4)
    store<4>(product, at, row + r, column + first, staged + r * kStagedPitch + first);
}

// The same for 16 by 32 sums as tensor cores leave them, four tiles of 8 columns: a thread has two neighbours in row
// lane / 4, and two eight rows further down.
template <class S>
__device__ inline void store_fragments(const Product<S>& product, const Matrices<S>& at, int64_t row, int64_t column,
                                       const float (&sums)[4][4], float* staged) {
  int lane = int(threadIdx.x) % 32;
  float* to = staged + lane / 4 * kStagedPitch + lane % 4 * 2;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < 4; j++) {
    *reinterpret_cast<float2*>(to + j * 8) = float2{sums[j][0], sums[j][1]};
    *reinterpret_cast<float2*>(to + 8 * kStagedPitch + j * 8) = float2{sums[j][2], sums[j][3]};
  }
  __syncwarp();
  store_staged<16>(product, at, row, column, staged);
}

// The tile of a block: bands of eight rows of tiles are walked column by column, so that blocks that run at the same
// time share operands in the L2 cache. `index` also counts parts of k and matrices, the slowest.
struct Tile {
  int64_t row, column, split, batch;
};
template <class S>
__device__ inline Tile tile_at(const Product<S>& product, int64_t index, int rows, int columns) {
  constexpr int64_t kBand = 8;
  int64_t down = ceil_div(product.shape.m, rows), across = ceil_div(product.shape.n, columns), tiles = down * across;
  int64_t outer = index / tiles, tile = index - outer * tiles;
  int64_t band = tile / (kBand * across), within = tile - band * kBand * across;
  int64_t height = min_of(kBand, down - band * kBand), column = within / height;
  int64_t batch = outer / product.splits;
  return {(band * kBand + within - column * height) * rows, column * columns, outer - batch * product.splits, batch};
}
// What a block works on, kept in shared memory while registers are full of sums.
template <class S>
struct Task {
  Tile tile;
  Matrices<S> at;
};

template <class S>
int64_t tiles_of(const Product<S>& product, int rows, int columns) {
  const MatmulProblem& p = product.shape;
  return ceil_div(p.m, rows) * ceil_div(p.n, columns) * product.splits * p.batches;
}

}  // namespace fovea::cuda
