// Quantised weights: the block formats of GGUF files (q8_0, q4_0, q4_K, q6_K) and symmetric int8 per output channel,
// repacked for products (layout.h).
//
//   packQuantized        GGUF bytes -> packed bytes        unpackQuantized   the way back
//   quantize    weight [n, k] -> packed bytes     dequantize        packed bytes -> weight [n, k]
//   quantizedLinear      y = x W^T + bias, with x quantised to int8 row by row as it is read
#include "core/registry.h"
#include "ops/families.h"
#include "ops/quantized/attrs.h"
#include "ops/quantized/layout.h"

namespace fovea {

size_t quantized_linear_workspace(Views in, Views, const void* attrs, int threads) {
  QuantType type{static_cast<const QuantizedAttrs*>(attrs)->type};
  return size_t(product_workspace(type, in[0].shape[0], in[0].shape[1], threads));
}

void declare_quantized(Registry& r) {
  r.add<QuantizedAttrs>("packQuantized", "x:s -> packed:@size", "uint8 -> uint8").with(Layout::dense);
  r.add<QuantizedAttrs>("unpackQuantized", "packed:s -> x:@size", "uint8 -> uint8").with(Layout::dense);
  r.add<QuantizedAttrs>("quantize", "w:n k -> packed:@size", "float -> uint8").with(Layout::dense);
  r.add<DequantizeAttrs>("dequantize", "packed:s -> w:@n @k", "uint8 -> @").with(Layout::dense);
  r.add<QuantizedAttrs>("quantizedLinear", "x:m k, weight:s, bias?:n -> y:m @n",
                        "T uint8 T -> T | T: float32 float16 bfloat16")
      .with(Layout::dense)
      .with(quantized_linear_workspace);
}

}  // namespace fovea
