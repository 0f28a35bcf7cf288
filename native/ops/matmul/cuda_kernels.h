// What the files of matmul's kernels offer cuda.cu. Each runs one product as planned.
#pragma once
#include "ops/matmul/cuda_plan.h"
#include "ops/matmul/cuda_product.h"

namespace fovea::cuda {

template <class S>
void matmul_skinny(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan);
void matmul_simt(const CudaCall& call, const Product<float>& product, const CudaMatmulPlan& plan);
template <class S>
void matmul_sm80(const CudaCall& call, const Product<S>& product);

// Whether the operands lie so that TMA can load them. The kernel runs on sm_90 only.
bool matmul_sm90_takes(const MatmulProblem& p, const void* a, const void* b);
template <class S>
void matmul_sm90(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan);

}  // namespace fovea::cuda
