// Attention and its gradients against the definition in float64, one score at a time.
#include "ops/attention/workspace.h"
#include "test/attention_model.h"

FOVEA_TEST_FAMILY_WITH_AMX(attention)

namespace fovea::test {
namespace {

using Case = AttentionCase;

struct RunAttention {
  const Table& table;
  int threads = 2;
  template <class Attrs>
  void operator()(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    std::vector<View> views;
    for (const Tensor* t : in) views.push_back(t ? t->view : View());
    const auto workspace = std::strcmp(name, "attention") == 0           ? attention_workspace
                           : std::strcmp(name, "attentionBackward") == 0 ? attention_gradients_workspace
                                                                         : attention_backward_workspace;
    run(table, name, attrs, in, out, threads, workspace({views.data(), int32_t(views.size())}, {}, &attrs, threads));
  }
  std::string where() const { return table.isa; }
};

void check(const Case& c) {
  AttentionInputs in(c);
  const AttentionModel model(c, in);
  // Instructions that multiply pairs take probabilities in bfloat16.
  for (const Table& table : tables_of_attention()) {
    const bool in_pairs = std::strcmp(table.isa, "avx512bf16") == 0 || std::strcmp(table.isa, "amx") == 0;
    check_attention(RunAttention{table}, c, in, model, in_pairs ? 2 : 1);
  }
}

}  // namespace

FOVEA_TEST(attention_sizes) {
  for (int64_t d : {1, 7, 16, 31, 64, 127}) check({1, 2, 2, 37, 41, d, d, {.scale = 0.2}});
  for (int64_t n : {1, 2, 4, 5, 14, 15, 113, 130})
    for (int64_t m : {1, 17, 128, 300}) check({1, 1, 1, n, m, 16, 16, {.scale = 0.3}});
  check({2, 3, 3, 29, 131, 24, 40, {.scale = 0.2}});
  check({1, 1, 1, 3, 1100, 24, 257, {.scale = 0.2}});
  check({1, 1, 1, 20, 30, 257, 129, {.scale = 0.05}});
  check({1, 1, 1, 9, 11, 0, 3, {.scale = 1}});
}
// Of products by vectors and in tile registers of 16 x 32.
FOVEA_TEST(attention_sizes_in_bfloat16) {
  for (int64_t d : {1, 7, 16, 31, 32, 33, 64, 127}) check({1, 2, 2, 37, 41, d, d, {.scale = 0.2}, Dtype::bf16});
  for (int64_t n : {5, 15, 16, 17, 32, 33, 97, 130})
    for (int64_t m : {1, 17, 33, 128, 129, 300}) check({1, 1, 1, n, m, 16, 16, {.scale = 0.3}, Dtype::bf16});
  check({2, 3, 3, 29, 131, 24, 40, {.scale = 0.2}, Dtype::bf16});
  check({1, 1, 1, 20, 30, 257, 129, {.scale = 0.05}, Dtype::bf16});
  check({1, 1, 1, 9, 11, 0, 3, {.scale = 1}, Dtype::bf16});
  for (double scale : {-0.2, 0.0}) check({1, 2, 1, 40, 150, 32, 32, {.scale = scale, .causal = 1}, Dtype::bf16});
}
FOVEA_TEST(attention_empty) {
  for (Case c : {Case{0, 2, 2, 5, 6, 4, 4}, Case{1, 2, 2, 0, 6, 4, 4}, Case{1, 2, 2, 5, 0, 4, 4},
                 Case{1, 2, 2, 3, 0, 4, 4}, Case{1, 2, 2, 5, 6, 4, 0}})
    check(c);
}
FOVEA_TEST(attention_dtypes) {
  for (Dtype t : kFloats) {
    check({1, 2, 1, 35, 70, 20, 12, {.scale = 0.25, .causal = 1}, t});
    check({2, 4, 2, 3, 600, 33, 17, {.scale = 0.25, .causal = 2}, t});
    check({1, 2, 2, 70, 140, 64, 64, {.scale = 0.125, .causal = 2}, t, {}, {}, Case::strided});
    check(edited_attention(t));
  }
}
FOVEA_TEST(attention_causal) {
  for (int64_t causal : {1, 2})
    for (auto [n, m] :
         {std::pair<int64_t, int64_t>{150, 150}, {3, 3}, {2, 700}, {40, 200}, {200, 40}, {4, 2}, {260, 131}})
      for (Dtype t : {Dtype::f32, Dtype::bf16}) check({1, 2, 1, n, m, 16, 16, {.scale = 0.3, .causal = causal}, t});
}
FOVEA_TEST(attention_bias_and_mask) {
  for_each_axes([](int axes, const std::vector<bool>& some, const std::vector<bool>& rest) {
    check({2, 2, 1, 17, 35, 8, 8, {.scale = 0.3, .causal = axes % 3}, Dtype::f32, some, rest});
    check({2, 2, 1, 2, 35, 8, 8, {.scale = 0.3}, Dtype::f16, rest, some});
  });
  const std::vector<bool> full(4, false);
  check({1, 2, 2, 140, 150, 16, 16, {.scale = 0.3}, Dtype::f32, full, {false, true, true, false}});
}
FOVEA_TEST(attention_terms) {
  for (auto [n, m] : {std::pair<int64_t, int64_t>{1, 300}, {40, 20}, {150, 150}, {33, 270}})
    for (Dtype t : {Dtype::f32, Dtype::bf16, Dtype::f64}) {
      for (double cap : {0.4, 30.0}) check({1, 2, 1, n, m, 24, 16, {.scale = 0.5, .causal = 2, .softcap = cap}, t});
      for (bool aligned : {false, true})
        for (int64_t size : {1, 17, 700}) {
          Case c{2, 4, 2, n, m, 16, 16, {.scale = 0.3, .causal = size == 17 ? 1 : 0}, t};
          c.attrs.distanceAligned = aligned, c.attrs.distanceZero = size / 3;
          c.distances = size, c.one_distance = size == 17;
          check(c);
        }
      // All at once.
      Case c{1, 2, 1, n, m, 16, 16, {.scale = 0.6, .causal = 2, .softcap = 2}, t, {false, true, false, false}};
      c.attrs.dropoutP = 0.2, c.attrs.distanceZero = 9, c.distances = 40;
      // A query that sees one key alone has a gradient of 0, but for o that was rounded to 16 bits.
      if (t != Dtype::bf16) c.pattern = RandomPattern(3, c.b, c.h, n, m, false).joined(2);
      check(c);
    }
}
FOVEA_TEST(attention_additive) {
  for (auto [n, m] : {std::pair<int64_t, int64_t>{1, 300}, {40, 20}, {150, 33}})
    for (Dtype t : {Dtype::f32, Dtype::f64})
      for (int64_t d : {1, 24, 40}) {
        Case c{2, 4, 2, n, m, d, 16, {.scale = 0.7, .causal = d == 24 ? 2 : 0, .softcap = d == 40 ? 2.0 : 0}, t};
        c.additive = true, c.distances = d == 40 ? 9 : 0;
        check(c);
      }
  Case half{1, 1, 1, 3, 3, 4, 4, {}, Dtype::bf16};
  half.additive = true;
  AttentionInputs in(half);
  for (const Table& table : tables_of_attention()) {
    AttentionOutputs out(half);
    const std::string code = code_of([&] { attention_forward(RunAttention{table}, half, in, out); });
    FOVEA_CHECK(code == "FOVEA_DTYPE", "code %s", code.c_str());
  }
}
FOVEA_TEST(attention_patterns) {
  for (auto [n, m] : {std::pair<int64_t, int64_t>{2, 300}, {40, 20}, {150, 150}, {230, 400}})
    check_patterns(check, n, m, 24);
}
// What nobody sees is not packed, and must not show where its strip is one of others, too.
FOVEA_TEST(attention_blocks_that_see_nothing) {
  for (PatternOp op : {PatternOp::query_set, PatternOp::key_set})
    for (Dtype t : {Dtype::f32, Dtype::bf16}) {
      Case c{1, 2, 1, 300, 300, 16, 16, {.scale = 0.3}, t};
      c.pattern = PatternText{{{.op = op, .b = 128}}, {-1, -1}}.words(), c.distances = 9;
      check(c);
    }
}
FOVEA_TEST(attention_rejects_patterns_that_read_outside) {
  Case c{2, 2, 1, 5, 5, 4, 4};
  auto expect = [&](std::vector<int64_t> words) {
    c.pattern = words;
    AttentionInputs in(c);
    for (const Table& table : tables_of_attention()) {
      AttentionOutputs out(c);
      const std::string code = code_of([&] { attention_forward(RunAttention{table}, c, in, out); });
      FOVEA_CHECK(code == "FOVEA_ARGUMENT", "code %s of a program of %zu words", code.c_str(), words.size());
    }
  };
  using Op = PatternOp;
  expect({1}), expect({2, 0, 0, 0, 0, 0, 0, 0}), expect(PatternText{}.words());
  const PatternStep all{.op = Op::below, .a = 5};
  for (PatternStep bad :
       {PatternStep{.op = Op(14)}, PatternStep{.op = Op(-1)}, PatternStep{.op = Op::stride},
        PatternStep{.op = Op::residue}, PatternStep{.op = Op::cell, .a = -1},
        PatternStep{.op = Op::lengths, .a = 0, .b = 2}, PatternStep{.op = Op::lengths, .a = 0, .b = 3},
        PatternStep{.op = Op::ids, .b = 1, .d = 2, .e = 1}, PatternStep{.op = Op::key_set, .b = 65},
        PatternStep{.op = Op::query_set, .a = -20, .b = 1}, PatternStep{.op = Op::dense},
        PatternStep{.op = Op::blocks, .a = 1, .b = 5, .c = 5, .e = 1},
        PatternStep{.op = Op::blocks, .a = 1, .b = 1, .c = 1, .e = 3}, PatternStep{.op = Op::both},
        PatternStep{.op = Op::complement}})
    expect(PatternText{{bad}, {1}}.words());
  expect(PatternText{{all, all}, {}}.words()), expect(PatternText{{all, {.op = Op::either}}, {}}.words());
  expect(PatternText{std::vector<PatternStep>(size_t(kPatternDepth) + 1, all), {}}.words());
}
FOVEA_TEST(attention_grouped_heads) {
  for (Dtype t : {Dtype::f32, Dtype::bf16}) check({2, 6, 2, 20, 50, 16, 24, {.scale = 0.3, .causal = 2}, t});
  check({2, 6, 1, 1, 700, 16, 24, {.scale = 0.3, .causal = 2}});
  check({1, 8, 8, 30, 30, 16, 16, {.scale = 0.3}, Dtype::f32, {}, {}, Case::strided});
}
FOVEA_TEST(attention_dropout) {
  for (int64_t n : {2, 33})
    for (int64_t m : {31, 40, 139})
      for (Dtype t : {Dtype::f32, Dtype::bf16})
        check({2, 2, 1, n, m, 8, 16, {.scale = 0.3, .causal = 1, .dropoutP = 0.4, .seed = -7, .offset = 1ll << 40}, t});
  check({1, 1, 1, 20, 20, 8, 8, {.dropoutP = 0.999}});
  // What v = 1 brings through is the kept share of the probabilities: 1 on average.
  Case c{1, 1, 1, 512, 512, 4, 1, {.scale = 0, .dropoutP = 0.25, .seed = 3}};
  AttentionInputs in(c);
  in.v.fill(std::vector<double>(512, 1));
  for (const Table& table : tables_of_attention()) {
    AttentionOutputs out(c);
    attention_forward(RunAttention{table}, c, in, out);
    double mean = 0;
    for (double x : out.o.values()) mean += x / 512;
    FOVEA_CHECK_CLOSE(mean, 1, 5 * std::sqrt(0.25 / 0.75 / (512 * 512)));
    c.attrs.dropoutP = 1;
    attention_forward(RunAttention{table}, c, in, out);
    for (double x : out.o.values()) FOVEA_CHECK(x == 0, "%g with all dropped", x);
    c.attrs.dropoutP = 0.25;
  }
}
FOVEA_TEST(attention_rows_that_see_nothing) {
  for (int64_t n : {3, 40}) {
    check({1, 1, 1, n, 40, 8, 8, {.scale = 0.3}, Dtype::f32, {}, {true, true, false, true}});  // whole rows are masked
    for (const Table& table : tables_of_attention())
      for (Dtype t : {Dtype::f32, Dtype::bf16})
        check_row_that_sees_nothing(RunAttention{table}, t, n, 8, {true, true, false, true});
  }
}
FOVEA_TEST(attention_large_scores) {
  for (const Table& table : tables_of_attention()) check_large_scores(RunAttention{table}, Dtype::f32, 20, 2e-3);
}
// What comes after a query must not change a bit of its result, not even if it is NaN or infinite; what comes before
// must, if it is NaN.
FOVEA_TEST(attention_is_causal) {
  for (const Table& table : tables_of_attention())
    for (int64_t n : {3, 150})
      for (double poison : {0.5, double(NAN), double(INFINITY)})
        for (int which : {0, 1, 2})
          for (Dtype t : {Dtype::f32, Dtype::bf16})
            check_hidden_keys(RunAttention{table}, {1, 2, 1, n, 150, 48, 48, {.scale = 0.3, .causal = 2}, t}, poison,
                              which);
}
FOVEA_TEST(attention_does_not_depend_on_threads) {
  // Blocks of keys of one head, which wait for each other, some of them seen by nobody.
  Case blocks{1, 2, 1, 500, 900, 32, 32, {.scale = 0.2, .dropoutP = 0.2, .seed = 5}};
  std::vector<int64_t> keys(15);
  for (const size_t word : {0, 1, 6, 7, 8, 13}) keys[word] = 0x0ff00ff0f0f0f0f0;
  blocks.pattern = PatternText{{{.op = PatternOp::key_set, .b = 900}}, keys}.words();
  for (Case c :
       {Case{2, 4, 2, 150, 300, 32, 32, {.scale = 0.2, .causal = 2}}, Case{2, 4, 2, 1, 3000, 32, 32, {.scale = 0.2}},
        Case{2, 4, 2, 150, 300, 32, 32, {.scale = 0.2, .causal = 2}, Dtype::bf16}, blocks,
        Case{1, 1, 1, 700, 1000, 32, 64, {.scale = 0.2, .causal = 1}, Dtype::bf16}}) {
    AttentionInputs in(c);
    for (const Table& table : tables_of_attention()) {
      AttentionOutputs one(c);
      attention_forward(RunAttention{table, 1}, c, in, one), attention_backward(RunAttention{table, 1}, c, in, one);
      for (int threads : {2, 3, 8}) {
        AttentionOutputs more(c);
        attention_forward(RunAttention{table, threads}, c, in, more),
            attention_backward(RunAttention{table, threads}, c, in, more);
        FOVEA_CHECK(one.o.same_bits(more.o) && one.lse.same_bits(more.lse), "forward with %d threads", threads);
        FOVEA_CHECK(one.dq.same_bits(more.dq) && one.dk.same_bits(more.dk) && one.dv.same_bits(more.dv),
                    "backward with %d threads", threads);
      }
    }
  }
}
FOVEA_TEST(attention_rejects_bad_attributes) {
  for (const Table& table : tables_of_attention()) check_attention_rejects_bad_attributes(RunAttention{table});
}

}  // namespace fovea::test
