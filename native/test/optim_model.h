// Optimiser steps over several tensors against the formulas in ops/optim/op.cc in float64, over several steps, on the
// CPU and on emulated devices.
#pragma once
#include <algorithm>

#include "ops/optim/attrs.h"
#include "test/harness.h"

namespace fovea::test {

inline double optim_tolerance(Dtype dtype, double value) {
  return (dtype == Dtype::f64 ? 1e-13 : 3e-6) * (1 + std::fabs(value)) +
         (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

// Four tensors, the last of `largest` elements.
struct Parameters {
  std::vector<int64_t> sizes;
  std::vector<Tensor> p, g, m, v;
  Parameters(Dtype dtype, int64_t largest) : sizes{1, 17, 1030, largest} {
    for (int64_t n : sizes) {
      p.push_back(Tensor::random(dtype, {n}, uint64_t(n)));
      g.push_back(Tensor(dtype, {n}));
      for (auto* moments : {&m, &v}) {
        moments->push_back(Tensor(accumulator_of(dtype), {n}));
        moments->back().fill(std::vector<double>(size_t(n), 0));
      }
    }
  }
  void next_gradients(int step) {
    for (Tensor& t : g) t.fill_random(uint64_t(100 + step));
  }
};

template <class Run>
void check_adamw_step(const Run& run, Dtype dtype, Parameters& all, const AdamwAttrs& a) {
  auto& [sizes, p, g, m, v] = all;
  std::vector<double> p0[4], m0[4], v0[4];
  for (size_t t = 0; t < 4; t++) p0[t] = p[t].values(), m0[t] = m[t].values(), v0[t] = v[t].values();
  std::vector<Tensor*> in;
  for (size_t t = 0; t < 4; t++) in.insert(in.end(), {&p[t], &g[t], &m[t], &v[t], nullptr});
  run("adamw_", a, in, {});
  for (size_t t = 0; t < 4; t++)
    for (int64_t i = 0; i < sizes[t]; i++) {
      double x = p0[t][size_t(i)], gradient = g[t].at(i) + (a.decoupled ? 0 : a.weightDecay * x);
      double m1 = a.beta1 * m0[t][size_t(i)] + (1 - a.beta1) * gradient,
             v1 = a.beta2 * v0[t][size_t(i)] + (1 - a.beta2) * gradient * gradient;
      double mean = m1 / (1 - std::pow(a.beta1, a.step)), square = v1 / (1 - std::pow(a.beta2, a.step));
      double expected = x - a.lr * (mean / (std::sqrt(square) + a.eps) + (a.decoupled ? a.weightDecay * x : 0));
      FOVEA_CHECK_CLOSE(m[t].at(i), m1, optim_tolerance(m[t].dtype(), m1));
      FOVEA_CHECK_CLOSE(v[t].at(i), v1, optim_tolerance(v[t].dtype(), v1));
      FOVEA_CHECK_CLOSE(p[t].at(i), expected, optim_tolerance(dtype, expected));
    }
}
template <class Run>
void check_adamw(const Run& run, int64_t largest) {
  for (Dtype dtype : kFloats)
    for (bool decoupled : {true, false}) {
      Parameters all(dtype, largest);
      for (int step = 1; step <= 3; step++) {
        all.next_gradients(step);
        check_adamw_step(run, dtype, all,
                         AdamwAttrs{.lr = 0.01, .weightDecay = 0.1, .step = step, .decoupled = decoupled});
      }
    }
}

// Of three tensors at once, of which the last is looked at.
template <class Run>
void check_sgd_step(const Run& run, Dtype dtype, Parameters& all, const SgdAttrs& a) {
  auto& [sizes, p, g, u, unused] = all;
  std::vector<double> x = p[3].values(), velocity = u[3].values();
  auto buffer = [&](size_t t) { return a.momentum != 0 ? &u[t] : nullptr; };
  run("sgd_", a, {&p[0], &g[0], buffer(0), &p[2], &g[2], buffer(2), &p[3], &g[3], buffer(3)}, {});
  for (int64_t i = 0; i < sizes[3]; i++) {
    double gradient = g[3].at(i) + a.weightDecay * x[size_t(i)];
    double u1 = a.momentum == 0 || a.first ? gradient : a.momentum * velocity[size_t(i)] + (1 - a.dampening) * gradient;
    double expected = x[size_t(i)] - a.lr * (a.momentum != 0 && a.nesterov ? gradient + a.momentum * u1 : u1);
    FOVEA_CHECK_CLOSE(p[3].at(i), expected, optim_tolerance(dtype, expected));
    if (a.momentum != 0) FOVEA_CHECK_CLOSE(u[3].at(i), u1, optim_tolerance(u[3].dtype(), u1));
  }
}
template <class Run>
void check_sgd(const Run& run, int64_t largest) {
  for (Dtype dtype : kFloats)
    for (double momentum : {0.0, 0.9})
      for (bool nesterov : {false, true}) {
        Parameters all(dtype, largest);
        for (int step = 1; step <= 3; step++) {
          all.next_gradients(step);
          check_sgd_step(run, dtype, all,
                         SgdAttrs{.lr = 0.1,
                                  .momentum = momentum,
                                  .dampening = nesterov ? 0 : 0.2,
                                  .weightDecay = 0.05,
                                  .nesterov = nesterov,
                                  .first = step == 1});
        }
      }
  Tensor p = Tensor::random(Dtype::f32, {4}, 1);
  std::string code = code_of([&] { run("sgd_", SgdAttrs{.momentum = 0.9}, {&p, &p, nullptr}, {}); });
  FOVEA_CHECK(code == "FOVEA_ARGUMENT", "momentum without a buffer");
}

template <class Run>
void check_gradient_norm_and_clip(const Run& run, int64_t largest) {
  for (Dtype dtype : kFloats) {
    Tensor a = Tensor::random(dtype, {largest}, 1), b = Tensor::random(Dtype::f32, {3, 5}, 2), empty(dtype, {0}),
           norm(Dtype::f32, {});
    double squares = 0;
    for (const Tensor* t : {&a, &b})
      for (double x : t->values()) squares += x * x;
    run("gradNorm", NoAttrs{}, {&a, &empty, &b}, {&norm});
    FOVEA_CHECK_CLOSE(norm.at(0), std::sqrt(squares), 1e-6 * std::sqrt(squares));
    for (double most : {1e9, 1.0}) {
      std::vector<double> before = a.values();
      run("clip_", ClipAttrs{most}, {&a, &norm, &empty, &norm, &b, &norm}, {});
      double scale = std::min(1.0, most / (norm.at(0) + 1e-6));
      for (int64_t i = 0; i < a.size(); i++) {
        double expected = before[size_t(i)] * scale;
        FOVEA_CHECK_CLOSE(a.at(i), expected,
                          scale == 1 ? 0 : optim_tolerance(dtype, expected) * 1e-2 + ulp(dtype, a.at(i)));
      }
    }
    b.set(7, INFINITY);
    run("gradNorm", NoAttrs{}, {&a, &b}, {&norm});
    FOVEA_CHECK_CLOSE(norm.at(0), INFINITY, 0);
    norm.set(0, NAN);
    run("clip_", ClipAttrs{1}, {&b, &norm}, {});
    FOVEA_CHECK_CLOSE(b.at(0), NAN, 0);
    run("gradNorm", NoAttrs{}, {}, {&norm});
    FOVEA_CHECK_CLOSE(norm.at(0), 0, 0);
  }
}

}  // namespace fovea::test
