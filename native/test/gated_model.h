// swiglu and geglu, forward and backward, against the formulas in float64, on the CPU and on emulated devices: all
// dtypes, two tensors and the halves of one, rows that are not dense.
#pragma once
#include "ops/gated/attrs.h"
#include "test/harness.h"

namespace fovea::test {

enum class GateKind { silu, gelu, gelu_tanh };
struct Gate {
  double value, slope;
  Gate(GateKind kind, double x) {
    if (kind == GateKind::gelu) {
      const double below = 0.5 * std::erfc(-x * std::sqrt(0.5));
      value = x * below, slope = below + x * std::exp(-x * x / 2) * 0.3989422804014327;
      return;
    }
    constexpr double c = 1.5957691216057308;
    const bool silu = kind == GateKind::silu;
    const double z = silu ? x : c * (x + 0.044715 * x * x * x), dz = silu ? 1 : c * (1 + 3 * 0.044715 * x * x);
    const double s = 1 / (1 + std::exp(-z));
    value = x * s, slope = s + x * s * (1 - s) * dz;
  }
};

inline double gated_tolerance(Dtype dtype, double value) {
  const bool half = dtype == Dtype::f16 || dtype == Dtype::bf16;
  const double unit = dtype == Dtype::f64 ? 1e-13 : half ? 3e-5 : 2e-6;
  return unit * (1 + std::fabs(value)) + (half ? ulp(dtype, value) : 0);
}

template <class Run>
void run_gated(const Run& run, GateKind kind, bool backward, int64_t width, const std::vector<Tensor*>& in,
               const std::vector<Tensor*>& out) {
  if (kind == GateKind::silu) return run(backward ? "swigluBackward" : "swiglu", SwigluAttrs{width}, in, out);
  run(backward ? "gegluBackward" : "geglu", GegluAttrs{width, kind == GateKind::gelu_tanh}, in, out);
}

// x holds both halves where there is no `up`.
template <class Run>
void check_gated_of(const Run& run, GateKind kind, Tensor& x, Tensor* up) {
  const Dtype dtype = x.dtype();
  const int64_t rows = x.view.dim(0), d = x.view.dim(1), n = up ? d : d / 2;
  Tensor y(dtype, {rows, n}), dy = Tensor::random(dtype, {rows, n}, 9), dgate(dtype, {rows, d}),
                              dup(dtype, {rows, up ? n : 0});
  run_gated(run, kind, false, n, {&x, up}, {&y});
  run_gated(run, kind, true, up ? n : 0, {&x, up, &dy}, {&dgate, &dup});
  for (int64_t i = 0; i < rows * n; i++) {
    const int64_t row = i / n, at = row * d + i % n;
    const double u = up ? up->at(i) : x.at(at + n), g = dy.at(i);
    const Gate gate(kind, x.at(at));
    const double changes[] = {gate.value * u, g * u * gate.slope, g * gate.value};
    FOVEA_CHECK_CLOSE(y.at(i), changes[0], gated_tolerance(dtype, changes[0]));
    FOVEA_CHECK_CLOSE(dgate.at(at), changes[1], gated_tolerance(dtype, changes[1]));
    FOVEA_CHECK_CLOSE(up ? dup.at(i) : dgate.at(at + n), changes[2], gated_tolerance(dtype, changes[2]));
  }
}
template <class Run>
void check_gated(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes)
      for (GateKind kind : {GateKind::silu, GateKind::gelu, GateKind::gelu_tanh}) {
        Tensor gate = Tensor::random(dtype, {rows, n}, 1, -6, 6), up = Tensor::random(dtype, {rows, n}, 2),
               both = Tensor::random(dtype, {rows, 2 * n}, 3, -6, 6), gaps(dtype, {rows, n + 3});
        gaps.view.shape[1] = n, gaps.fill_random(4);
        check_gated_of(run, kind, gate, &up);
        check_gated_of(run, kind, gaps, &up);
        check_gated_of(run, kind, both, nullptr);
      }
}
template <class Run>
void check_gated_widths(const Run& run) {
  Tensor x = Tensor::random(Dtype::f32, {2, 6}, 1), y(Dtype::f32, {2, 4});
  for (Tensor* up : {&x, static_cast<Tensor*>(nullptr)}) {
    std::string code = code_of([&] { run("swiglu", SwigluAttrs{4}, {&x, up}, {&y}); });
    FOVEA_CHECK(code == "FOVEA_SHAPE", "a width of 4 for 6 columns");
  }
}

}  // namespace fovea::test
