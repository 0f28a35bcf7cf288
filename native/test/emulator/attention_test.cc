// CUDA attention and its gradients: every kernel up to sm_80 against the definition in float64, and dropout against the
// CPU. attention_sm90_test.cc has those of sm_90.
#include "ops/attention/workspace.h"
#include "test/attention_model.h"
#include "test/emulator/harness_cuda.h"

FOVEA_TEST_FAMILY(attention)

namespace fovea::test {
namespace {

constexpr RunCuda kDevice{80};
using Case = AttentionCase;

void check(const Case& c) { check_attention(kDevice, c); }
void forward(const Case& c) { check_attention_forward(kDevice, c); }

}  // namespace

FOVEA_TEST(attention_sizes) {
  for (int64_t d : {1, 7, 16, 31, 64, 127}) check({1, 2, 2, 37, 41, d, d, {.scale = 0.2}});
  for (int64_t n : {1, 7, 63, 65, 130})
    for (int64_t m : {1, 17, 64, 130}) check({1, 1, 1, n, m, 16, 16, {.scale = 0.3}});
  check({2, 3, 3, 29, 131, 24, 40, {.scale = 0.2}});
  check({1, 1, 1, 20, 30, 257, 129, {.scale = 0.05}});
  for (int64_t m : {11, 150}) check({1, 1, 1, 9, m, 0, 3, {.scale = 1}});
}
FOVEA_TEST(attention_empty) {
  for (Case c : {Case{1, 2, 2, 5, 0, 4, 4}, Case{1, 2, 2, 3, 0, 4, 4}, Case{1, 2, 2, 5, 6, 4, 0}}) check(c);
}
FOVEA_TEST(attention_without_queries) {
  for (Dtype t : kFloats) check_attention_without_queries(kDevice, t);
}
FOVEA_TEST(attention_dtypes) {
  for (Dtype t : kFloats) {
    check({1, 2, 1, 35, 70, 20, 12, {.scale = 0.25, .causal = 1}, t});
    check({2, 4, 2, 3, 150, 33, 17, {.scale = 0.25, .causal = 2}, t});
    check({1, 2, 2, 70, 140, 64, 64, {.scale = 0.125, .causal = 2}, t, {}, {}, Case::strided});
    check({1, 2, 2, 20, 70, 64, 64, {.scale = 0.125, .causal = 2}, t, {}, {}, Case::misaligned});
    check(edited_attention(t));
  }
}

FOVEA_TEST(attention_causal) {
  for (Dtype t : {Dtype::f32, Dtype::f16})
    for (int64_t causal : {1, 2})
      for (auto [n, m] :
           {std::pair<int64_t, int64_t>{150, 150}, {3, 3}, {2, 300}, {40, 200}, {200, 40}, {4, 2}, {130, 131}})
        check({1, 2, 1, n, m, 16, 16, {.scale = 0.3, .causal = causal}, t});
}
FOVEA_TEST(attention_bias_and_mask) {
  for_each_axes([](int axes, const std::vector<bool>& some, const std::vector<bool>& rest) {
    check({2, 2, 1, 17, 35, 8, 8, {.scale = 0.3, .causal = axes % 3}, Dtype::f32, some, rest});
    check({2, 2, 1, 2, 35, 8, 8, {.scale = 0.3}, Dtype::f16, rest, some});
    check({2, 2, 1, 20, 70, 64, 64, {.scale = 0.1}, Dtype::bf16, rest, some});
  });
  const std::vector<bool> full(4, false);
  check({1, 2, 2, 140, 150, 16, 16, {.scale = 0.3}, Dtype::f32, full, {false, true, true, false}});
}
// A pattern's every answer.
FOVEA_TEST(attention_visible) {
  const int64_t b = 2, h = 3, n = 21, m = 37;
  for (int seed = 0; seed < 24; seed++) {
    const std::vector<int64_t> words = RandomPattern(uint64_t(seed), b, h, n, m, true).joined(1 + seed % 5);
    Tensor pattern(Dtype::i64, {int64_t(words.size())}), mask(Dtype::boolean, {b, h, n, m});
    std::memcpy(pattern.view.data, words.data(), words.size() * sizeof(int64_t)), mask.fill_random(6);
    const PatternProgram p = pattern_program(pattern.view, &mask.view, m - n);
    Tensor seen(Dtype::boolean, {b, h, 10, m});
    kDevice("attentionVisible", VisibleAttrs{b, h, 10, 4, n, m}, {&pattern, &mask}, {&seen});
    for (int64_t at = 0; at < seen.size(); at++) {
      const bool expected = pattern_sees(p, at / (10 * m) / h, at / (10 * m) % h, 4 + at / m % 10, at % m);
      FOVEA_CHECK((seen.at(at) != 0) == expected, "seed %d, element %lld", seed, static_cast<long long>(at));
    }
  }
}
FOVEA_TEST(attention_grouped_heads) {
  for (Dtype t : {Dtype::f32, Dtype::bf16}) {
    check({2, 6, 2, 20, 50, 16, 24, {.scale = 0.3, .causal = 2}, t});
    check({2, 6, 1, 1, 300, 16, 24, {.scale = 0.3, .causal = 2}, t});
    check({1, 8, 8, 30, 30, 16, 16, {.scale = 0.3}, t, {}, {}, Case::strided});
  }
}
FOVEA_TEST(attention_dropout) {
  for (Dtype t : {Dtype::f32, Dtype::f16})
    for (int64_t n : {2, 33})
      for (int64_t m : {31, 40, 139})
        check({2,
               2,
               1,
               n,
               m,
               8,
               16,
               {.scale = 0.3, .causal = 1, .dropoutP = 0.4, .seed = -7, .offset = int64_t(1) << 40},
               t});
  for (double p : {0.999, 1.0}) check({1, 1, 1, 20, 20, 8, 8, {.dropoutP = p}});
}
// With v = 1 every probability that is dropped shows.
FOVEA_TEST(attention_drops_what_the_cpu_drops) {
  for (Dtype t : {Dtype::f32, Dtype::f64, Dtype::f16})
    for (int64_t n : {3, 70}) {
      Case c{2, 2, 1, n, 77, 16, 16, {.scale = 0, .dropoutP = 0.37, .seed = 11, .offset = 5}, t};
      AttentionInputs in(c);
      in.v.fill(std::vector<double>(size_t(in.v.size()), 1));
      AttentionOutputs cuda(c), cpu(c);
      attention_forward(kDevice, c, in, cuda);
      for (const Table& table : tables_of_attention()) {
        std::vector<Tensor*> inputs = in.forward(c);
        const View views[8] = {in.q.view, in.k.view, in.v.view};
        run(table, "attention", c.attrs, inputs, {&cpu.o, &cpu.lse}, 1,
            attention_workspace({views, int32_t(inputs.size())}, {}, &c.attrs, 1));
        compare_attention("o against the CPU", c, kDevice.where(), cuda.o, cpu.o.values(), epsilon(t) + 1e-6);
      }
    }
}
FOVEA_TEST(attention_rows_that_see_nothing) {
  for (Dtype t : {Dtype::f32, Dtype::f16})
    for (auto [n, d] : {std::pair<int64_t, int64_t>{3, 8}, {40, 8}, {40, 64}}) {
      check({1, 1, 1, n, 40, d, d, {.scale = 0.3}, t, {}, {true, true, false, true}});  // whole rows are masked
      check_row_that_sees_nothing(kDevice, t, n, d, {true, true, false, false});
    }
}
FOVEA_TEST(attention_large_scores) {
  for (Dtype t : {Dtype::f32, Dtype::f16})
    for (int64_t n : {2, 20}) check_large_scores(kDevice, t, n, 2e-3 + 2 * epsilon(t));
}
// What comes after a query must not change a bit of its result, not even if it is NaN or infinite; what comes before
// must, if it is NaN.
FOVEA_TEST(attention_is_causal) {
  for (auto [t, d] : {std::pair<Dtype, int64_t>{Dtype::f32, 16}, {Dtype::bf16, 64}, {Dtype::f16, 128}})
    for (int64_t n : {3, 150})
      for (double poison : {0.5, double(NAN), double(INFINITY)})
        for (int which : {0, 1, 2})
          check_hidden_keys(kDevice, {1, 2, 1, n, 150, d, d, {.scale = 0.1, .causal = 2}, t}, poison, which);
}
FOVEA_TEST(attention_gradients_are_causal) {
  for (auto [t, d] : {std::pair<Dtype, int64_t>{Dtype::bf16, 64}, {Dtype::f16, 128}})
    for (double poison : {0.5, double(NAN), double(INFINITY)})
      for (Hidden which : {Hidden::v, Hidden::d_o, Hidden::q})
        check_hidden_gradients(kDevice, {1, 2, 1, 70, 90, d, d, {.scale = 0.1, .causal = 2}, t}, poison, which);
}
FOVEA_TEST(attention_rejects_bad_attributes) { check_attention_rejects_bad_attributes(kDevice); }

// The tensor-core kernels: each width they pad to, tails of every tile, both causalities.
FOVEA_TEST(attention_16_bit_sizes) {
  for (Dtype t : {Dtype::bf16, Dtype::f16}) {
    for (auto [d, e] : {std::pair<int64_t, int64_t>{8, 8}, {64, 64}, {40, 64}, {96, 80}, {128, 128}, {72, 128}})
      check({1, 2, 1, 70, 100, d, e, {.scale = 0.1, .causal = 2}, t});
    for (int64_t n : {9, 63, 65, 130})
      for (int64_t m : {1, 7, 63, 65, 130}) {
        check({1, 1, 1, n, m, 64, 64, {.scale = 0.125, .causal = 1}, t});
        check({1, 1, 1, n, m, 128, 128, {.scale = 0.1, .causal = 2}, t});
      }
    check({1, 4, 2, 200, 140, 64, 64, {.scale = 0.1}, t, {}, {}, Case::strided});
    for (int64_t d : {64, 96, 128})  // enough blocks for 128 queries each
      for (int64_t causal : {0, 1, 2}) forward({2, 2, 1, 190, 150, d, d, {.scale = 0.1, .causal = causal}, t});
    check({1, 1, 1, 33, 70, 64, 64, {.scale = -0.2}, t});
    check({1, 1, 1, 33, 70, 64, 64, {.scale = 0}, t});
  }
}
FOVEA_TEST(attention_16_bit_edits) {
  const std::vector<bool> full(4, false), keys = {false, true, true, false};
  for (Dtype t : {Dtype::bf16, Dtype::f16})
    for (int64_t d : {64, 96, 128}) {
      check({2, 2, 1, 70, 75, d, d, {.scale = 0.1, .causal = 2}, t, full, {}});
      check({2, 2, 1, 70, 75, d, d, {.scale = 0.1}, t, {}, keys});
      check({1, 2, 1, 70, 72, d, d, {.scale = 0.1, .causal = 1, .dropoutP = 0.3, .seed = 3, .offset = 7}, t});
      check({1, 2, 1, 70, 75, d, d, {.scale = 0.1, .dropoutP = 0.3, .seed = 3, .offset = 7}, t, full, keys});
    }
}

// A few queries: every width of a group of lanes, rows that share keys, splits of the keys, causality and edits.
FOVEA_TEST(attention_decoding) {
  for (Dtype t : kFloats) {
    for (int64_t d : {8, 16, 24, 64, 80, 128, 256}) forward({1, 2, 2, 1, 70, d, d, {.scale = 0.1}, t});
    for (int64_t n : {1, 2, 5, 8}) {
      forward({2, 6, 2, n, 300, 64, 64, {.scale = 0.1, .causal = 2}, t});
      forward({1, 2, 1, n, 5, 64, 64, {.scale = 0.1, .causal = 2}, t});
      forward({1, 1, 1, n, 1100, 16, 16, {.scale = 0.3, .causal = n % 3}, t});
    }
    forward({1, 5, 1, 2, 530, 32, 32, {.scale = 0.3}, t, {}, {}, Case::strided});
    forward({1,
             2,
             1,
             3,
             530,
             16,
             16,
             {.scale = 0.3, .dropoutP = 0.3, .seed = 5},
             t,
             {true, true, false, false},
             {true, false, true, false}});
  }
}
// With tensor cores: every padded width, one to sixteen rows and more to a key head, tails of steps, warps without
// keys, splits that one, some or all queries see.
FOVEA_TEST(attention_decoding_16_bit) {
  for (Dtype t : {Dtype::bf16, Dtype::f16}) {
    for (int64_t d : {8, 32, 56, 64, 72, 96, 128, 136, 192, 256}) forward({1, 3, 1, 1, 150, d, d, {.scale = 0.1}, t});
    for (int64_t rows : {1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 40})
      for (int64_t d : {64, 128, 256}) forward({1, rows, 1, 1, 90, d, d, {.scale = 0.1}, t});
    for (int64_t n : {1, 2, 3, 5, 8})
      for (int64_t group : {1, 2, 5})
        for (int64_t causal : {0, 1, 2})
          forward({2, group * 2, 2, n, 140, 64, 64, {.scale = 0.15, .causal = causal}, t});
    for (int64_t m : {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 193, 257})
      for (int64_t d : {64, 128}) forward({1, 2, 1, 2, m, d, d, {.scale = 0.1, .causal = m % 3}, t});
    for (int64_t m : {511, 513, 1000, 2100})
      for (int64_t causal : {0, 2}) forward({1, 4, 2, 4, m, 128, 128, {.scale = 0.1, .causal = causal}, t});
    forward({1, 2, 1, 8, 1300, 256, 256, {.scale = 0.05, .causal = 2}, t});
    forward({1, 2, 1, 2, 0, 64, 64, {.scale = 0.1}, t});
    forward({1, 1, 1, 8, 1300, 64, 64, {.scale = 0.1, .causal = 1}, t});  // most splits are not seen at all
    forward({2, 6, 2, 3, 530, 96, 96, {.scale = 0.1, .causal = 2}, t, {}, {}, Case::strided});
    forward({2, 6, 2, 3, 70, 96, 96, {.scale = 0.1, .causal = 2}, t, {}, {}, Case::misaligned});
    for (double scale : {-0.3, 0.0, 4.0}) forward({1, 4, 1, 2, 300, 64, 64, {.scale = scale, .causal = 2}, t});
  }
}
// As attention_is_causal, where the keys that are hidden from some lie in the step of keys that all see, or in one of
// their own, and in a split of their own.
FOVEA_TEST(attention_decoding_16_bit_is_causal) {
  for (Dtype t : {Dtype::bf16, Dtype::f16})
    for (auto [n, d] : {std::pair<int64_t, int64_t>{2, 64}, {3, 128}, {8, 64}, {8, 128}, {5, 256}})
      for (int64_t m : {8, 33, 150, 600})
        for (double poison : {double(NAN), double(INFINITY), -double(INFINITY)})
          for (int which : {0, 1, 2})
            check_hidden_keys(kDevice, {1, 2, 1, n, m, d, d, {.scale = 0.1, .causal = 2}, t}, poison, which);
}
FOVEA_TEST(attention_decoding_of_many_splits) {
  for (Dtype t : kFloats) {
    Case c{1, 3, 1, 1, 33000, 16, 16, {.scale = 0.3}, t};
    AttentionInputs in(c);
    const AttentionModel model(c, in);
    AttentionOutputs out(c);
    run_cuda("attention", c.attrs, in.forward(c), {&out.o, &out.lse}, 90, 132);
    compare_attention("o", c, "sm_90", out.o, model.o, 2 * epsilon(t) + 20 * epsilon(accumulator_of(t)));
    compare_attention("lse", c, "sm_90", out.lse, model.lse, 20 * epsilon(accumulator_of(t)));
  }
}
FOVEA_TEST(attention_decoding_of_many_rows) {
  forward({2, 4, 1, 8, 100, 64, 64, {.scale = 0.1, .causal = 2}, Dtype::bf16});
  forward({1, 24, 1, 1, 1100, 64, 64, {.scale = 0.1}, Dtype::f16});
}

}  // namespace fovea::test
