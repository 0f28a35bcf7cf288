#include "cuda/tensor_map.h"

#include <algorithm>

namespace fovea::cuda {
namespace {

struct Geometry {
  int rank = 0;
  uint64_t sizes[kTensorMapRank] = {}, strides[kTensorMapRank] = {};
  uint32_t box[kTensorMapRank] = {};
};

// What cuTensorMapEncodeTiled asks for, checked here, so that the message names the cause.
void check(const CudaCall& call, const Geometry& g, const void* base, size_t element_bytes) {
  auto refuse_unless = [&](bool condition, const char* what) {
    if (!condition) call.fail("FOVEA_KERNEL_FAILED", "the tensor map has %s", what);
  };
  refuse_unless(reinterpret_cast<uintptr_t>(base) % 16 == 0, "a base that is not 16-byte aligned");
  for (int i = 0; i < g.rank; i++) {
    refuse_unless(g.sizes[i] >= 1 && g.sizes[i] <= (uint64_t(1) << 32), "an axis that is empty or too long");
    refuse_unless(g.box[i] >= 1 && g.box[i] <= 256, "a box of no or too many elements");
    if (i > 0) refuse_unless(g.strides[i] % 16 == 0 && g.strides[i] < (uint64_t(1) << 40), "a bad stride");
  }
  refuse_unless(g.box[0] * element_bytes == kSwizzleBytes, "a box whose rows are not 128 bytes long");
}

#if defined(__CUDACC__)
CUtensorMapDataType type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case Dtype::f64: return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case Dtype::f16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case Dtype::bf16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case Dtype::i32: return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case Dtype::i64: return CU_TENSOR_MAP_DATA_TYPE_INT64;
    default: return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
}

// Asked from the runtime, so that nothing links with the driver's library, which is missing where there is no GPU.
using Encode = decltype(&cuTensorMapEncodeTiled);
Encode encoder(const CudaCall& call) {
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    cudaError_t status =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
  }();
  if (!encode) call.fail("FOVEA_KERNEL_FAILED", "the driver has no cuTensorMapEncodeTiled");
  return encode;
}
#endif

}  // namespace

TensorMap tensor_map(const CudaCall& call, Dtype dtype, const void* base, std::initializer_list<uint64_t> sizes,
                     std::initializer_list<uint64_t> strides_in_bytes, std::initializer_list<uint32_t> box) {
  Geometry g;
  g.rank = int(sizes.size());
  if (g.rank < 2 || g.rank > kTensorMapRank || strides_in_bytes.size() + 1 != sizes.size() ||
      box.size() != sizes.size())
    call.fail("FOVEA_KERNEL_FAILED", "the tensor map has %d axes", g.rank);
  std::copy(sizes.begin(), sizes.end(), g.sizes);
  const size_t element_bytes = kDtypeBytes[int(dtype)];
  g.strides[0] = element_bytes;
  std::copy(strides_in_bytes.begin(), strides_in_bytes.end(), g.strides + 1);
  std::copy(box.begin(), box.end(), g.box);
  check(call, g, base, element_bytes);

  TensorMap result;
#if defined(__CUDACC__)
  const uint32_t every_element[kTensorMapRank] = {1, 1, 1, 1};
  CUresult status =
      encoder(call)(&result.map, type_of(dtype), uint32_t(g.rank), const_cast<void*>(base), g.sizes, g.strides + 1,
                    g.box, every_element, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) call.fail("FOVEA_KERNEL_FAILED", "the driver refused a tensor map: %d", int(status));
#else
  result.base = static_cast<std::byte*>(const_cast<void*>(base));
  result.rank = g.rank, result.element_bytes = uint32_t(element_bytes);
  for (int i = 0; i < kTensorMapRank; i++) {
    result.sizes[i] = i < g.rank ? g.sizes[i] : 1, result.strides[i] = g.strides[i];
    result.box[i] = i < g.rank ? g.box[i] : 1;
  }
#endif
  return result;
}

}  // namespace fovea::cuda
