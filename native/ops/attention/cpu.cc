// Attention on the CPU: see op.cc for what it computes, forward.h, decode.h and backward.h for how.
#include "ops/attention/backward.h"
#include "ops/attention/decode.h"

namespace fovea::FOVEA_ISA {
namespace {

void attention(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() {
    Problem<T> p(call, attrs);
    if (p.b * p.h * p.n == 0) return;
    if (p.decodes()) return decode_attention(call, p);
    tiled_attention(call, p);
  });
}
void attention_backward(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() { attention_gradients(call, BackwardProblem<T>(call, attrs)); });
}
void attention_bias_backward(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() { bias_gradient(call, BackwardProblem<T>(call, attrs)); });
}

}  // namespace

FOVEA_KERNELS(attention, FOVEA_KERNEL("attention", attention, AttentionAttrs),
              FOVEA_KERNEL("attentionBackward", attention_backward, AttentionAttrs),
              FOVEA_KERNEL("attentionBiasBackward", attention_bias_backward, AttentionAttrs))

}  // namespace fovea::FOVEA_ISA
