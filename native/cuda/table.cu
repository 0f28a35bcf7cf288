#include <cstring>

#include "cuda/families.h"

namespace fovea::cuda {

#define FOVEA_DECLARE_CUDA(family) extern const CudaEntry family##_cuda_kernels[];
FOVEA_CUDA_FAMILIES(FOVEA_DECLARE_CUDA)
#undef FOVEA_DECLARE_CUDA

namespace {
#define FOVEA_CUDA_TABLE(family) family##_cuda_kernels,
const CudaEntry* const tables[] = {FOVEA_CUDA_FAMILIES(FOVEA_CUDA_TABLE) nullptr};
#undef FOVEA_CUDA_TABLE
}  // namespace

const CudaEntry* find_cuda_kernel(const char* op) {
  for (const CudaEntry* const* table = tables; *table; table++)
    for (const CudaEntry* entry = *table; entry->name; entry++)
      if (std::strcmp(entry->name, op) == 0) return entry;
  return nullptr;
}

}  // namespace fovea::cuda
