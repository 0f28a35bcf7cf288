// Attention and its gradients against the definition in float64, one score at a time, on the CPU and on emulated
// devices.
#pragma once
#include "core/random.h"
#include "test/attention_case.h"

namespace fovea::test {

template <class Run>
void attention_forward(const Run& run, const AttentionCase& c, AttentionInputs& in, AttentionOutputs& out) {
  run("attention", c.attrs, in.forward(c), {&out.o, &out.lse});
}
template <class Run>
void attention_backward(const Run& run, const AttentionCase& c, AttentionInputs& in, AttentionOutputs& out) {
  std::vector<Tensor*> inputs = in.scores(c);
  for (Tensor* t : {&out.o, &out.lse, &in.d_o}) inputs.push_back(t);
  in.add_terms(c, inputs);
  run("attentionBackward", c.attrs, inputs, {&out.dq, &out.dk, &out.dv});
  if (!c.bias.empty() && out.dbias.size() > 0) run("attentionBiasBackward", c.attrs, inputs, {&out.dbias});
  if (c.distances) run("attentionDistanceBackward", c.attrs, inputs, {&out.ddistance});
  if (c.additive) run("attentionVectorBackward", c.attrs, inputs, {&out.dvector});
}

// The definition.
struct AttentionModel {
  std::vector<double> o, lse, dq, dk, dv, dbias, ddistance, dvector, vector;
  std::vector<double> p, factor, uncapped;  // of one row; the last: gradients of capped scores times this

  AttentionModel(const AttentionCase& c, const AttentionInputs& in)
      : o(size_t(c.b * c.h * c.n * c.e)),
        lse(size_t(c.b * c.h * c.n)),
        dq(size_t(c.b * c.h * c.n * c.d)),
        dk(size_t(c.b * c.g * c.m * c.d)),
        dv(size_t(c.b * c.g * c.m * c.e)),
        dbias(size_t(c.b * c.h * c.n * c.m)),
        ddistance(size_t(c.b * c.h * c.distances)),
        dvector(size_t(c.b * c.h * c.d)),
        p(size_t(c.m)),
        factor(size_t(c.m)),
        uncapped(size_t(c.m), 1) {
    if (c.additive) vector = in.vector.values();
    const std::vector<double> q = in.q.values(), k = in.k.values(), v = in.v.values(), d_o = in.d_o.values();
    for (int64_t row = 0; row < c.b * c.h * c.n; row++) {
      int64_t head = row / c.n / c.h * c.g + row / c.n % c.h / (c.h / c.g);
      const double *qi = q.data() + row * c.d, *kh = k.data() + head * c.m * c.d, *vh = v.data() + head * c.m * c.e;
      probabilities(c, in, row, qi, kh);
      gradients(c, row, head, qi, kh, vh, d_o.data() + row * c.e);
    }
  }

 private:
  void probabilities(const AttentionCase& c, const AttentionInputs& in, int64_t row, const double* qi,
                     const double* kh) {
    double top = -INFINITY, total = 0;
    const PatternProgram pattern = in.program(c);
    for (int64_t j = 0; j < c.m; j++) {
      int64_t i = row % c.n, at = row * c.m + j;
      double s = 0;
      const double* w = c.additive ? vector.data() + row / c.n % c.h * c.d : nullptr;
      for (int64_t l = 0; l < c.d; l++) s += w ? w[l] * std::tanh(qi[l] + kh[j * c.d + l]) : qi[l] * kh[j * c.d + l];
      s *= c.attrs.scale;
      if (const double cap = c.attrs.softcap; cap > 0) {
        const double t = std::tanh(s / cap);
        s = cap * t, uncapped[size_t(j)] = 1 - t * t;
      }
      if (c.distances) s += in.distance.at(AttentionInputs::distance_at(c, row / c.n % c.h, i, j));
      if (!c.bias.empty()) s += in.bias.at(at);
      bool hidden = (!c.mask.empty() && !c.attrs.maskInPattern && in.mask.at(at) == 0) ||
                    (pattern.present() && !pattern_sees(pattern, row / c.n / c.h, row / c.n % c.h, i, j)) ||
                    (c.attrs.causal == 1 && j > i) || (c.attrs.causal == 2 && j > i + c.m - c.n);
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
  void gradients(const AttentionCase& c, int64_t row, int64_t head, const double* qi, const double* kh,
                 const double* vh, const double* d_o) {
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
      if (c.distances) ddistance[size_t(AttentionInputs::distance_at(c, row / c.n, row % c.n, j))] += ds;
      ds *= uncapped[size_t(j)] * c.attrs.scale;
      for (int64_t l = 0; l < c.d; l++) {
        double of_q = kh[j * c.d + l], of_k = qi[l];
        if (c.additive) {
          const double t = std::tanh(qi[l] + kh[j * c.d + l]);
          of_q = of_k = vector[size_t(row / c.n % c.h * c.d + l)] * (1 - t * t);
          dvector[size_t(row / c.n * c.d + l)] += ds * t;
        }
        dq[size_t(row * c.d + l)] += ds * of_q, dk[size_t((head * c.m + j) * c.d + l)] += ds * of_k;
      }
    }
  }
};

inline void compare_attention(const char* what, const AttentionCase& c, const std::string& where, const Tensor& t,
                              const std::vector<double>& expected, double tolerance) {
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    double value = t.at(int64_t(i));
    if (value == expected[i]) continue;
    double error = std::fabs(value - expected[i]) / (1 + std::fabs(expected[i]));
    if (!(error <= worst)) worst = error, at = i;
    if (std::isnan(error)) break;
  }
  FOVEA_CHECK(worst <= tolerance,
              "%s of %s n=%lld m=%lld d=%lld e=%lld causal=%lld on %s: element %zu is %.9g, expected %.9g", what,
              name_of(c.dtype), static_cast<long long>(c.n), static_cast<long long>(c.m), static_cast<long long>(c.d),
              static_cast<long long>(c.e), static_cast<long long>(c.attrs.causal), where.c_str(), at, t.at(int64_t(at)),
              expected[at]);
}

// 16-bit: o is rounded once, or twice where probabilities are rounded before they meet v; delta is summed over an o
// that was rounded; weights come from a shorter polynomial, with errors of 3e-6 (cpu/math_coarse.h).
template <class Run>
void compare_attention_forward(const Run& run, const AttentionCase& c, const AttentionOutputs& out,
                               const AttentionModel& model, int roundings) {
  double inner = epsilon(accumulator_of(c.dtype));
  compare_attention("o", c, run.where(), out.o, model.o, roundings * epsilon(c.dtype) + 20 * inner);
  const bool half = c.dtype == Dtype::f16 || c.dtype == Dtype::bf16;
  compare_attention("lse", c, run.where(), out.lse, model.lse, 20 * inner + (half ? 3e-6 : 0));
}
template <class Run>
void check_attention_forward(const Run& run, const AttentionCase& c) {
  AttentionInputs in(c);
  const AttentionModel model(c, in);
  AttentionOutputs out(c);
  attention_forward(run, c, in, out);
  compare_attention_forward(run, c, out, model, 2);
}
template <class Run>
void check_attention(const Run& run, const AttentionCase& c, AttentionInputs& in, const AttentionModel& model,
                     int roundings) {
  AttentionOutputs out(c);
  attention_forward(run, c, in, out);
  compare_attention_forward(run, c, out, model, roundings);
  attention_backward(run, c, in, out);
  double tolerance = 4 * epsilon(c.dtype) + 100 * epsilon(accumulator_of(c.dtype));
  compare_attention("dq", c, run.where(), out.dq, model.dq, tolerance);
  compare_attention("dk", c, run.where(), out.dk, model.dk, tolerance);
  compare_attention("dv", c, run.where(), out.dv, model.dv, tolerance);
  if (!c.bias.empty()) compare_attention("dbias", c, run.where(), out.dbias, model.dbias, tolerance);
  // sums of as many as there are queries
  if (c.distances) compare_attention("ddistance", c, run.where(), out.ddistance, model.ddistance, 4 * tolerance);
  if (c.additive) compare_attention("dvector", c, run.where(), out.dvector, model.dvector, 4 * tolerance);
}
template <class Run>
void check_attention(const Run& run, const AttentionCase& c, AttentionInputs& in) {
  check_attention(run, c, in, AttentionModel(c, in), 2);
}
template <class Run>
void check_attention(const Run& run, const AttentionCase& c) {
  AttentionInputs in(c);
  check_attention(run, c, in);
}

// Every step by itself, and programs of several with causality, bias, mask and dropout. `check` takes a case.
template <class Check>
void check_patterns(const Check& check, int64_t n, int64_t m, int programs) {
  const std::vector<bool> full(4, false), heads = {false, true, false, false};
  for (int op = 0; op < int(PatternOp::dense); op++) {
    AttentionCase c{2, 4, 2, n, m, 24, 16, {.scale = 0.3}};
    c.pattern = RandomPattern(uint64_t(op), c.b, c.h, n, m, false).one_of(PatternOp(op));
    check(c);
  }
  for (int seed = 0; seed < programs; seed++) {
    AttentionCase c{1, 2, 1, n, m, 16, 16, {.scale = 0.3, .causal = seed % 3}};
    if (seed % 4 == 1) c.bias = heads, c.attrs.dropoutP = 0.3, c.attrs.seed = seed;
    if (seed % 2) c.mask = heads, c.attrs.maskInPattern = seed % 4 == 3;
    c.dtype = seed % 3 == 2 ? Dtype::bf16 : Dtype::f32;
    c.pattern = RandomPattern(uint64_t(seed), c.b, c.h, n, m, c.attrs.maskInPattern).joined(1 + seed % 5);
    check(c);
  }
}

// Query 0 of n sees no key, as its bias, which repeats along these axes, is -Infinity.
template <class Run>
void check_row_that_sees_nothing(const Run& run, Dtype dtype, int64_t n, int64_t d, const std::vector<bool>& repeats) {
  const AttentionCase c{1, 1, 1, n, 40, d, d, {.scale = 0.3}, dtype, repeats};
  AttentionInputs in(c);
  for (int64_t j = 0; j < 40; j++) in.bias.set(j, -INFINITY);
  AttentionOutputs out(c);
  attention_forward(run, c, in, out), attention_backward(run, c, in, out);
  FOVEA_CHECK(out.lse.at(0) == -INFINITY, "lse %g", out.lse.at(0));
  for (int64_t l = 0; l < d; l++)
    FOVEA_CHECK(out.o.at(l) == 0 && out.dq.at(l) == 0, "o %g, dq %g", out.o.at(l), out.dq.at(l));
  for (int64_t j = 0; j < 40; j++) FOVEA_CHECK(out.dbias.at(j) == 0, "dbias %g", out.dbias.at(j));
  for (double x : out.dk.values()) FOVEA_CHECK(std::isfinite(x), "dk %g", x);
}

// Scores of a thousand, where an error of 1e-7 is 1e-4 in a probability.
template <class Run>
void check_large_scores(const Run& run, Dtype dtype, int64_t n, double tolerance) {
  const AttentionCase c{1, 1, 1, n, 200, 8, 8, {.scale = 40, .causal = 2}, dtype};
  AttentionInputs in(c);
  const AttentionModel model(c, in);
  AttentionOutputs out(c);
  attention_forward(run, c, in, out);
  compare_attention("o", c, run.where(), out.o, model.o, tolerance);
  compare_attention("lse", c, run.where(), out.lse, model.lse, 1e-6);
}

// Not one query, or not one head of them: what keys and values get is 0.
template <class Run>
void check_attention_without_queries(const Run& run, Dtype dtype) {
  for (AttentionCase c : {AttentionCase{1, 2, 2, 0, 6, 64, 64}, AttentionCase{1, 0, 2, 5, 6, 64, 64}}) {
    c.dtype = dtype;
    AttentionInputs in(c);
    AttentionOutputs out(c);
    attention_backward(run, c, in, out);
    for (double x : out.dk.values()) FOVEA_CHECK(x == 0, "dk %g", x);
    for (double x : out.dv.values()) FOVEA_CHECK(x == 0, "dv %g", x);
  }
}

template <class Run>
void check_attention_rejects_bad_attributes(const Run& run) {
  AttentionCase c{1, 1, 1, 5, 5, 4, 4};
  AttentionInputs in(c);
  for (AttentionAttrs bad :
       {AttentionAttrs{.causal = 3}, AttentionAttrs{.dropoutP = -0.1}, AttentionAttrs{.dropoutP = 1.5}}) {
    AttentionOutputs out(c);
    c.attrs = bad;
    std::string code = code_of([&] { attention_forward(run, c, in, out); });
    FOVEA_CHECK(code == "FOVEA_ARGUMENT", "code %s", code.c_str());
  }
}

// All queries but the last cannot see a key whose k (which = 0), v (1) or both are `poison`, and must not change by
// a bit; the last one can, and must if it is NaN.
template <class Run>
void check_hidden_keys(const Run& run, const AttentionCase& c, double poison, int which) {
  const int64_t hidden_from = c.n - 2, key = c.m - 1;
  AttentionInputs in(c), changed(c);
  AttentionOutputs before(c), after(c);
  attention_forward(run, c, in, before);
  for (int64_t l = 0; l < c.d; l++) {
    if (which != 1) changed.k.set(key * c.d + l, poison);
    if (which != 0) changed.v.set(key * c.d + l, poison);
  }
  attention_forward(run, c, changed, after);
  for (int64_t row = 0; row < c.h * c.n; row++)
    for (int64_t l = 0; l < c.e; l++) {
      const int64_t at = row * c.e + l, i = row % c.n;
      if (i <= hidden_from)
        FOVEA_CHECK(before.o.at(at) == after.o.at(at), "%s: query %lld of %lld changed", name_of(c.dtype),
                    static_cast<long long>(i), static_cast<long long>(c.n));
      else if (std::isnan(poison))
        FOVEA_CHECK(std::isnan(after.o.at(at)), "%s: query %lld ignores NaN", name_of(c.dtype),
                    static_cast<long long>(i));
      else if (which == 1 && std::isinf(poison))
        FOVEA_CHECK(after.o.at(at) == poison, "%s: query %lld gives %g", name_of(c.dtype), static_cast<long long>(i),
                    after.o.at(at));
    }
}

// With causality from the bottom right, what is `poison` of a key that only the last query sees, or of query 0, must
// not change a bit of the gradients of those that it does not meet. Left out is what is multiplied by their weights, as
// 0 times NaN is NaN: k in dq, q in dk, dO in dv.
enum class Hidden { v, d_o, q };
template <class Run>
void check_hidden_gradients(const Run& run, const AttentionCase& c, double poison, Hidden which) {
  AttentionInputs in(c), changed(c);
  AttentionOutputs before(c), after(c);
  attention_forward(run, c, in, before), attention_backward(run, c, in, before);
  for (int64_t l = 0; l < c.d; l++) {
    if (which == Hidden::v) changed.v.set((c.m - 1) * c.e + l, poison);
    if (which == Hidden::d_o) changed.d_o.set(l, poison);
    if (which == Hidden::q) changed.q.set(l, poison);
  }
  attention_forward(run, c, changed, after), attention_backward(run, c, changed, after);
  const Tensor& old = which == Hidden::v ? before.dq : which == Hidden::d_o ? before.dk : before.dv;
  const Tensor& now = which == Hidden::v ? after.dq : which == Hidden::d_o ? after.dk : after.dv;
  const int64_t rows = which == Hidden::v ? c.n : c.m;
  for (int64_t at = 0; at < old.size(); at++) {
    const int64_t row = at / c.d % rows;
    if (which == Hidden::v ? row == c.n - 1 : row <= c.m - c.n) continue;
    FOVEA_CHECK(old.at(at) == now.at(at), "%s on %s: row %lld of gradient %d changed with %g", name_of(c.dtype),
                run.where().c_str(), static_cast<long long>(row), int(which), poison);
  }
}

}  // namespace fovea::test
