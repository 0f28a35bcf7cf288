// Quantised weights on the CPU: y = x W^T + bias over packed weights [n, k], repacking and dequantising.
#include "core/kernel.h"
#include "ops/quantized/codes.h"
#include "ops/quantized/group_tiles.h"
#include "ops/quantized/matrix.h"
#include "ops/quantized/product.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class Body>
void for_tiles(Call& call, const Matrix& m, Body&& body) {
  int64_t grain = max_of(1, (int64_t(1) << 15) / max_of(tile_bytes(m.type, m.k), 1));
  call.parallel.for_range(m.tiles(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) body(t, min_of(kChannels, m.n - t * kChannels));
  });
}

void quantized_pack(Call& call, const QuantizedAttrs& attrs) {
  Matrix m = checked_file(call, attrs, call.out[0], call.in[0]);
  int64_t step = gguf_block_bytes(m.type), row = m.blocks() * step;
  for_tiles(call, m, [&](int64_t t, int64_t channels) {
    uint8_t* to = call.out[0].as<uint8_t>() + t * tile_bytes(m.type, m.k);
    Codes<kChannels> codes = {};
    for (int64_t b = 0; b < m.blocks(); b++, to += packed_block_bytes(m.type)) {
      for (int64_t c = 0; c < channels; c++)
        read_gguf(m.type, call.in[0].as<uint8_t>() + (t * kChannels + c) * row + b * step, c, codes);
      store_packed(m.type, codes, to);
    }
  });
}

void quantized_unpack(Call& call, const QuantizedAttrs& attrs) {
  Matrix m = checked_file(call, attrs, call.in[0], call.out[0]);
  int64_t step = gguf_block_bytes(m.type), row = m.blocks() * step;
  for_tiles(call, m, [&](int64_t t, int64_t channels) {
    const uint8_t* from = call.in[0].as<uint8_t>() + t * tile_bytes(m.type, m.k);
    Codes<kChannels> codes;
    for (int64_t b = 0; b < m.blocks(); b++, from += packed_block_bytes(m.type)) {
      load_packed(m.type, from, codes);
      for (int64_t c = 0; c < channels; c++)
        write_gguf(m.type, codes, c, call.out[0].as<uint8_t>() + (t * kChannels + c) * row + b * step);
    }
  });
}

void quantized_quantize(Call& call, const QuantizedAttrs& attrs) {
  const View& w = call.in[0];
  Matrix m = checked_matrix(call, attrs.type, w.shape[0], w.shape[1], call.out[0]);
  quantize_weights(call, w, m.type, call.out[0].data);
}

void dequantize(Call& call, const DequantizeAttrs& attrs) {
  Matrix m = checked_dequantized(call, attrs);
  dispatch_float(attrs.dtype, [&]<class T>() {
    for_tiles(call, m, [&](int64_t t, int64_t channels) {
      const uint8_t* tile = call.in[0].as<uint8_t>() + t * tile_bytes(m.type, m.k);
      const uint8_t* from = tile + tile_header_bytes(m.type);
      Codes<kChannels> codes;
      if (m.type == QuantType::int8) __builtin_memcpy(codes.channel, tile, sizeof codes.channel);
      for (int64_t b = 0; b < m.blocks(); b++, from += packed_block_bytes(m.type)) {
        load_packed(m.type, from, codes);
        for (int64_t c = 0; c < channels; c++) {
          float weights[kMaxBlock];
          int64_t k = b * block_of(m.type);
          decode(m.type, codes, c, weights);
          convert_row(weights, call.out[0].as<T>() + (t * kChannels + c) * m.k + k, min_of(block_of(m.type), m.k - k));
        }
      }
    });
  });
}

// ---- the product

#if defined(__AMX_INT8__)
// Whether rows [first_row, first_row + rows) were for tile registers, and are done.
template <class S>
bool multiply_in_tiles(Call& call, const Matrix& m, int64_t first_row, int64_t rows) {
  const int64_t least = m.type == QuantType::int8 ? kLeastTiledRows : kUnpackRows;
  if (m.k == 0 || m.type == QuantType::q6_K || call.in[0].shape[0] < least) return false;
  const Product p(call, m, first_row, rows, m.type == QuantType::int8 ? kMaxRows : kMaxHeight);
  switch (m.type) {
    case QuantType::q8_0: multiply_pass_in_group_tiles<S, QuantType::q8_0>(p); break;
    case QuantType::q4_0: multiply_pass_in_group_tiles<S, QuantType::q4_0>(p); break;
    case QuantType::q4_K: multiply_pass_in_group_tiles<S, QuantType::q4_K>(p); break;
    default: multiply_pass_in_tiles<S>(p);
  }
  return true;
}
#endif

void quantized_linear(Call& call, const QuantizedAttrs& attrs) {
  const View& x = call.in[0];
  Matrix m = checked_product(call, attrs);
  if (call.out[0].size() == 0) return;
  dispatch_float(x.dtype, [&]<class S>() {
    // Passes of nearly equal height: a last one of a few rows would read all weights for them.
    const int64_t rows = ceil_div(x.shape[0], ceil_div(x.shape[0], kPassRows));
    for (int64_t row = 0; row < x.shape[0]; row += rows) {
      const int64_t count = min_of(rows, x.shape[0] - row);
#if defined(__AMX_INT8__)
      if (multiply_in_tiles<S>(call, m, row, count)) continue;
#endif
      multiply_pass<S>(Product(call, m, row, count, kMaxRows));
    }
  });
}

}  // namespace

FOVEA_KERNELS(quantized, FOVEA_KERNEL("packQuantized", quantized_pack, QuantizedAttrs),
              FOVEA_KERNEL("unpackQuantized", quantized_unpack, QuantizedAttrs),
              FOVEA_KERNEL("quantize", quantized_quantize, QuantizedAttrs),
              FOVEA_KERNEL("dequantize", dequantize, DequantizeAttrs),
              FOVEA_KERNEL("quantizedLinear", quantized_linear, QuantizedAttrs))

}  // namespace fovea::FOVEA_ISA
