// Sums of squares on the CPU. Included by per-instruction-set files only.
#pragma once
#include "cpu/rows.h"

namespace fovea::FOVEA_ISA {
namespace {

// In float64, where no square of a float32 overflows and sums of many are still exact to float32.
template <class A>
double sum_of_squares(const View& v, int64_t begin, int64_t end) {
  const Source<A> source(v);
  return fold_blocks<double>(end - begin, Add(), [&](int64_t offset, int64_t count) {
    Buffer<A> buffer;
    double wide[kBlock];
    const A* x = source.block(begin + offset, count, buffer);
    for (int64_t i = 0; i < count; i++) wide[i] = double(x[i]);
    return fold_vectors<double>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<double> value = load(static_cast<const double*>(wide) + i, lanes);
      return value * value;
    });
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
