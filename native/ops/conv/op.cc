// Convolution and its two partners, each of which is linear in both operands and has the other two as gradients:
//
//   conv           y[o] = sum over (c, i, j) of weight[o, c, i, j] x[c at tap (i, j)] + bias[o]
//   convTranspose  y[c at tap (i, j)] += weight[o, c, i, j] x[o], + bias[c]: the gradient of conv by its image
//   convWeight     dweight[o, c, i, j] = sum over images and windows of dy[o] x[c at tap (i, j)]
//
// for the channels of a group. unfold gives every window's taps, fold adds them up where they came from. Where a tap
// lies is in attrs.h; one dimension is two with one row.
#include "core/registry.h"
#include "ops/conv/plan.h"
#include "ops/conv/workspace.h"
#include "ops/families.h"

namespace fovea {

// Nothing where the kernel will refuse the call.
static bool fits(const View& image, const View& windows, const View& weight, const ConvAttrs& attrs) {
  return steps_fit(attrs) && groups_fit(image, weight, attrs) && planes_fit(conv_shape(image, windows, weight, attrs));
}

size_t conv_workspace(Views in, Views out, const void* attrs, int threads) {
  const auto& a = *static_cast<const ConvAttrs*>(attrs);
  if (!fits(in[0], out[0], in[1], a)) return 0;
  return size_t(conv_memory(conv_shape(in[0], out[0], in[1], a), false, threads).total);
}
size_t conv_transpose_workspace(Views in, Views out, const void* attrs, int threads) {
  const auto& a = *static_cast<const ConvAttrs*>(attrs);
  if (!fits(out[0], in[0], in[1], a)) return 0;
  return size_t(conv_memory(conv_shape(out[0], in[0], in[1], a), true, threads).total);
}
size_t conv_weight_workspace(Views in, Views out, const void* attrs, int threads) {
  const auto& a = *static_cast<const ConvAttrs*>(attrs);
  if (!fits(in[0], in[1], out[0], a)) return 0;
  return size_t(dot_memory(conv_shape(in[0], in[1], out[0], a), threads).total);
}
size_t fold_workspace(Views, Views out, const void*, int threads) {
  return size_t(threads) * size_t(out[0].dim(3)) * bytes_of(accumulator_of(out[0].dtype));
}

void declare_conv(Registry& r) {
  r.add<ConvAttrs>("conv", "x:b c h w, weight:o d i j, bias?:o -> y:b o @height @width", "T T T -> T | T: float")
      .with(Layout::dense)
      .with(conv_workspace);
  r.add<ConvAttrs>("convTranspose", "x:b o p q, weight:o d i j, bias?:c -> y:b @channels @height @width",
                   "T T T -> T | T: float")
      .with(Layout::dense)
      .with(conv_transpose_workspace);
  r.add<ConvAttrs>("convWeight", "x:b c h w, dy:b o p q -> dweight:o @channels @kernelY @kernelX",
                   "T T -> T | T: float")
      .with(Layout::dense)
      .with(conv_weight_workspace);
  r.add<ConvAttrs>("unfold", "x:b c h w -> columns:b c @kernelY @kernelX @height @width", "T -> T | T: float")
      .with(Layout::dense);
  r.add<ConvAttrs>("fold", "columns:b c i j p q -> x:b c @height @width", "T -> T | T: float")
      .with(Layout::dense)
      .with(fold_workspace);
}

}  // namespace fovea
