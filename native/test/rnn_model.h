// Recurrent cells, forward and backward, against the formulas in float64, on the CPU and on emulated devices: all
// dtypes, with and without a hidden projection and the gradients of either result.
#pragma once
#include "core/attrs.h"
#include "test/harness.h"

namespace fovea::test {

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }
inline double rnn_tolerance(Dtype dtype, double value) {
  const bool half = dtype == Dtype::f16 || dtype == Dtype::bf16;
  return (dtype == Dtype::f64 ? 1e-13 : 2e-6) * (1 + std::fabs(value)) + (half ? ulp(dtype, value) : 0);
}

template <class Run>
void check_lstm_of(const Run& run, Tensor& x, Tensor* hidden, Tensor& c, Tensor* dh, Tensor* dnext) {
  const Dtype dtype = x.dtype();
  const int64_t rows = c.view.dim(0), n = c.view.dim(1);
  Tensor h(dtype, {rows, n}), next(dtype, {rows, n}), dx(dtype, {rows, 4 * n}), dc(dtype, {rows, n});
  run("lstmCell", NoAttrs{}, {&x, hidden, &c}, {&h, &next});
  run("lstmCellBackward_", NoAttrs{}, {&x, hidden, &c, dh, dnext, &dx, &dc}, {});
  for (int64_t at = 0; at < rows * n; at++) {
    const int64_t first = at / n * 4 * n + at % n;
    auto z = [&](int64_t k) { return x.at(first + k * n) + (hidden ? hidden->at(first + k * n) : 0); };
    const double i = logistic(z(0)), f = logistic(z(1)), g = std::tanh(z(2)), o = logistic(z(3)), before = c.at(at);
    const double now = f * before + i * g, t = std::tanh(now), d = dh ? dh->at(at) : 0;
    const double dnow = (dnext ? dnext->at(at) : 0) + d * o * (1 - t * t);
    const double expected[] = {dnow * g * i * (1 - i), dnow * before * f * (1 - f), dnow * i * (1 - g * g),
                               d * t * o * (1 - o)};
    FOVEA_CHECK_CLOSE(h.at(at), o * t, rnn_tolerance(dtype, o * t));
    FOVEA_CHECK_CLOSE(next.at(at), now, rnn_tolerance(dtype, now));
    for (int64_t k = 0; k < 4; k++)
      FOVEA_CHECK_CLOSE(dx.at(first + k * n), expected[k], rnn_tolerance(dtype, expected[k]));
    FOVEA_CHECK_CLOSE(dc.at(at), dnow * f, rnn_tolerance(dtype, dnow * f));
  }
}
template <class Run>
void check_lstm(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes) {
      Tensor x = Tensor::random(dtype, {rows, 4 * n}, 1, -6, 6), hidden = Tensor::random(dtype, {rows, 4 * n}, 2),
             c = Tensor::random(dtype, {rows, n}, 3), dh = Tensor::random(dtype, {rows, n}, 4),
             dnext = Tensor::random(dtype, {rows, n}, 5);
      check_lstm_of(run, x, &hidden, c, &dh, &dnext);
      check_lstm_of(run, x, nullptr, c, &dh, nullptr);
      check_lstm_of(run, x, &hidden, c, nullptr, &dnext);
    }
}

template <class Run>
void check_gru_of(const Run& run, Tensor& x, Tensor& hidden, Tensor& h, Tensor& dnext) {
  const Dtype dtype = x.dtype();
  const int64_t rows = h.view.dim(0), n = h.view.dim(1);
  Tensor next(dtype, {rows, n}), dx(dtype, {rows, 3 * n}), dhidden(dtype, {rows, 3 * n}), dh(dtype, {rows, n});
  run("gruCell", NoAttrs{}, {&x, &hidden, &h}, {&next});
  run("gruCellBackward_", NoAttrs{}, {&x, &hidden, &h, &dnext, &dx, &dhidden, &dh}, {});
  for (int64_t at = 0; at < rows * n; at++) {
    const int64_t first = at / n * 3 * n + at % n;
    auto z = [&](int64_t k) { return x.at(first + k * n) + hidden.at(first + k * n); };
    const double r = logistic(z(0)), u = logistic(z(1)), held = hidden.at(first + 2 * n);
    const double m = std::tanh(x.at(first + 2 * n) + r * held), d = dnext.at(at), now = m + u * (h.at(at) - m);
    const double dm = d * (1 - u) * (1 - m * m), dr = dm * held * r * (1 - r), du = d * (h.at(at) - m) * u * (1 - u);
    const double expected[2][3] = {{dr, du, dm}, {dr, du, dm * r}};
    FOVEA_CHECK_CLOSE(next.at(at), now, rnn_tolerance(dtype, now));
    for (int64_t k = 0; k < 3; k++) {
      FOVEA_CHECK_CLOSE(dx.at(first + k * n), expected[0][k], rnn_tolerance(dtype, expected[0][k]));
      FOVEA_CHECK_CLOSE(dhidden.at(first + k * n), expected[1][k], rnn_tolerance(dtype, expected[1][k]));
    }
    FOVEA_CHECK_CLOSE(dh.at(at), d * u, rnn_tolerance(dtype, d * u));
  }
}
template <class Run>
void check_gru(const Run& run, const Shapes& shapes) {
  for (Dtype dtype : kFloats)
    for (auto [rows, n] : shapes) {
      Tensor x = Tensor::random(dtype, {rows, 3 * n}, 1, -6, 6), hidden = Tensor::random(dtype, {rows, 3 * n}, 2),
             h = Tensor::random(dtype, {rows, n}, 3), dnext = Tensor::random(dtype, {rows, n}, 4);
      check_gru_of(run, x, hidden, h, dnext);
    }
}

template <class Run>
void check_cell_widths(const Run& run) {
  Tensor x = Tensor::random(Dtype::f32, {2, 6}, 1), state = Tensor::random(Dtype::f32, {2, 3}, 2),
         h(Dtype::f32, {2, 3}), c(Dtype::f32, {2, 3});
  std::string lstm = code_of([&] { run("lstmCell", NoAttrs{}, {&x, nullptr, &state}, {&h, &c}); });
  std::string gru = code_of([&] { run("gruCell", NoAttrs{}, {&x, &x, &state}, {&h}); });
  FOVEA_CHECK(lstm == "FOVEA_SHAPE" && gru == "FOVEA_SHAPE", "6 columns for a state of 3");
}

}  // namespace fovea::test
