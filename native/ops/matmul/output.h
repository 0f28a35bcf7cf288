// One matrix product of a batch as kernels see it, and what is done to finished sums:
// c = activation(alpha sum + beta bias), rounded once to the storage type.
#pragma once
#include "cpu/gemm_bf16.h"
#include "cpu/math.h"
#include "ops/matmul/plan.h"

namespace fovea::FOVEA_ISA {
namespace {

// S is the storage type; integers are multiplied as unsigned ones, which wrap around.
template <class S>
struct Product {
  using T = Compute<S>;
  const MatmulProblem& shape;    // as it is multiplied
  const MatmulProblem& written;  // as the op has it, whose c is row-major; `shape` may be its transposition
  const S *a, *b, *bias;         // bias: nullptr for none
  S* c;
  T alpha, beta;
  MatmulActivation activation;

  FOVEA_INLINE bool plain() const { return alpha == T(1) && !bias && activation == MatmulActivation::none; }
};

FOVEA_INLINE void from_compute_row(const float* from, Half* to, int64_t n) { convert_row(from, to, n); }
FOVEA_INLINE void from_compute_row(const float* from, Bfloat16* to, int64_t n) { convert_row(from, to, n); }
template <class T>
FOVEA_INLINE void from_compute_row(const T* from, T* to, int64_t n) {
  to_compute_row(from, to, n);
}

constexpr int64_t kMaxFinished = 256;  // columns at once; whole vectors of any type

// Whole vectors are computed: behind n, too, a line of kMaxFinished has room.
template <class T>
__attribute__((noinline)) void activate(MatmulActivation activation, T* line, int64_t n) {
  constexpr int L = kLanes<T>;
  for (int64_t j = n; j < round_up(n, L); j++) line[j] = 0;
  if (activation == MatmulActivation::gelu)
    for (int64_t j = 0; j < n; j += L) store(line + j, gelu(load(line + j)));
  else
    for (int64_t j = 0; j < n; j += L) store(line + j, gelu_tanh(load(line + j)));
}

// c[row + i][column + j] = activation(alpha sums[i][j] + beta bias[row + i][column + j]); at most kMaxFinished columns.
// Rows and columns are those of `p`, one of the product's two.
template <class S>
void finish(const Product<S>& product, const MatmulProblem& p, const Compute<S>* sums, int64_t pitch, int64_t row,
            int64_t column, int64_t rows, int64_t columns) {
  using T = Compute<S>;
  if (product.plain() && p.c_column == 1) {
    for (int64_t i = 0; i < rows; i++)
      from_compute_row(sums + i * pitch, product.c + (row + i) * p.c_row + column, columns);
    return;
  }
  T line[kMaxFinished], bias[kMaxFinished];
  S rounded[kMaxFinished];
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) line[j] = product.alpha * sums[i * pitch + j];
    if (product.bias) {
      const S* from = product.bias + (row + i) * p.bias_row + column * p.bias_column;
      if (p.bias_column == 1) to_compute_row(from, bias, columns);
      else
        for (int64_t j = 0; j < columns; j++) bias[j] = to_compute(from[j * p.bias_column]);
      for (int64_t j = 0; j < columns; j++) line[j] += product.beta * bias[j];
    }
    if constexpr (std::is_floating_point_v<T>)
      if (product.activation != MatmulActivation::none) activate(product.activation, line, columns);
    S* to = product.c + (row + i) * p.c_row + column * p.c_column;
    if (p.c_column == 1) {
      from_compute_row(line, to, columns);
    } else {
      from_compute_row(line, rounded, columns);
      for (int64_t j = 0; j < columns; j++) to[j * p.c_column] = rounded[j];
    }
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
