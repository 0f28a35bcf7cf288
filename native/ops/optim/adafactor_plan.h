// How adafactor_ cuts tensors, what it keeps of their parts meanwhile, and its rates; the same on the CPU and on CUDA.
//
// A tensor of two axes and more is a stack of matrices [rows, columns]; one of fewer is a single matrix of one column,
// whose averages are not factored. A part is some rows of one matrix, or several whole matrices where they are small.
#pragma once
#include "core/arithmetic.h"
#include "core/view.h"
#include "ops/optim/attrs.h"
#include "ops/optim/steps.h"

namespace fovea {

// Elements of a part, as far as its rows allow it: sums of columns are kept for each part, and so parts are not flat.
constexpr int64_t kAdafactorPart = 32768, kFewestRows = 64, kMostRows = 512;
constexpr int kAdafactorInputs = 5;  // p, g, row, col, v

struct AdafactorTensor {
  int64_t rows, columns, matrices;
  int64_t part_rows, splits, together;  // rows of a part, parts of a matrix, matrices of a part
  int64_t parts, first_part, first_matrix, first_sum;
  bool factored;

  FOVEA_INLINE int64_t size() const { return rows * columns * matrices; }
};
struct AdafactorPart {
  int64_t matrix, matrices, row, rows;  // the first and how many, of the stack and of each matrix
};
FOVEA_INLINE AdafactorPart part_of(const AdafactorTensor& t, int64_t number) {
  if (t.splits > 1) {
    const int64_t row = number % t.splits * t.part_rows;
    return {number / t.splits, 1, row, min_of(t.part_rows, t.rows - row)};
  }
  const int64_t matrix = number * t.together;
  return {matrix, min_of(t.together, t.matrices - matrix), 0, t.rows};
}

// What lies before the tensor that comes next.
struct AdafactorTotals {
  int64_t parts = 0, matrices = 0, sums = 0;

  FOVEA_HOST_INLINE AdafactorTensor add(const View& p) {
    AdafactorTensor t{};
    const int64_t size = p.size();
    t.factored = p.rank >= 2;
    t.rows = t.factored ? p.dim(-2) : size, t.columns = t.factored ? p.dim(-1) : 1;
    t.first_part = parts, t.first_matrix = matrices, t.first_sum = sums;
    if (size == 0) return t;
    t.matrices = size / (t.rows * t.columns);
    t.part_rows = t.factored ? clamp_to(kAdafactorPart / t.columns, kFewestRows, kMostRows) : kAdafactorPart;
    t.splits = (t.rows + t.part_rows - 1) / t.part_rows;
    t.together = max_of(kAdafactorPart / (t.rows * t.columns), int64_t(1));
    t.parts = t.splits > 1 ? t.splits * t.matrices : (t.matrices + t.together - 1) / t.together;
    parts += t.parts, matrices += t.matrices, sums += t.factored && t.splits > 1 ? t.parts * t.columns : 0;
    return t;
  }
};

// In float64: of each part, sums of squares of its weights and of its updates, and the sum of its rows' averages; of
// each matrix, the mean of these; of each part of a matrix that is split, sums of its columns' squares.
struct AdafactorSums {
  double *weights, *updates, *rows, *means, *columns;
  FOVEA_HOST_INLINE AdafactorSums(double* from, const AdafactorTotals& all)
      : weights(from),
        updates(weights + all.parts),
        rows(updates + all.parts),
        means(rows + all.parts),
        columns(means + all.matrices) {}
  FOVEA_HOST_INLINE static size_t bytes(const AdafactorTotals& all) {
    return size_t(3 * all.parts + all.matrices + all.sums) * sizeof(double);
  }
};

// All that does not depend on the values.
struct AdafactorRates {
  double newest, least, least_scale, relative, cut, kept;
  bool ascends;

  FOVEA_HOST_INLINE AdafactorRates(const AdafactorAttrs& a, Dtype dtype)
      : newest(__builtin_pow(double(a.step), a.beta2Decay)),
        least(a.eps1 < 0 ? step_at_one(dtype) : a.eps1),
        least_scale(a.eps2),
        relative(a.lr < falling(a.step) ? a.lr : falling(a.step)),
        cut(a.d),
        kept(1 - a.lr * a.weightDecay),
        ascends(a.maximize) {}
  FOVEA_HOST_INLINE static double falling(int64_t step) { return 1 / __builtin_sqrt(double(step)); }
  FOVEA_HOST_INLINE static double step_at_one(Dtype dtype) {
    return dtype == Dtype::f64 ? 0x1p-52 : dtype == Dtype::f32 ? 0x1p-23 : dtype == Dtype::f16 ? 0x1p-10 : 0x1p-7;
  }
  // A new value of an average.
  template <class A>
  FOVEA_INLINE A follow(A average, A value) const {
    return average + A(newest) * (value - average);
  }
  // By what updates are multiplied, from the mean squares of the weights and of the updates. A NaN stays one.
  FOVEA_INLINE double rate(double weights, double updates) const {
    const double scale = root_of(weights), size = root_of(updates) / cut;
    const double rate = relative * (scale < least_scale ? least_scale : scale) / (size < 1 ? 1 : size);
    return ascends ? -rate : rate;
  }
};

// Fails where a tuple lacks the averages that its parameter needs, or has them in another size.
template <class AnyCall>
FOVEA_HOST_INLINE void check_adafactor(const AnyCall& call) {
  constexpr const char* kNames[3] = {"row", "col", "v"};
  for (int64_t i = 0; i < call.in.size(); i += kAdafactorInputs) {
    const View& p = call.in[i];
    if (p.size() == 0) continue;
    const bool factored = p.rank >= 2;
    const int64_t rows = factored ? p.size() / p.dim(-1) : 0, columns = factored ? p.size() / p.dim(-2) : 0;
    const int64_t wanted[3] = {rows, columns, factored ? 0 : p.size()};
    for (int k = 0; k < 3; k++) {
      const View& average = call.in[i + 2 + k];
      const int64_t found = average.present() ? average.size() : 0;
      if (found != wanted[k])
        call.fail("FOVEA_SHAPE", "parameter %lld needs %lld elements of %s, received %lld; load a whole state",
                  static_cast<long long>(i / kAdafactorInputs), static_cast<long long>(wanted[k]), kNames[k],
                  static_cast<long long>(found));
    }
  }
}

}  // namespace fovea
