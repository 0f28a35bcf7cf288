// Attention and its gradients against the definition in float64, one score at a time.
#include "ops/attention/workspace.h"

#include <algorithm>

#include "core/random.h"
#include "ops/attention/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(attention)

namespace fovea::test {
namespace {

struct Case {
  int64_t b, h, g, n, m, d, e;
  AttentionAttrs attrs = {};
  Dtype dtype = Dtype::f32;
  // Axes of b, h, n, m along which bias and mask repeat; empty: not given.
  std::vector<bool> bias = {}, mask = {};
  bool strided = false;  // q, k, v and dO as views of [b, n, h, d]
};

Tensor make(const Case& c, std::vector<int64_t> shape, uint64_t seed) {
  Tensor t = c.strided ? Tensor::strided(c.dtype, shape, {0, 2, 1, 3}) : Tensor(c.dtype, shape);
  t.fill_random(seed, -1.5, 1.5);
  return t;
}

struct Inputs {
  Tensor q, k, v, d_o, bias, mask;
  explicit Inputs(const Case& c)
      : q(make(c, {c.b, c.h, c.n, c.d}, 1)),
        k(make(c, {c.b, c.g, c.m, c.d}, 2)),
        v(make(c, {c.b, c.g, c.m, c.e}, 3)),
        d_o(make(c, {c.b, c.h, c.n, c.e}, 4)) {
    if (!c.bias.empty()) bias = Tensor::expanded(c.dtype, {c.b, c.h, c.n, c.m}, c.bias), bias.fill_random(5);
    if (!c.mask.empty()) mask = Tensor::expanded(Dtype::boolean, {c.b, c.h, c.n, c.m}, c.mask), mask.fill_random(6);
  }
};

struct Outputs {
  Tensor o, lse, dq, dk, dv, dbias;
  explicit Outputs(const Case& c)
      : o(c.dtype, {c.b, c.h, c.n, c.e}),
        lse(accumulator_of(c.dtype), {c.b, c.h, c.n}),
        dq(c.dtype, {c.b, c.h, c.n, c.d}),
        dk(c.dtype, {c.b, c.g, c.m, c.d}),
        dv(c.dtype, {c.b, c.g, c.m, c.e}),
        dbias(c.dtype, {c.b, c.h, c.n, c.m}) {}
};

Tensor* optional(const std::vector<bool>& given, Tensor& t) { return given.empty() ? nullptr : &t; }

void forward(const Table& table, const Case& c, Inputs& in, Outputs& out, int threads = 2) {
  const View views[] = {in.q.view, in.k.view, in.v.view};
  size_t bytes = attention_workspace({views, 3}, {}, &c.attrs, threads);
  run(table, "attention", c.attrs, {&in.q, &in.k, &in.v, optional(c.bias, in.bias), optional(c.mask, in.mask)},
      {&out.o, &out.lse}, threads, bytes);
}
void backward(const Table& table, const Case& c, Inputs& in, Outputs& out, int threads = 2) {
  const View views[] = {in.q.view, in.k.view, in.v.view};
  size_t bytes = attention_backward_workspace({views, 3}, {}, &c.attrs, threads);
  Tensor *bias = optional(c.bias, in.bias), *mask = optional(c.mask, in.mask);
  run(table, "attentionBackward", c.attrs, {&in.q, &in.k, &in.v, bias, mask, &out.o, &out.lse, &in.d_o},
      {&out.dq, &out.dk, &out.dv}, threads, bytes);
  if (bias)
    run(table, "attentionBiasBackward", c.attrs, {&in.q, &in.k, &in.v, bias, mask, &out.o, &out.lse, &in.d_o},
        {&out.dbias}, threads, bytes);
}

// The definition.
struct Model {
  std::vector<double> o, lse, dq, dk, dv, dbias;
  std::vector<double> p, factor;  // of one row

  Model(const Case& c, const Inputs& in)
      : o(size_t(c.b * c.h * c.n * c.e)),
        lse(size_t(c.b * c.h * c.n)),
        dq(size_t(c.b * c.h * c.n * c.d)),
        dk(size_t(c.b * c.g * c.m * c.d)),
        dv(size_t(c.b * c.g * c.m * c.e)),
        dbias(size_t(c.b * c.h * c.n * c.m)),
        p(size_t(c.m)),
        factor(size_t(c.m)) {
    const std::vector<double> q = in.q.values(), k = in.k.values(), v = in.v.values(), d_o = in.d_o.values();
    for (int64_t row = 0; row < c.b * c.h * c.n; row++) {
      int64_t head = row / c.n / c.h * c.g + row / c.n % c.h / (c.h / c.g);
      const double *qi = q.data() + row * c.d, *kh = k.data() + head * c.m * c.d, *vh = v.data() + head * c.m * c.e;
      probabilities(c, in, row, qi, kh);
      gradients(c, row, head, qi, kh, vh, d_o.data() + row * c.e);
    }
  }

 private:
  void probabilities(const Case& c, const Inputs& in, int64_t row, const double* qi, const double* kh) {
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < c.m; j++) {
      int64_t i = row % c.n, at = row * c.m + j;
      double s = 0;
      for (int64_t l = 0; l < c.d; l++) s += qi[l] * kh[j * c.d + l];
      s *= c.attrs.scale;
      if (!c.bias.empty()) s += in.bias.at(at);
      bool hidden = (!c.mask.empty() && in.mask.at(at) == 0) || (c.attrs.causal == 1 && j > i) ||
                    (c.attrs.causal == 2 && j > i + c.m - c.n);
      p[size_t(j)] = hidden ? -INFINITY : s;
      top = std::max(top, p[size_t(j)]);
      bool kept =
          uniform_of(philox_word(uint64_t(c.attrs.seed), uint64_t(c.attrs.offset), uint64_t(at))) >= c.attrs.dropoutP;
      factor[size_t(j)] = kept ? 1 / (1 - c.attrs.dropoutP) : 0;
    }
    for (double& s : p) s = top == -INFINITY ? 0 : std::exp(s - top), total += s;
    for (double& s : p) s = total == 0 ? 0 : s / total;
    lse[size_t(row)] = total == 0 ? -INFINITY : top + std::log(total);
  }
  void gradients(const Case& c, int64_t row, int64_t head, const double* qi, const double* kh, const double* vh,
                 const double* d_o) {
    double delta = 0;
    double* oi = o.data() + row * c.e;
    for (int64_t j = 0; j < c.m; j++)
      for (int64_t l = 0; l < c.e; l++) oi[l] += p[size_t(j)] * factor[size_t(j)] * vh[j * c.e + l];
    for (int64_t l = 0; l < c.e; l++) delta += d_o[l] * oi[l];
    for (int64_t j = 0; j < c.m; j++) {
      double dp = 0, pj = p[size_t(j)], f = factor[size_t(j)];
      for (int64_t l = 0; l < c.e; l++) {
        dp += d_o[l] * vh[j * c.e + l];
        dv[size_t((head * c.m + j) * c.e + l)] += pj * f * d_o[l];
      }
      double ds = pj * (f * dp - delta);
      dbias[size_t(row * c.m + j)] = ds;
      for (int64_t l = 0; l < c.d; l++) {
        dq[size_t(row * c.d + l)] += c.attrs.scale * ds * kh[j * c.d + l];
        dk[size_t((head * c.m + j) * c.d + l)] += c.attrs.scale * ds * qi[l];
      }
    }
  }
};

void compare(const char* what, const Table& table, const Tensor& t, const std::vector<double>& expected,
             double tolerance) {
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    double value = t.at(int64_t(i));
    if (value == expected[i]) continue;
    double error = std::fabs(value - expected[i]) / (1 + std::fabs(expected[i]));
    if (!(error <= worst)) worst = error, at = i;
    if (std::isnan(error)) break;
  }
  FOVEA_CHECK(worst <= tolerance, "%s (%s): element %zu is %.9g, expected %.9g", what, table.isa, at, t.at(int64_t(at)),
              expected[at]);
}
void check(const Case& c) {
  Inputs in(c);
  const Model model(c, in);
  double eps = epsilon(c.dtype), inner = epsilon(accumulator_of(c.dtype));
  for (const Table& table : tables_of_attention()) {
    Outputs out(c);
    forward(table, c, in, out);
    compare("o", table, out.o, model.o, eps + 20 * inner);
    compare("lse", table, out.lse, model.lse, 20 * inner);
    backward(table, c, in, out);
    // 16-bit: delta is summed over an o that was rounded.
    double tolerance = 4 * eps + 100 * inner;
    compare("dq", table, out.dq, model.dq, tolerance);
    compare("dk", table, out.dk, model.dk, tolerance);
    compare("dv", table, out.dv, model.dv, tolerance);
    if (!c.bias.empty()) compare("dbias", table, out.dbias, model.dbias, tolerance);
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
FOVEA_TEST(attention_empty) {
  for (Case c : {Case{0, 2, 2, 5, 6, 4, 4}, Case{1, 2, 2, 0, 6, 4, 4}, Case{1, 2, 2, 5, 0, 4, 4},
                 Case{1, 2, 2, 3, 0, 4, 4}, Case{1, 2, 2, 5, 6, 4, 0}})
    check(c);
}
FOVEA_TEST(attention_dtypes) {
  for (Dtype t : kFloats) {
    check({1, 2, 1, 35, 70, 20, 12, {.scale = 0.25, .causal = 1}, t});
    check({2, 4, 2, 3, 600, 33, 17, {.scale = 0.25, .causal = 2}, t});
    check({1, 2, 2, 70, 140, 64, 64, {.scale = 0.125, .causal = 2}, t, {}, {}, true});
    check({1,
           2,
           1,
           21,
           33,
           20,
           12,
           {.scale = 0.25, .dropoutP = 0.3, .seed = 9},
           t,
           {false, true, false, false},
           {false, false, true, false}});
  }
}
FOVEA_TEST(attention_causal) {
  for (int64_t causal : {1, 2})
    for (auto [n, m] :
         {std::pair<int64_t, int64_t>{150, 150}, {3, 3}, {2, 700}, {40, 200}, {200, 40}, {4, 2}, {260, 131}})
      check({1, 2, 1, n, m, 16, 16, {.scale = 0.3, .causal = causal}});
}
FOVEA_TEST(attention_bias_and_mask) {
  for (int axes = 0; axes < 16; axes++) {
    std::vector<bool> some = {(axes & 1) != 0, (axes & 2) != 0, (axes & 4) != 0, (axes & 8) != 0}, rest = some;
    rest.flip();
    check({2, 2, 1, 17, 35, 8, 8, {.scale = 0.3, .causal = axes % 3}, Dtype::f32, some, rest});
    check({2, 2, 1, 2, 35, 8, 8, {.scale = 0.3}, Dtype::f16, rest, some});
  }
  check({1,
         2,
         2,
         140,
         150,
         16,
         16,
         {.scale = 0.3},
         Dtype::f32,
         {false, false, false, false},
         {false, true, true, false}});
}
FOVEA_TEST(attention_grouped_heads) {
  check({2, 6, 2, 20, 50, 16, 24, {.scale = 0.3, .causal = 2}});
  check({2, 6, 1, 1, 700, 16, 24, {.scale = 0.3, .causal = 2}});
  check({1, 8, 8, 30, 30, 16, 16, {.scale = 0.3}, Dtype::f32, {}, {}, true});
}
FOVEA_TEST(attention_dropout) {
  for (int64_t n : {2, 33})
    for (int64_t m : {31, 40, 139})
      check({2, 2, 1, n, m, 8, 16, {.scale = 0.3, .causal = 1, .dropoutP = 0.4, .seed = -7, .offset = 1ll << 40}});
  check({1, 1, 1, 20, 20, 8, 8, {.dropoutP = 0.999}});
  // What v = 1 brings through is the kept share of the probabilities: 1 on average.
  Case c{1, 1, 1, 512, 512, 4, 1, {.scale = 0, .dropoutP = 0.25, .seed = 3}};
  Inputs in(c);
  in.v.fill(std::vector<double>(512, 1));
  for (const Table& table : tables_of_attention()) {
    Outputs out(c);
    forward(table, c, in, out);
    double mean = 0;
    for (double x : out.o.values()) mean += x / 512;
    FOVEA_CHECK_CLOSE(mean, 1, 5 * std::sqrt(0.25 / 0.75 / (512 * 512)));
    c.attrs.dropoutP = 1;
    forward(table, c, in, out);
    for (double x : out.o.values()) FOVEA_CHECK(x == 0, "%g with all dropped", x);
    c.attrs.dropoutP = 0.25;
  }
}
FOVEA_TEST(attention_rows_that_see_nothing) {
  for (int64_t n : {3, 40}) {
    Case by_mask{1, 1, 1, n, 40, 8, 8, {.scale = 0.3}, Dtype::f32, {}, {true, true, false, true}};
    check(by_mask);  // whole rows are masked
    Case by_bias{1, 1, 1, n, 40, 8, 8, {.scale = 0.3}, Dtype::f32, {true, true, false, true}};
    Inputs in(by_bias);
    for (int64_t j = 0; j < 40; j++) in.bias.set(j, -INFINITY);  // row 0
    for (const Table& table : tables_of_attention()) {
      Outputs out(by_bias);
      forward(table, by_bias, in, out), backward(table, by_bias, in, out);
      FOVEA_CHECK(out.lse.at(0) == -INFINITY, "lse %g", out.lse.at(0));
      for (int64_t l = 0; l < 8; l++)
        FOVEA_CHECK(out.o.at(l) == 0 && out.dq.at(l) == 0, "o %g, dq %g", out.o.at(l), out.dq.at(l));
      for (int64_t j = 0; j < 40; j++) FOVEA_CHECK(out.dbias.at(j) == 0, "dbias %g", out.dbias.at(j));
      for (double x : out.dk.values()) FOVEA_CHECK(std::isfinite(x), "dk %g", x);
    }
  }
}
FOVEA_TEST(attention_large_scores) {
  Case c{1, 1, 1, 20, 200, 8, 8, {.scale = 40, .causal = 2}};
  Inputs in(c);
  const Model model(c, in);
  for (const Table& table : tables_of_attention()) {
    Outputs out(c);
    forward(table, c, in, out);
    compare("o", table, out.o, model.o, 2e-3);  // an error of 1e-7 in a score of 1000 is 1e-4 in a probability
    compare("lse", table, out.lse, model.lse, 1e-6);
  }
}
// What comes after a query must not change a bit of its result, not even if it is NaN or infinite; what comes before
// must, if it is NaN.
FOVEA_TEST(attention_is_causal) {
  for (int64_t n : {3, 150})
    for (double poison : {0.5, double(NAN), double(INFINITY)})
      for (int which : {0, 1, 2}) {
        Case c{1, 2, 1, n, 150, 16, 16, {.scale = 0.3, .causal = 2}};
        Inputs in(c);
        const int64_t hidden_from = n - 2, key = hidden_from + 150 - n + 1;
        for (const Table& table : tables_of_attention()) {
          Outputs before(c), after(c);
          forward(table, c, in, before);
          Inputs changed(c);
          for (int64_t l = 0; l < 16; l++) {
            if (which != 1) changed.k.set(key * 16 + l, poison);
            if (which != 0) changed.v.set(key * 16 + l, poison);
          }
          forward(table, c, changed, after);
          for (int64_t hi = 0; hi < 2; hi++)
            for (int64_t i = 0; i < n; i++)
              for (int64_t l = 0; l < 16; l++) {
                int64_t at = (hi * n + i) * 16 + l;
                if (i <= hidden_from)
                  FOVEA_CHECK(before.o.at(at) == after.o.at(at), "query %lld of %lld changed", (long long)i,
                              (long long)n);
                else if (std::isnan(poison))
                  FOVEA_CHECK(std::isnan(after.o.at(at)), "query %lld ignores NaN", (long long)i);
              }
        }
      }
}
FOVEA_TEST(attention_does_not_depend_on_threads) {
  for (Case c :
       {Case{2, 4, 2, 150, 300, 32, 32, {.scale = 0.2, .causal = 2}}, Case{2, 4, 2, 1, 3000, 32, 32, {.scale = 0.2}}}) {
    Inputs in(c);
    for (const Table& table : tables_of_attention()) {
      Outputs one(c);
      forward(table, c, in, one, 1), backward(table, c, in, one, 1);
      for (int threads : {2, 3}) {
        Outputs more(c);
        forward(table, c, in, more, threads), backward(table, c, in, more, threads);
        FOVEA_CHECK(one.o.same_bits(more.o) && one.lse.same_bits(more.lse), "forward with %d threads", threads);
        FOVEA_CHECK(one.dq.same_bits(more.dq) && one.dk.same_bits(more.dk) && one.dv.same_bits(more.dv),
                    "backward with %d threads", threads);
      }
    }
  }
}
FOVEA_TEST(attention_rejects_bad_attributes) {
  Case c{1, 1, 1, 5, 5, 4, 4};
  Inputs in(c);
  for (const Table& table : tables_of_attention())
    for (AttentionAttrs bad :
         {AttentionAttrs{.causal = 3}, AttentionAttrs{.dropoutP = -0.1}, AttentionAttrs{.dropoutP = 1.5}}) {
      Outputs out(c);
      std::string code = error_of(table, "attention", bad, {&in.q, &in.k, &in.v, nullptr, nullptr}, {&out.o, &out.lse});
      FOVEA_CHECK(code == "FOVEA_ARGUMENT", "code %s", code.c_str());
    }
}

}  // namespace fovea::test
