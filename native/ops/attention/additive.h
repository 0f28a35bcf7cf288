// Additive scores (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473), sum over c of vector_c tanh(q_ic + k_jc),
// and their gradients, for a strip of rows and a tile of columns, both packed as for products. tanh is computed again
// in each pass instead of being kept. Included by per-instruction-set files only.
#pragma once
#include "ops/attention/tile.h"

namespace fovea::FOVEA_ISA {
namespace {

FOVEA_INLINE Vec<float> tanh_of(Vec<float> x) { return tanh(x); }
FOVEA_INLINE Vec<double> tanh_of(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; i++) x[i] = __builtin_tanh(x[i]);
  return x;
}

// tile[r kColumns + j] = sum over c of vector_c tanh(a(r, c) + b(c, j)), with a and b packed as for products.
template <int kRows, class A>
__attribute__((noinline)) void additive_tile(int64_t rows, int64_t width, const A* a, const A* panels, const A* vector,
                                             int64_t begin, int64_t end, A* tile) {
  constexpr int L = kLanes<A>, P = kPanel<A>;
  for (int64_t j = begin; j < end; j += L)
    for (int64_t r = 0; r < rows; r++) {
      const A* b = panels + j / P * P * width + j % P;
      Vec<A> sum{};
      for (int64_t c = 0; c < width; c++, b += P) sum += tanh_of(load(b) + a[c * kRows + r]) * vector[c];
      store(tile + r * kColumns + j, sum);
    }
}
// slope x, 0 where the slope is: what is NaN in a hidden key must not show.
template <class V>
FOVEA_INLINE V where_sloped(V slope, V x) {
  return select(slope == V{}, V{}, slope * x);
}
// dx(r, c), in panels, += vector_c sum over columns j of slopes(r, j) (1 - tanh^2(a(r, c) + b(c, j))).
template <int kRows, class A>
__attribute__((noinline)) void add_additive_slopes(int64_t rows, int64_t width, const A* a, const A* panels,
                                                   const A* vector, const A* slopes, int64_t begin, int64_t end,
                                                   A* dx) {
  constexpr int L = kLanes<A>, P = kPanel<A>;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < width; c++) {
      const A x = a[c * kRows + r];
      Vec<A> sum{};
      for (int64_t j = begin; j < end; j += L) {
        const Vec<A> t = tanh_of(load(panels + j / P * P * width + c * P + j % P) + x);
        sum += where_sloped(load(slopes + r * kColumns + j), 1 - t * t);
      }
      dx[(c / P * kRows + r) * P + c % P] += vector[c] * total_of<A>(sum);
    }
}
// dvector_c += sum over rows and columns of slopes(r, j) tanh(a(r, c) + b(c, j)).
template <int kRows, class A>
__attribute__((noinline)) void add_vector_slopes(int64_t rows, int64_t width, const A* a, const A* panels,
                                                 const A* slopes, int64_t begin, int64_t end, A factor, A* dvector) {
  constexpr int L = kLanes<A>, P = kPanel<A>;
  for (int64_t c = 0; c < width; c++) {
    Vec<A> sum{};
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = begin; j < end; j += L)
        sum += where_sloped(load(slopes + r * kColumns + j),
                            tanh_of(load(panels + j / P * P * width + c * P + j % P) + a[c * kRows + r]));
    dvector[c] += factor * total_of<A>(sum);
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
