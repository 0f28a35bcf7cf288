// Quantised weights on a GPU: repacking, dequantising and what calls the kernels of the other files.
#include "cuda/index.h"
#include "ops/quantized/codes.h"
#include "ops/quantized/cuda_blocks.h"
#include "ops/quantized/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 128;

Config config_for(const CudaCall& call, int64_t items) {
  return {dim3(blocks_for(items, kThreads, call.device)), dim3(kThreads)};
}

// Between the blocks of a file and packed ones, a channel of a block to a thread; channels beyond n are zeros.
__global__ void __launch_bounds__(kThreads) pack_blocks(const uint8_t* file, Matrix m, uint8_t* packed) {
  const int64_t channels = m.tiles() * kChannels, file_bytes = gguf_block_bytes(m.type);
  for (int64_t i = first_item(); i < channels * m.blocks(); i += item_step()) {
    const int64_t row = i % channels, block = i / channels;
    Codes<1> codes = {};
    if (row < m.n) read_gguf(m.type, file + (row * m.blocks() + block) * file_bytes, 0, codes);
    uint8_t* tile = packed + row / kChannels * tile_bytes(m.type, m.k);
    store_packed(m.type, codes, tile + block * packed_block_bytes(m.type), row % kChannels);
  }
}
__global__ void __launch_bounds__(kThreads) unpack_blocks(const uint8_t* packed, Matrix m, uint8_t* file) {
  for (int64_t i = first_item(); i < m.n * m.blocks(); i += item_step()) {
    const int64_t row = i % m.n, block = i / m.n;
    const uint8_t* tile = packed + row / kChannels * tile_bytes(m.type, m.k);
    Codes<1> codes;
    load_packed(m.type, tile + block * packed_block_bytes(m.type), codes, row % kChannels);
    write_gguf(m.type, codes, 0, file + (row * m.blocks() + block) * gguf_block_bytes(m.type));
  }
}

// A quad of a channel to a thread. Neighbours write to the same row, since what is written is more than what is read.
template <QuantType Type, class T>
__global__ void __launch_bounds__(kThreads) dequantize_quads(const uint8_t* packed, Matrix m, T* w) {
  const int64_t groups = ceil_div(m.k, kGroup), row_quads = groups * 8;
  for (int64_t i = first_item(); i < m.n * row_quads; i += item_step()) {
    const int64_t row = i / row_quads, at = i % row_quads, k = at * 4;
    if (k >= m.k) continue;  // int8 fills its last group up
    const int quad = int(at % 8);
    const PackedChannel<Type> channel(packed + row / kChannels * tile_bytes(Type, m.k), at / 8, int(row % kChannels));
    const float scale = channel.scale(quad / 4), minimum = channel.minimum();
    const uint32_t quants = channel.quad(quad);
    Compute<T> weights[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int quant = int(quants >> (8 * j) & 255), value = channel.kBytes ? int(int8_t(quant)) : quant;
      weights[j] = scale * float(value - channel.kBias) - minimum;
    }
    T* to = w + row * m.k + k;
    if (m.k % 4 == 0) *reinterpret_cast<Pack<T, 4>*>(to) = narrow_pack<T>(weights);
    else
      for (int j = 0; j < min_of(4, m.k - k); j++) to[j] = narrow<T>(weights[j]);
  }
}

void pack_quantized(const CudaCall& call, const QuantizedAttrs& attrs) {
  const Matrix m = checked_file(call, attrs, call.out[0], call.in[0]);
  call.launch(pack_blocks, config_for(call, m.tiles() * kChannels * m.blocks()), call.in[0].as<uint8_t>(), m,
              call.out[0].as<uint8_t>());
}
void unpack_quantized(const CudaCall& call, const QuantizedAttrs& attrs) {
  const Matrix m = checked_file(call, attrs, call.in[0], call.out[0]);
  call.launch(unpack_blocks, config_for(call, m.n * m.blocks()), call.in[0].as<uint8_t>(), m,
              call.out[0].as<uint8_t>());
}
void quantize(const CudaCall& call, const QuantizedAttrs& attrs) {
  const View& w = call.in[0];
  quantize_weights(call, checked_matrix(call, attrs.type, w.shape[0], w.shape[1], call.out[0]));
}
void dequantize(const CudaCall& call, const DequantizeAttrs& attrs) {
  const Matrix m = checked_dequantized(call, attrs);
  dispatch_type(m.type, [&](auto type) {
    dispatch_float(attrs.dtype, [&](auto zero) {
      using T = decltype(zero);
      call.launch(dequantize_quads<type.value, T>, config_for(call, m.n * ceil_div(m.k, kGroup) * 8),
                  call.in[0].as<uint8_t>(), m, call.out[0].as<T>());
    });
  });
}

size_t linear_workspace(Views in, Views, const void*, const DeviceLimits&) {
  Carver carver(nullptr);
  QuantizedRows(carver, in[0].shape[0], in[0].shape[1]);
  return carver.used();
}
void quantized_linear(const CudaCall& call, const QuantizedAttrs& attrs) {
  const View& x = call.in[0];
  const Matrix m = checked_product(call, attrs);
  Carver carver(call.workspace);
  const QuantizedRows rows(carver, x.shape[0], m.k);
  quantize_rows(call, m.type, rows);
  multiply_quantized(call, m, rows);
}

}  // namespace

FOVEA_CUDA_KERNELS(quantized, FOVEA_CUDA_KERNEL("packQuantized", pack_quantized, QuantizedAttrs),
                   FOVEA_CUDA_KERNEL("unpackQuantized", unpack_quantized, QuantizedAttrs),
                   FOVEA_CUDA_KERNEL("quantize", quantize, QuantizedAttrs),
                   FOVEA_CUDA_KERNEL("dequantize", dequantize, DequantizeAttrs),
                   FOVEA_CUDA_KERNEL_WITH("quantizedLinear", quantized_linear, QuantizedAttrs, linear_workspace))

}  // namespace fovea::cuda
