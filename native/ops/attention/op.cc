// o = dropout(softmax(scale q k^T + bias, where mask)) v, one tile of scores at a time, in memory linear in n and m
// (FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691).
//   q [b,h,n,d]  k [b,g,m,d]  v [b,g,m,e]  lse[b,h,n] = log sum exp of a row of scores
// h/g query heads share a key head (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245). The bias is added to the
// scores; the mask is true where a key may be seen; the pattern is a program that says the same (pattern.h), and the
// mask's meaning then is the pattern's, if it reads it. The bias by distance, a table of each head, is added where key
// and query are so far apart; beyond its ends it goes on as it ends. With a vector scores are additive instead of
// products: sum over c of vector_c tanh(q_ic + k_jc) (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473).
// A row that sees no key gives o = 0, lse = -inf and zero gradients.
#include <algorithm>

#include "core/registry.h"
#include "ops/attention/attrs.h"
#include "ops/attention/workspace.h"
#include "ops/families.h"

namespace fovea {

size_t attention_workspace(Views in, Views, const void*, int threads) {
  AttentionShape s(in[0], in[1], in[2]);
  AttentionPlan plan = s.decodes() && !in[7].present() ? AttentionPlan(DecodePlan(s)) : AttentionPlan(ForwardPlan(s));
  return size_t(plan.elements(threads)) * bytes_of(accumulator_of(in[0].dtype));
}
// For one pass or two, whichever an instruction set does.
size_t attention_gradients_workspace(Views in, Views out, const void* attrs, int threads) {
  const OncePlan once(AttentionShape(in[0], in[1], in[2]), in[0], in[7]);
  const size_t bytes = size_t(once.elements(threads)) * bytes_of(accumulator_of(in[0].dtype));
  const bool in_two = in[0].dtype == Dtype::bf16 || in[10].present();
  return in_two ? std::max(bytes, attention_backward_workspace(in, out, attrs, threads)) : bytes;
}
size_t attention_backward_workspace(Views in, Views, const void*, int threads) {
  BackwardPlan plan(AttentionShape(in[0], in[1], in[2]));
  return size_t(plan.elements(threads)) * bytes_of(accumulator_of(in[0].dtype));
}

size_t paged_attention_workspace(Views in, Views, const void*, int threads) {
  const PagedPlan plan = paged_plan(in);
  return size_t(plan.integers) + size_t(plan.elements(threads)) * bytes_of(accumulator_of(in[0].dtype));
}

void declare_attention(Registry& r) {
  r.add<AttentionAttrs>("attention",
                        "q:b h n d, k:b g m d, v:b g m e, bias?:b~ h~ n~ m~, mask?:b~ h~ n~ m~, pattern?:w, "
                        "distance?:h~ t, vector?:h~ d -> "
                        "o:b h n e, lse:b h n where h%g",
                        "T T T T bool int64 acc acc -> T acc | T: float")
      .with(Layout::dense_rows)
      .with(attention_workspace);
  r.add<AttentionAttrs>(
       "attentionBackward",
       "q:b h n d, k:b g m d, v:b g m e, bias?:b~ h~ n~ m~, mask?:b~ h~ n~ m~, o:b h n e, lse:b h n, dO:b h n e, "
       "pattern?:w, distance?:h~ t, vector?:h~ d -> dq:b h n d, dk:b g m d, dv:b g m e where h%g",
       "T T T T bool T acc T int64 acc acc -> T T T | T: float")
      .with(Layout::dense_rows)
      .with(attention_gradients_workspace);
  // The gradient of the bias before it is summed over the axes that were broadcast: as large as the scores
  // themselves.
  r.add<AttentionAttrs>(
       "attentionBiasBackward",
       "q:b h n d, k:b g m d, v:b g m e, bias:b~ h~ n~ m~, mask?:b~ h~ n~ m~, o:b h n e, lse:b h n, dO:b h n e, "
       "pattern?:w, distance?:h~ t, vector?:h~ d -> dbias:b h n m where h%g",
       "T T T T bool T acc T int64 acc acc -> T | T: float")
      .with(Layout::dense_rows)
      .with(attention_backward_workspace);
  // The same by distance: sums of that along diagonals.
  r.add<AttentionAttrs>(
       "attentionDistanceBackward",
       "q:b h n d, k:b g m d, v:b g m e, bias?:b~ h~ n~ m~, mask?:b~ h~ n~ m~, o:b h n e, lse:b h n, dO:b h n e, "
       "pattern?:w, distance:h~ t, vector?:h~ d -> ddistance:b h t where h%g",
       "T T T T bool T acc T int64 acc acc -> acc | T: float")
      .with(Layout::dense_rows)
      .with(attention_backward_workspace);
  // The gradient of the vector of additive scores.
  r.add<AttentionAttrs>(
       "attentionVectorBackward",
       "q:b h n d, k:b g m d, v:b g m e, bias?:b~ h~ n~ m~, mask?:b~ h~ n~ m~, o:b h n e, lse:b h n, dO:b h n e, "
       "pattern?:w, distance?:h~ t, vector:h~ d -> dvector:b h d where h%g",
       "T T T T bool T acc T int64 acc acc -> acc | T: float")
      .with(Layout::dense_rows)
      .with(attention_backward_workspace);
  // What a pattern says of every key.
  r.add<VisibleAttrs>("attentionVisible", "pattern:w, mask?:b h n m -> seen:@batch @heads @rows @keys",
                      "int64 bool -> bool");
  // Keys and values of many sequences in pages of s positions (Kwon et al. 2023, https://arxiv.org/abs/2309.06180):
  // position j of sequence b is in page pageTable[b, j / s]. Its n queries are the last of its lengths[b] positions,
  // and each sees the keys up to its own. A page number that no length reaches is not read.
  r.add<PagedAttentionAttrs>("pagedAttention",
                             "q:b h n d, kPages:p g s d, vPages:p g s e, pageTable:b t, lengths:b -> "
                             "o:b h n e, lse:b h n where h%g",
                             "T T T int int -> T acc | T: float")
      .with(Layout::dense_rows)
      .with(paged_attention_workspace);
}

}  // namespace fovea
