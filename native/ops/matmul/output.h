// One matrix product of a batch as kernels see it, and what is done to finished sums:
// c = activation(alpha sum + beta bias) + residual, rounded once to the storage type.
#pragma once
#include "cpu/gemm_bf16.h"
#include "cpu/math_coarse.h"
#include "ops/matmul/plan.h"

namespace fovea::FOVEA_ISA {
namespace {

// S is the storage type; integers are multiplied as unsigned ones, which wrap around.
template <class S>
struct Product {
  using T = Compute<S>;
  const MatmulProblem& shape;        // as it is multiplied
  const MatmulProblem& written;      // as the op has it, whose c is row-major; `shape` may be its transposition
  const S *a, *b, *bias, *residual;  // nullptr: there is none
  S* c;
  T alpha, beta;
  MatmulActivation activation;

  FOVEA_INLINE bool plain() const {
    return alpha == T(1) && !bias && !residual && activation == MatmulActivation::none;
  }
};

FOVEA_INLINE void from_compute_row(const float* from, Half* to, int64_t n) { convert_row(from, to, n); }
FOVEA_INLINE void from_compute_row(const float* from, Bfloat16* to, int64_t n) { convert_row(from, to, n); }
template <class T>
FOVEA_INLINE void from_compute_row(const T* from, T* to, int64_t n) {
  to_compute_row(from, to, n);
}

constexpr int64_t kMaxFinished = 256;  // columns at once; whole vectors of any type

// Results of 16 bits take the functions that are as good there. Whole vectors are computed: behind n, too, a line of
// kMaxFinished has room.
template <class S>
__attribute__((noinline)) void activate(MatmulActivation activation, Compute<S>* line, int64_t n) {
  using V = Vec<Compute<S>>;
  constexpr int L = kLanes<Compute<S>>;
  for (int64_t j = n; j < round_up(n, L); j++) line[j] = 0;
  auto for_each = [&](auto&& f) {
    for (int64_t j = 0; j < n; j += L) store(line + j, f(load(line + j)));
  };
  switch (activation) {
    case MatmulActivation::none: break;
    case MatmulActivation::gelu:
      for_each([](V x) {
        if constexpr (kIs16Bit<S>) return coarse_gelu(x);
        else return gelu(x);
      });
      break;
    case MatmulActivation::gelu_tanh:
      for_each([](V x) {
        if constexpr (kIs16Bit<S>) return coarse_gelu_tanh(x);
        else return gelu_tanh(x);
      });
      break;
    case MatmulActivation::relu:
      for (int64_t j = 0; j < n; j++) line[j] = line[j] < 0 ? 0 : line[j];
      break;
    case MatmulActivation::silu:
      for_each([](V x) {
        if constexpr (kIs16Bit<S>) return coarse_silu(x);
        else return silu(x);
      });
      break;
  }
}

// n elements `step` apart in the type that is computed in: where they lie, if they are that already, or copied.
template <class S>
FOVEA_INLINE const Compute<S>* row_of(const S* from, int64_t step, Compute<S>* copy, int64_t n) {
  if constexpr (std::is_same_v<S, Compute<S>>)
    if (step == 1) return from;
  if (step == 1) to_compute_row(from, copy, n);
  else
    for (int64_t j = 0; j < n; j++) copy[j] = to_compute(from[j * step]);
  return copy;
}
// Where a row of results is made: in place, if it is of the type that is computed in and without gaps.
template <class S>
FOVEA_INLINE Compute<S>* target_of(S* to, int64_t step, Compute<S>* line) {
  if constexpr (std::is_same_v<S, Compute<S>>)
    if (step == 1) return to;
  return line;
}
template <class S>
FOVEA_INLINE void commit(const Compute<S>* line, S* to, int64_t step, int64_t n) {
  if constexpr (std::is_same_v<S, Compute<S>>) {
    if (step == 1) return;  // made in place
  } else if (step == 1) {
    return from_compute_row(line, to, n);
  }
  S rounded[kMaxFinished];
  from_compute_row(line, rounded, n);
  for (int64_t j = 0; j < n; j++) to[j * step] = rounded[j];
}

// to = alpha sums + beta bias + residual; bias and residual may be left out.
template <class T>
FOVEA_INLINE void combine(T alpha, const T* sums, T beta, const T* bias, const T* residual, T* to, int64_t n) {
  int64_t j = 0;
  if constexpr (std::is_floating_point_v<T>)
    for (; j + kLanes<T> <= n; j += kLanes<T>) {
      Vec<T> x = alpha * load(sums + j);
      if (bias) x += beta * load(bias + j);
      if (residual) x += load(residual + j);
      store(to + j, x);
    }
  for (; j < n; j++) {
    T x = alpha * sums[j];
    if (bias) x += beta * bias[j];
    to[j] = residual ? x + residual[j] : x;
  }
}

// The residual that finish() of these rows and columns will read, into the cache while they are multiplied: a line or
// two of many rows, which no hardware foresees.
template <class S>
FOVEA_INLINE void fetch_residual(const Product<S>& product, const MatmulProblem& p, int64_t row, int64_t column,
                                 int64_t rows, int64_t columns) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(S));
  for (int64_t i = row; i < row + rows; i++)
    for (int64_t j = column; j < column + columns; j += kLine)
      __builtin_prefetch(product.residual + i * p.residual_row + j * p.residual_column);
}

// The lines of C that finish() of these rows and columns will write, where it rounds to 16 bits: behind a store that
// waits for its line the store of the next tile waits, too.
template <class S>
FOVEA_INLINE void fetch_results(const Product<S>& product, int64_t row, int64_t column, int64_t rows, int64_t columns) {
  const MatmulProblem& p = product.shape;
  const bool turned = p.c_column != 1;
  const S* at = product.c + row * p.c_row + column * p.c_column;
  const int64_t step = turned ? p.c_column : p.c_row;
  for (int64_t i = 0; i < (turned ? columns : rows); i++) __builtin_prefetch(at + i * step, 1);
}

// c[row + i][column + j] = activation(alpha sums[i][j] + beta bias[row + i][column + j])
//                          + residual[row + i][column + j]
//
// for at most kMaxFinished columns. Rows and columns are those of `p`, one of the product's two.
template <class S>
void finish(const Product<S>& product, const MatmulProblem& p, const Compute<S>* sums, int64_t pitch, int64_t row,
            int64_t column, int64_t rows, int64_t columns) {
  using T = Compute<S>;
  if (product.plain() && p.c_column == 1) {
    for (int64_t i = 0; i < rows; i++)
      from_compute_row(sums + i * pitch, product.c + (row + i) * p.c_row + column, columns);
    return;
  }
  T line[kMaxFinished], bias_line[kMaxFinished], residual_line[kMaxFinished];
  const T* bias = nullptr;
  for (int64_t i = 0; i < rows; i++) {
    int64_t r = row + i, at = r * p.c_row + column * p.c_column;
    const T *from = sums + i * pitch, *residual = nullptr;
    if (product.bias && (i == 0 || p.bias_row != 0))  // else it is the one of the row before
      bias = row_of(product.bias + r * p.bias_row + column * p.bias_column, p.bias_column, bias_line, columns);
    if (product.residual)
      residual = row_of(product.residual + r * p.residual_row + column * p.residual_column, p.residual_column,
                        residual_line, columns);
    T* to = target_of(product.c + at, p.c_column, line);
    if (product.activation == MatmulActivation::none) {
      combine(product.alpha, from, product.beta, bias, residual, to, columns);
    } else if constexpr (std::is_floating_point_v<T>) {
      combine(product.alpha, from, product.beta, bias, static_cast<const T*>(nullptr), line, columns);
      activate<S>(product.activation, line, columns);
      combine<T>(1, line, 0, nullptr, residual, to, columns);
    }
    commit(to, product.c + at, p.c_column, columns);
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
