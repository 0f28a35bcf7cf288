// CUDA attention and its gradients on sm_90: tiles by TMA and wgmma, both widths, both causalities, tails, and what
// falls back to sm_80.
#include "test/attention_model.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

constexpr RunCuda kDevice{90};
using Case = AttentionCase;

void forward(const Case& c) { check_attention_forward(kDevice, c); }
void check(const Case& c) { check_attention(kDevice, c); }

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
// More blocks of queries than multiprocessors, so that each takes several; heads whose keys do not share L2.
FOVEA_TEST(attention_sm90_rounds) {
  for (int64_t d : {64, 128})
    for (int64_t causal : {0, 1, 2}) {
      forward({2, 5, 1, 400, 150, d, d, {.scale = 0.1, .causal = causal}, Dtype::bf16});
      forward({1, 3, 1, 450, 60, d, d, {.scale = 0.1, .causal = causal}, Dtype::f16});
    }
  forward({1, 3, 3, 200, 6000, 64, 64, {.scale = 0.1, .causal = 2}, Dtype::bf16});
}
// Fewer keys than queries, bottom right: the first blocks of queries see nothing.
FOVEA_TEST(attention_sm90_without_keys) {
  for (int64_t d : {64, 128}) forward({2, 3, 3, 500, 130, d, d, {.scale = 0.1, .causal = 2}, Dtype::bf16});
}
FOVEA_TEST(attention_sm90_is_causal) {
  for (auto [t, d] : {std::pair<Dtype, int64_t>{Dtype::bf16, 64}, {Dtype::f16, 128}})
    for (int64_t n : {20, 150})
      for (double poison : {0.5, double(NAN), double(INFINITY)})
        for (int which : {0, 1, 2})
          check_hidden_keys(kDevice, {1, 2, 1, n, 300, d, d, {.scale = 0.1, .causal = 2}, t}, poison, which);
}

// Gradients: tiles have 64, 96 and 128 rows, blocks 128, of which a warpgroup has 64.
FOVEA_TEST(attention_sm90_gradient_sizes) {
  constexpr int64_t kCounts[] = {1, 9, 63, 64, 65, 127, 128, 129, 130, 300};
  constexpr int kSizes = 10;
  for (int i = 0; i < kSizes; i++)
    for (int shift : {0, 1, 3, 7}) {
      const int64_t n = kCounts[i], m = kCounts[(i + shift) % kSizes];
      const Dtype t = (i + shift) % 2 ? Dtype::bf16 : Dtype::f16, other = t == Dtype::f16 ? Dtype::bf16 : Dtype::f16;
      for (int64_t causal : {0, 1, 2}) {
        check({1, 1, 1, n, m, 64, 64, {.scale = 0.125, .causal = causal}, t});
        check({1, 1, 1, n, m, 128, 128, {.scale = 0.1, .causal = causal}, other});
      }
    }
}
// More tiles than a ring has stages.
FOVEA_TEST(attention_sm90_gradients_of_many_tiles) {
  for (int64_t d : {64, 128})
    for (int64_t causal : {0, 1, 2}) {
      check({1, 1, 1, 600, 40, d, d, {.scale = 0.1, .causal = causal}, Dtype::bf16});
      check({1, 1, 1, 150, 700, d, d, {.scale = 0.1, .causal = causal}, Dtype::f16});
      check({1, 1, 1, 700, 520, d, d, {.scale = 0.1, .causal = causal}, Dtype::bf16});
    }
}
FOVEA_TEST(attention_sm90_gradient_widths) {
  for (auto [d, e] : {std::pair<int64_t, int64_t>{8, 8}, {40, 64}, {96, 80}, {72, 128}, {128, 24}, {64, 16}})
    check({1, 2, 1, 70, 150, d, e, {.scale = 0.1, .causal = 2}, Dtype::bf16});
}
FOVEA_TEST(attention_sm90_gradient_heads) {
  for (int64_t d : {64, 128})
    for (int64_t causal : {0, 1, 2}) {
      check({2, 6, 2, 140, 150, d, d, {.scale = 0.1, .causal = causal}, Dtype::bf16});
      check({1, 4, 1, 200, 300, d, d, {.scale = 0.1, .causal = causal}, Dtype::f16});
      check({2, 4, 2, 140, 150, d, d, {.scale = 0.1, .causal = causal}, Dtype::f16, {}, {}, Case::strided});
    }
  check({1, 1, 1, 140, 150, 128, 128, {.scale = 0.1}, Dtype::f16, {}, {}, Case::strided});
}
FOVEA_TEST(attention_sm90_gradients_of_any_scale) {
  for (int64_t d : {64, 128})
    for (double scale : {-0.1, 0.0}) check({1, 2, 1, 70, 140, d, d, {.scale = scale, .causal = 2}, Dtype::bf16});
}
FOVEA_TEST(attention_sm90_gradients_are_causal) {
  for (auto [t, d] : {std::pair<Dtype, int64_t>{Dtype::bf16, 64}, {Dtype::f16, 128}})
    for (auto [n, m] : {std::pair<int64_t, int64_t>{70, 90}, {150, 200}})
      for (double poison : {0.5, double(NAN), double(INFINITY)})
        for (Hidden which : {Hidden::v, Hidden::d_o, Hidden::q})
          check_hidden_gradients(kDevice, {1, 2, 1, n, m, d, d, {.scale = 0.1, .causal = 2}, t}, poison, which);
}
FOVEA_TEST(attention_sm90_gradients_without_queries) { check_attention_without_queries(kDevice, Dtype::bf16); }

// Rows that TMA cannot describe, edits of scores, scales that are not positive.
FOVEA_TEST(attention_sm90_falls_back) {
  const Dtype t = Dtype::bf16;
  check({1, 2, 1, 70, 75, 64, 64, {.scale = -0.1}, t});
  check({1, 2, 1, 70, 75, 64, 64, {.scale = 0.1}, t, {false, true, false, false}});
  check({1, 2, 1, 70, 75, 64, 64, {.scale = 0.1}, t, {}, {false, true, false, false}});
  check({1, 2, 1, 70, 75, 64, 64, {.scale = 0.1, .dropoutP = 0.3, .seed = 3}, t});
  check({1, 2, 1, 70, 75, 64, 64, {.scale = 0.1}, t, {}, {}, Case::misaligned});
  check({1, 2, 1, 70, 0, 64, 64, {.scale = 0.1}, t});
}
// Heads and rows that repeat: strides of 0.
FOVEA_TEST(attention_sm90_repeated) {
  const Dtype t = Dtype::bf16;
  Case c{1, 2, 2, 70, 75, 64, 64, {.scale = 0.1}, t};
  AttentionInputs in(c);
  in.k = Tensor::expanded(t, {1, 2, 75, 64}, {false, true, false, false});
  in.k.fill_random(7);
  check_attention(kDevice, c, in);
  AttentionInputs repeated_slopes(c);
  repeated_slopes.d_o = Tensor::expanded(t, {1, 2, 70, 64}, {false, true, true, false});
  repeated_slopes.d_o.fill_random(8);
  check_attention(kDevice, c, repeated_slopes);
}

}  // namespace fovea::test
