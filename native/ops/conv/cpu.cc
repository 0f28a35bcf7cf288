// Convolution on the CPU: op.cc says what the ops are, geometry.h how planes make them products, product.h and dots.h
// what multiplies. float16 and bfloat16 are summed in float32 and rounded once.
#include "ops/conv/convolve.h"
#include "ops/conv/kernels.h"

namespace fovea::FOVEA_ISA {
namespace {

void run_conv(Call& call, const ConvShape& shape, bool transposed) {
  const View &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  if (y.size() == 0) return;
  dispatch_float(x.dtype, [&]<class S>() {
    const S* added = bias.present() ? bias.as<S>() : nullptr;
    if (transposed && (shape.y.phases() < shape.y.stride || shape.x.phases() < shape.x.stride))
      fill_with_bias(call, y, added);
    const Convolution<S> c(call, shape, transposed);
    pack_weights(call.parallel, c, weight.as<S>());
    const Units<S> units{c, Source<Compute<S>>(x), added, y.as<S>()};
    if (c.memory.own) run_apart(call, units);
    else run_together(call, units);
  });
}
void conv(Call& call, const ConvAttrs& attrs) {
  run_conv(call, check_conv(call, call.in[0], call.out[0], call.in[1], attrs), false);
}
void conv_transpose(Call& call, const ConvAttrs& attrs) {
  const View &image = call.out[0], &bias = call.in[2];
  if (bias.present() && bias.shape[0] != image.shape[1])
    call.fail("FOVEA_SHAPE", "expected a bias [%lld], got [%lld]", static_cast<long long>(image.shape[1]),
              static_cast<long long>(bias.shape[0]));
  run_conv(call, check_conv(call, image, call.in[0], call.in[1], attrs), true);
}

}  // namespace

FOVEA_KERNELS(conv, FOVEA_KERNEL("conv", conv, ConvAttrs), FOVEA_KERNEL("convTranspose", conv_transpose, ConvAttrs),
              FOVEA_KERNEL("convWeight", conv_weight, ConvAttrs), FOVEA_KERNEL("unfold", unfold, ConvAttrs),
              FOVEA_KERNEL("fold", fold, ConvAttrs))

}  // namespace fovea::FOVEA_ISA
