// CUDA attention on sm_90: tiles by TMA and wgmma, both widths, both causalities, tails, and what falls back to sm_80.
#include "test/emulator/attention_model.h"

namespace fovea::test {
namespace {

constexpr int kCapability = 90;
using Case = AttentionCase;

void forward(const Case& c) { check_attention_forward(c, kCapability); }

}  // namespace

FOVEA_TEST(attention_sm90_sizes) {
  for (Dtype t : {Dtype::bf16, Dtype::f16})
    for (int64_t causal : {0, 1, 2})
      for (auto [n, m] :
           {std::pair<int64_t, int64_t>{9, 1}, {65, 130}, {130, 65}, {128, 128}, {129, 520}, {300, 257}}) {
        forward({1, 2, 1, n, m, 64, 64, {.scale = 0.125, .causal = causal}, t});
        forward({1, 1, 1, n, m, 128, 128, {.scale = 0.1, .causal = causal}, t});
      }
}
FOVEA_TEST(attention_sm90_widths) {
  for (auto [d, e] : {std::pair<int64_t, int64_t>{8, 8}, {40, 64}, {96, 80}, {72, 128}, {128, 24}})
    forward({1, 2, 1, 70, 150, d, e, {.scale = 0.1, .causal = 2}, Dtype::bf16});
}
FOVEA_TEST(attention_sm90_heads) {
  forward({2, 6, 2, 140, 150, 64, 64, {.scale = 0.1, .causal = 2}, Dtype::bf16});
  forward({2, 4, 2, 140, 150, 128, 128, {.scale = 0.1}, Dtype::f16, {}, {}, Case::strided});
  forward({1, 1, 1, 140, 150, 128, 128, {.scale = 0.1}, Dtype::f16, {}, {}, Case::strided});
}
FOVEA_TEST(attention_sm90_is_causal) {
  for (auto [t, d] : {std::pair<Dtype, int64_t>{Dtype::bf16, 64}, {Dtype::f16, 128}})
    for (int64_t n : {20, 150})
      for (double poison : {0.5, double(NAN), double(INFINITY)})
        for (int which : {0, 1, 2})
          check_hidden_keys({1, 2, 1, n, 300, d, d, {.scale = 0.1, .causal = 2}, t}, poison, which, kCapability);
}
// Rows that TMA cannot describe, edits of scores, scales that are not positive; all gradients.
FOVEA_TEST(attention_sm90_falls_back) {
  const Dtype t = Dtype::bf16;
  forward({1, 2, 1, 70, 75, 64, 64, {.scale = -0.1}, t});
  forward({1, 2, 1, 70, 75, 64, 64, {.scale = 0.1}, t, {false, true, false, false}});
  forward({1, 2, 1, 70, 75, 64, 64, {.scale = 0.1}, t, {}, {}, Case::misaligned});
  forward({1, 2, 1, 70, 0, 64, 64, {.scale = 0.1}, t});
  check_attention({1, 2, 1, 140, 150, 64, 64, {.scale = 0.1, .causal = 2}, t}, kCapability);
  Case repeated{1, 2, 2, 70, 75, 64, 64, {.scale = 0.1}, t};
  AttentionInputs in(repeated);
  in.k = Tensor::expanded(t, {1, 2, 75, 64}, {false, true, false, false});
  in.k.fill_random(7);
  AttentionOutputs out(repeated);
  attention_forward(repeated, in, out, kCapability);
  compare_attention("o", repeated, kCapability, out.o, AttentionModel(repeated, in).o, 2 * epsilon(t));
}

}  // namespace fovea::test
