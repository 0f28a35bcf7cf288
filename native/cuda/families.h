// The tables of CUDA kernels, which lie in ops/<family>/cuda*.cu.
#pragma once
#include "cuda/kernel.h"

#ifndef FOVEA_CUDA_FAMILIES
#define FOVEA_CUDA_FAMILIES(F) \
  F(elementwise)               \
  F(elementwise_binary)        \
  F(elementwise_move)          \
  F(gated)                     \
  F(creation)                  \
  F(reduce)                    \
  F(matmul)                    \
  F(softmax)                   \
  F(norm)                      \
  F(loss)                      \
  F(attention)                 \
  F(rope)                      \
  F(rnn)                       \
  F(conv)                      \
  F(pool)                      \
  F(indexing)                  \
  F(sorting)                   \
  F(random)                    \
  F(sampling)                  \
  F(optim)                     \
  F(quantized)
#endif

namespace fovea::cuda {

// The entry of an op, nullptr where it has no kernel.
const CudaEntry* find_cuda_kernel(const char* op);

}  // namespace fovea::cuda
