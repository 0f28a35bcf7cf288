// The quantised matrix that attributes describe, checked the same way on every device.
#pragma once
#include "core/view.h"
#include "ops/quantized/attrs.h"
#include "ops/quantized/layout.h"

namespace fovea {

struct Matrix {
  QuantType type;
  int64_t n, k;
  FOVEA_INLINE int64_t tiles() const { return ceil_div(n, kChannels); }
  FOVEA_INLINE int64_t blocks() const { return blocks_of(type, k); }  // of a tile, and of a row of a file
};

// `packed` and what else is there must have the sizes that go with the matrix.
template <class Call>
FOVEA_HOST_INLINE Matrix checked_matrix(const Call& call, int64_t type, int64_t n, int64_t k, const View& packed) {
  if (type < 0 || type >= kQuantTypes)
    call.fail("FOVEA_ARGUMENT", "type is %lld; pass 0 to %lld", static_cast<long long>(type),
              static_cast<long long>(kQuantTypes - 1));
  Matrix m{QuantType(type), n, k};
  if (n < 0 || k < 0 || n > kMaxSide || k > kMaxSide || k % divisor_of(m.type) != 0)
    call.fail("FOVEA_SHAPE", "the weight is [%lld,%lld], whose last axis must be a multiple of %lld",
              static_cast<long long>(n), static_cast<long long>(k), static_cast<long long>(divisor_of(m.type)));
  if (m.type == QuantType::int8 && k > kMaxInt8Depth)
    call.fail("FOVEA_UNSUPPORTED", "int8 sums at most %lld products in 32 bits, but k is %lld; use q8_0",
              static_cast<long long>(kMaxInt8Depth), static_cast<long long>(k));
  if (packed.size() != packed_bytes(m.type, n, k))
    call.fail("FOVEA_SHAPE", "packed has %lld bytes, but this type and shape need %lld",
              static_cast<long long>(packed.size()), static_cast<long long>(packed_bytes(m.type, n, k)));
  return m;
}
// With the blocks of a file, a form that int8 has not.
template <class Call>
FOVEA_HOST_INLINE Matrix checked_file(const Call& call, const QuantizedAttrs& attrs, const View& packed,
                                      const View& file) {
  Matrix m = checked_matrix(call, attrs.type, attrs.n, attrs.k, packed);
  if (m.type == QuantType::int8) call.fail("FOVEA_UNSUPPORTED", "int8 weights have no GGUF form; use q8_0");
  if (file.size() != gguf_bytes(m.type, m.n, m.k))
    call.fail("FOVEA_SHAPE", "x has %lld bytes, but this type and shape need %lld", static_cast<long long>(file.size()),
              static_cast<long long>(gguf_bytes(m.type, m.n, m.k)));
  return m;
}
template <class Call>
FOVEA_HOST_INLINE Matrix checked_dequantized(const Call& call, const DequantizeAttrs& attrs) {
  Matrix m = checked_matrix(call, attrs.type, attrs.n, attrs.k, call.in[0]);
  if (!(kFloatTypes & set_of(attrs.dtype)))
    call.fail("FOVEA_DTYPE", "dtype is %s; weights are floats", name_of(attrs.dtype));
  return m;
}
template <class Call>
FOVEA_HOST_INLINE Matrix checked_product(const Call& call, const QuantizedAttrs& attrs) {
  const View &x = call.in[0], &bias = call.in[2];
  Matrix m = checked_matrix(call, attrs.type, attrs.n, attrs.k, call.in[1]);
  if (x.shape[1] != m.k || (bias.present() && bias.shape[0] != m.n))
    call.fail("FOVEA_SHAPE", "x has %lld columns and the weight is [%lld,%lld]; bias needs its first size",
              static_cast<long long>(x.shape[1]), static_cast<long long>(m.n), static_cast<long long>(m.k));
  return m;
}

}  // namespace fovea
