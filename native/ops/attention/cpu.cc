// Attention on the CPU: see op.cc for what it computes, forward.h, decode.h, paged.h, backward.h, backward_once.h and
// score_gradients.h for how.
#include "ops/attention/backward_once.h"
#include "ops/attention/paged.h"
#include "ops/attention/score_gradients.h"

namespace fovea::FOVEA_ISA {
namespace {

void attention(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() {
    Problem<T> p(call, attrs, 5);
    if (p.b * p.h * p.n == 0) return;
    if (p.decodes() && !p.additive()) return decode_attention(call, p);
    tiled_attention(call, p);
  });
}
void paged_attention(Call& call, const PagedAttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() { attend_pages<T>(call, attrs); });
}
void attention_backward(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() {
    const BackwardProblem<T> p(call, attrs);
    if constexpr (Products<T>::kReadsAcross)
      if (!p.additive()) return gradients_in_one_pass(call, p);
    attention_gradients(call, p);
  });
}
void attention_bias_backward(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&]<class T>() { bias_gradient(call, BackwardProblem<T>(call, attrs)); });
}

void attention_distance_backward(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype,
                 [&]<class T>() { head_gradient(call, BackwardProblem<T>(call, attrs), gradients_of_distances<T>); });
}
void attention_vector_backward(Call& call, const AttentionAttrs& attrs) {
  dispatch_float(call.in[0].dtype,
                 [&]<class T>() { head_gradient(call, BackwardProblem<T>(call, attrs), gradients_of_vector<T>); });
}
// Every answer of a pattern, for whoever wants to see it, and for compositions of other ops.
void attention_visible(Call& call, const VisibleAttrs& attrs) {
  const View &seen = call.out[0], &mask = call.in[1];
  check_visible(call, attrs, mask);
  const int64_t h = seen.shape[1], n = seen.shape[2], m = seen.shape[3];
  const Pattern pattern(call, call.in[0], &mask, seen.shape[0], h, attrs.queries, m);
  for_chunks(call, seen.size() < 1 << 16, seen.shape[0] * h * n, [&](int64_t row, int) {
    Bool* out = seen.as<Bool>() + row * m;
    const int64_t i = row % n + attrs.first;
    for (int64_t j0 = 0; j0 < m; j0 += kColumns) {
      const int64_t count = min_of(kColumns, m - j0);
      const SeenBits bits = pattern.row<true>(row / n / h, row / n % h, i, j0, count, {});
      for (int64_t c = 0; c < count; c++) out[j0 + c].value = bits.at(c);
    }
  });
}

}  // namespace

FOVEA_KERNELS(attention, FOVEA_KERNEL("attention", attention, AttentionAttrs),
              FOVEA_KERNEL("attentionBackward", attention_backward, AttentionAttrs),
              FOVEA_KERNEL("attentionBiasBackward", attention_bias_backward, AttentionAttrs),
              FOVEA_KERNEL("attentionDistanceBackward", attention_distance_backward, AttentionAttrs),
              FOVEA_KERNEL("attentionVectorBackward", attention_vector_backward, AttentionAttrs),
              FOVEA_KERNEL("attentionVisible", attention_visible, VisibleAttrs),
              FOVEA_KERNEL("pagedAttention", paged_attention, PagedAttentionAttrs))

}  // namespace fovea::FOVEA_ISA
