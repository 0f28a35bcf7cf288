// Quantised weights on the CPU: y = x W^T + bias over packed weights [n, k], repacking and dequantising.
#include "core/kernel.h"
#include "ops/quantized/attrs.h"
#include "ops/quantized/codes.h"
#include "ops/quantized/product.h"
#include "ops/quantized/tiles.h"

namespace fovea::FOVEA_ISA {
namespace {

// The matrix that the attributes describe; `packed` and what else is there must have the sizes that go with it.
Matrix checked(Call& call, int64_t type, int64_t n, int64_t k) {
  if (type < 0 || type >= kQuantTypes)
    call.fail("FOVEA_ARGUMENT", "type is %lld; pass 0 to %lld", static_cast<long long>(type),
              static_cast<long long>(kQuantTypes - 1));
  Matrix matrix{QuantType(type), n, k};
  if (n < 0 || k < 0 || n > kMaxSide || k > kMaxSide || k % divisor_of(matrix.type) != 0)
    call.fail("FOVEA_SHAPE", "the weight is [%lld,%lld], whose last axis must be a multiple of %lld",
              static_cast<long long>(n), static_cast<long long>(k), static_cast<long long>(divisor_of(matrix.type)));
  if (matrix.type == QuantType::int8 && k > kMaxInt8Depth)
    call.fail("FOVEA_UNSUPPORTED", "int8 sums at most %lld products in 32 bits, but k is %lld; use q8_0",
              static_cast<long long>(kMaxInt8Depth), static_cast<long long>(k));
  return matrix;
}
void check_size(Call& call, const char* what, int64_t size, int64_t expected) {
  if (size != expected)
    call.fail("FOVEA_SHAPE", "%s has %lld bytes, but this type and shape need %lld", what, static_cast<long long>(size),
              static_cast<long long>(expected));
}
// int8 has no form in files.
Matrix checked_file(Call& call, const QuantizedAttrs& attrs, const View& packed, const View& file) {
  Matrix m = checked(call, attrs.type, attrs.n, attrs.k);
  if (m.type == QuantType::int8) call.fail("FOVEA_UNSUPPORTED", "int8 weights have no GGUF form; use q8_0");
  check_size(call, "packed", packed.size(), packed_bytes(m.type, m.n, m.k));
  check_size(call, "x", file.size(), gguf_bytes(m.type, m.n, m.k));
  return m;
}

template <class Body>
void for_tiles(Call& call, const Matrix& m, Body&& body) {
  int64_t grain = max_of(1, (int64_t(1) << 15) / max_of(tile_bytes(m.type, m.k), 1));
  call.parallel.for_range(m.tiles(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) body(t, min_of(kChannels, m.n - t * kChannels));
  });
}

void quantized_pack(Call& call, const QuantizedAttrs& attrs) {
  Matrix m = checked_file(call, attrs, call.out[0], call.in[0]);
  int64_t step = gguf_block_bytes(m.type), row = blocks_of(m.type, m.k) * step;
  for_tiles(call, m, [&](int64_t t, int64_t channels) {
    uint8_t* to = call.out[0].as<uint8_t>() + t * tile_bytes(m.type, m.k);
    Codes codes = {};
    for (int64_t b = 0; b < blocks_of(m.type, m.k); b++, to += packed_block_bytes(m.type)) {
      for (int64_t c = 0; c < channels; c++)
        read_gguf(m.type, call.in[0].as<uint8_t>() + (t * kChannels + c) * row + b * step, c, codes);
      store_packed(m.type, codes, to);
    }
  });
}

void quantized_unpack(Call& call, const QuantizedAttrs& attrs) {
  Matrix m = checked_file(call, attrs, call.in[0], call.out[0]);
  int64_t step = gguf_block_bytes(m.type), row = blocks_of(m.type, m.k) * step;
  for_tiles(call, m, [&](int64_t t, int64_t channels) {
    const uint8_t* from = call.in[0].as<uint8_t>() + t * tile_bytes(m.type, m.k);
    Codes codes;
    for (int64_t b = 0; b < blocks_of(m.type, m.k); b++, from += packed_block_bytes(m.type)) {
      load_packed(m.type, from, codes);
      for (int64_t c = 0; c < channels; c++)
        write_gguf(m.type, codes, c, call.out[0].as<uint8_t>() + (t * kChannels + c) * row + b * step);
    }
  });
}

void quantized_quantize(Call& call, const QuantizedAttrs& attrs) {
  const View& w = call.in[0];
  Matrix m = checked(call, attrs.type, w.shape[0], w.shape[1]);
  check_size(call, "packed", call.out[0].size(), packed_bytes(m.type, m.n, m.k));
  quantize_weights(call, w, m.type, call.out[0].data);
}

void dequantize(Call& call, const DequantizeAttrs& attrs) {
  Matrix m = checked(call, attrs.type, attrs.n, attrs.k);
  check_size(call, "packed", call.in[0].size(), packed_bytes(m.type, m.n, m.k));
  if (!(kFloatTypes & set_of(attrs.dtype)))
    call.fail("FOVEA_DTYPE", "dtype is %s; weights are floats", name_of(attrs.dtype));
  dispatch_float(attrs.dtype, [&]<class T>() {
    for_tiles(call, m, [&](int64_t t, int64_t channels) {
      const uint8_t* tile = call.in[0].as<uint8_t>() + t * tile_bytes(m.type, m.k);
      const uint8_t* from = tile + tile_header_bytes(m.type);
      Codes codes;
      if (m.type == QuantType::int8) __builtin_memcpy(codes.channel, tile, sizeof codes.channel);
      for (int64_t b = 0; b < blocks_of(m.type, m.k); b++, from += packed_block_bytes(m.type)) {
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

void quantized_linear(Call& call, const QuantizedAttrs& attrs) {
  const View &x = call.in[0], &bias = call.in[2];
  Matrix m = checked(call, attrs.type, attrs.n, attrs.k);
  check_size(call, "packed", call.in[1].size(), packed_bytes(m.type, m.n, m.k));
  if (x.shape[1] != m.k || (bias.present() && bias.shape[0] != m.n))
    call.fail("FOVEA_SHAPE", "x has %lld columns and the weight is [%lld,%lld]; bias needs its first size",
              static_cast<long long>(x.shape[1]), static_cast<long long>(m.n), static_cast<long long>(m.k));
  if (call.out[0].size() == 0) return;
  dispatch_float(x.dtype, [&]<class S>() {
    for (int64_t row = 0; row < x.shape[0]; row += kPassRows) {
      Product pass(call, m, row, min_of(kPassRows, x.shape[0] - row));
#if defined(__AMX_INT8__)
      if (m.type == QuantType::int8 && x.shape[0] >= kLeastTiledRows && m.k > 0) {
        multiply_pass_in_tiles<S>(pass);
        continue;
      }
#endif
      multiply_pass<S>(pass);
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
