// Optimiser steps over several tensors on the emulated device against float64 models of the formulas in
// ops/optim/op.cc, over several steps; more tensors than one launch takes, and tensors that begin anywhere.
#include <algorithm>

#include "ops/optim/attrs.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::test {
namespace {

const int64_t kSizes[] = {1, 17, 1030, 20001};
double tolerance(Dtype dtype, double value) {
  return (dtype == Dtype::f64 ? 1e-13 : 3e-6) * (1 + std::fabs(value)) +
         (dtype == Dtype::f16 || dtype == Dtype::bf16 ? ulp(dtype, value) : 0);
}

struct Parameters {
  std::vector<Tensor> p, g, m, v;
  explicit Parameters(Dtype dtype) {
    for (int64_t n : kSizes) {
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

}  // namespace

FOVEA_TEST(optim_adamw) {
  for (Dtype dtype : kFloats)
    for (bool decoupled : {true, false}) {
      Parameters all(dtype);
      for (int step = 1; step <= 3; step++) {
        AdamwAttrs a{.lr = 0.01, .weightDecay = 0.1, .step = step, .decoupled = decoupled};
        all.next_gradients(step);
        auto& [p, g, m, v] = all;
        std::vector<double> p0[4], m0[4], v0[4];
        for (size_t t = 0; t < 4; t++) p0[t] = p[t].values(), m0[t] = m[t].values(), v0[t] = v[t].values();
        run_cuda("adamw_", a,
                 {&p[0], &g[0], &m[0], &v[0], &p[1], &g[1], &m[1], &v[1], &p[2], &g[2], &m[2], &v[2], &p[3], &g[3],
                  &m[3], &v[3]},
                 {});
        for (size_t t = 0; t < 4; t++)
          for (int64_t i = 0; i < kSizes[t]; i++) {
            double x = p0[t][size_t(i)], gradient = g[t].at(i) + (decoupled ? 0 : a.weightDecay * x);
            double m1 = a.beta1 * m0[t][size_t(i)] + (1 - a.beta1) * gradient,
                   v1 = a.beta2 * v0[t][size_t(i)] + (1 - a.beta2) * gradient * gradient;
            double mean = m1 / (1 - std::pow(a.beta1, step)), square = v1 / (1 - std::pow(a.beta2, step));
            double expected = x - a.lr * (mean / (std::sqrt(square) + a.eps) + (decoupled ? a.weightDecay * x : 0));
            FOVEA_CHECK_CLOSE(m[t].at(i), m1, tolerance(m[t].dtype(), m1));
            FOVEA_CHECK_CLOSE(v[t].at(i), v1, tolerance(v[t].dtype(), v1));
            FOVEA_CHECK_CLOSE(p[t].at(i), expected, tolerance(dtype, expected));
          }
      }
    }
}

FOVEA_TEST(optim_sgd) {
  for (Dtype dtype : kFloats)
    for (double momentum : {0.0, 0.9})
      for (bool nesterov : {false, true}) {
        Parameters all(dtype);
        for (int step = 1; step <= 3; step++) {
          SgdAttrs a{.lr = 0.1,
                     .momentum = momentum,
                     .dampening = nesterov ? 0 : 0.2,
                     .weightDecay = 0.05,
                     .nesterov = nesterov,
                     .first = step == 1};
          all.next_gradients(step);
          auto& [p, g, u, unused] = all;
          std::vector<double> x = p[3].values(), velocity = u[3].values();
          auto buffer = [&](size_t t) { return momentum != 0 ? &u[t] : nullptr; };
          run_cuda("sgd_", a, {&p[0], &g[0], buffer(0), &p[2], &g[2], buffer(2), &p[3], &g[3], buffer(3)}, {});
          for (int64_t i = 0; i < kSizes[3]; i++) {
            double gradient = g[3].at(i) + a.weightDecay * x[size_t(i)];
            double u1 = momentum == 0 ? gradient
                        : step == 1   ? gradient
                                      : momentum * velocity[size_t(i)] + (1 - a.dampening) * gradient;
            double expected = x[size_t(i)] - a.lr * (momentum != 0 && nesterov ? gradient + momentum * u1 : u1);
            FOVEA_CHECK_CLOSE(p[3].at(i), expected, tolerance(dtype, expected));
            if (momentum != 0) FOVEA_CHECK_CLOSE(u[3].at(i), u1, tolerance(u[3].dtype(), u1));
          }
        }
      }
  Tensor p = Tensor::random(Dtype::f32, {4}, 1);
  FOVEA_CHECK(code_of([&] {
                run_cuda("sgd_", SgdAttrs{.momentum = 0.9}, {&p, &p, nullptr}, {});
              }) == "FOVEA_ARGUMENT",
              "momentum without a buffer");
}

FOVEA_TEST(optim_gradient_norm_and_clip) {
  for (Dtype dtype : kFloats) {
    Tensor a = Tensor::random(dtype, {20001}, 1), b = Tensor::random(Dtype::f32, {3, 5}, 2), empty(dtype, {0}),
           norm(Dtype::f32, {});
    double squares = 0;
    for (const Tensor* t : {&a, &b})
      for (double x : t->values()) squares += x * x;
    run_cuda("gradNorm", NoAttrs{}, {&a, &empty, &b}, {&norm});
    FOVEA_CHECK_CLOSE(norm.at(0), std::sqrt(squares), 1e-6 * std::sqrt(squares));
    for (double most : {1e9, 1.0}) {
      std::vector<double> before = a.values();
      run_cuda("clip_", ClipAttrs{most}, {&a, &norm, &empty, &norm, &b, &norm}, {});
      double scale = std::min(1.0, most / (norm.at(0) + 1e-6));
      for (int64_t i = 0; i < a.size(); i++)
        FOVEA_CHECK_CLOSE(a.at(i), before[size_t(i)] * scale,
                          scale == 1 ? 0 : tolerance(dtype, before[size_t(i)] * scale) * 1e-2 + ulp(dtype, a.at(i)));
    }
    b.set(7, INFINITY);
    run_cuda("gradNorm", NoAttrs{}, {&a, &b}, {&norm});
    FOVEA_CHECK_CLOSE(norm.at(0), INFINITY, 0);
    norm.set(0, NAN);
    run_cuda("clip_", ClipAttrs{1}, {&b, &norm}, {});
    FOVEA_CHECK_CLOSE(b.at(0), NAN, 0);
    run_cuda("gradNorm", NoAttrs{}, {}, {&norm});
    FOVEA_CHECK_CLOSE(norm.at(0), 0, 0);
  }
}

FOVEA_TEST(optim_many_tensors_and_dtypes) {
  std::vector<Tensor> tensors;
  std::vector<Tensor*> in;
  for (int i = 0; i < 120; i++)
    tensors.push_back(Tensor::random(i % 50 == 7 ? Dtype::f16 : Dtype::f32, {i % 9 * 5}, uint64_t(i)));
  double squares = 0;
  std::vector<std::vector<double>> before;
  Tensor norm(Dtype::f32, {});
  std::vector<Tensor*> pairs;
  for (Tensor& t : tensors) {
    in.push_back(&t), pairs.push_back(&t), pairs.push_back(&norm), before.push_back(t.values());
    for (double x : t.values()) squares += x * x;
  }
  run_cuda("gradNorm", NoAttrs{}, in, {&norm});
  FOVEA_CHECK_CLOSE(norm.at(0), std::sqrt(squares), 1e-6 * std::sqrt(squares));
  run_cuda("clip_", ClipAttrs{1}, pairs, {});
  for (size_t t = 0; t < tensors.size(); t++)
    for (int64_t i = 0; i < tensors[t].size(); i++) {
      const double expected = before[t][size_t(i)] / (norm.at(0) + 1e-6);
      FOVEA_CHECK_CLOSE(tensors[t].at(i), expected, 1e-6 + ulp(tensors[t].dtype(), expected));
    }
}

FOVEA_TEST(optim_tensors_that_begin_anywhere) {
  Tensor p(Dtype::f16, {100}), g(Dtype::f16, {100});
  for (Tensor* t : {&p, &g}) t->view.data += 2, t->view.shape[0] = 98, t->fill_random(t == &p);
  const std::vector<double> before = p.values();
  run_cuda("sgd_", SgdAttrs{.lr = 0.5}, {&p, &g, nullptr}, {});
  for (int64_t i = 0; i < 98; i++) {
    const double expected = before[size_t(i)] - 0.5 * g.at(i);
    FOVEA_CHECK_CLOSE(p.at(i), expected, ulp(Dtype::f16, expected));
  }
}

}  // namespace fovea::test
