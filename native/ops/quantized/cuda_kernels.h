// What the files of CUDA kernels of this family have of each other.
#pragma once
#include "cuda/carver.h"
#include "ops/quantized/matrix.h"

namespace fovea::cuda {

// Rows of x as int8, padded by zeros to whole groups of 32: a value is d quant.
struct QuantizedRows {
  int64_t rows, groups;  // groups of a row
  int8_t* quants;        // [rows, groups, 32]
  int32_t* sums;         // [rows, groups, 2], of 16 quants each
  float* d;  // [rows, groups], max |x| / 127 over what layout.h says; NaN where some of these x is not finite
  QuantizedRows(Carver& carver, int64_t rows, int64_t k)
      : rows(rows),
        groups(ceil_div(k, kGroup)),
        quants(carver.take<int8_t>(rows * groups * kGroup)),
        sums(carver.take<int32_t>(rows * groups * 2)),
        d(carver.take<float>(rows * groups)) {}
};

void quantize_weights(const CudaCall& call, const Matrix& m);
void quantize_rows(const CudaCall& call, QuantType type, const QuantizedRows& rows);
void multiply_quantized(const CudaCall& call, const Matrix& m, const QuantizedRows& rows);

}  // namespace fovea::cuda
