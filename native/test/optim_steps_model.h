// The optimisers besides adamw_ and sgd_, and the options of these, against the formulas in ops/optim/op.cc in float64,
// over several steps, on the CPU and on emulated devices.
#pragma once
#include <functional>

#include "test/optim_model.h"

namespace fovea::test {

// One element: the parameter, what a step adds to the gradient or takes off the parameter, and three states.
struct Element {
  double p, g, s[3];
};
struct Options {
  double lr, weight_decay;
  bool decoupled, maximize;
  void apply(Element& e) const {
    e.g = (maximize ? -e.g : e.g) + (decoupled ? 0 : weight_decay * e.p);
    e.p *= decoupled ? 1 - lr * weight_decay : 1;
  }
};
inline void average(double& mean, double beta, double x) { mean = beta * mean + (1 - beta) * x; }

// `states` tensors besides p and g; `model` does to an element what the op does, and makes p NaN where roundings
// decide.
template <class Run, class Attrs>
void check_steps(const Run& run, const char* name, int states, int64_t largest,
                 const std::function<Attrs(int step)>& attrs_of,
                 const std::function<void(Element&, const Attrs&)>& model) {
  for (Dtype dtype : kFloats) {
    Parameters all(dtype, largest);
    std::vector<Tensor> third;
    for (int64_t n : all.sizes) {
      third.push_back(Tensor(accumulator_of(dtype), {n}));
      third.back().fill(std::vector<double>(size_t(n), 0));
    }
    for (int step = 1; step <= 3; step++) {
      all.next_gradients(step);
      const Attrs attrs = attrs_of(step);
      std::vector<Tensor*> in;
      std::vector<Element> before;
      for (size_t t = 0; t < 4; t++) {
        Tensor* tensors[] = {&all.p[t], &all.g[t], &all.m[t], &all.v[t], &third[t]};
        in.insert(in.end(), tensors, tensors + 2 + states);
        for (int64_t i = 0; i < all.sizes[t]; i++)
          before.push_back(
              {tensors[0]->at(i), tensors[1]->at(i), {tensors[2]->at(i), tensors[3]->at(i), tensors[4]->at(i)}});
      }
      run(name, attrs, in, {});
      size_t at = 0;
      for (size_t t = 0; t < 4; t++)
        for (int64_t i = 0; i < all.sizes[t]; i++) {
          Element& e = before[at++];
          model(e, attrs);
          if (!std::isnan(e.p)) FOVEA_CHECK_CLOSE(all.p[t].at(i), e.p, optim_tolerance(dtype, e.p));
          Tensor* tensors[] = {&all.m[t], &all.v[t], &third[t]};
          for (int s = 0; s < states; s++)
            FOVEA_CHECK_CLOSE(tensors[s]->at(i), e.s[s], optim_tolerance(tensors[s]->dtype(), e.s[s]));
        }
    }
  }
}

template <class Run>
void check_amsgrad(const Run& run, int64_t largest) {
  check_steps<Run, AdamwAttrs>(
      run, "adamw_", 3, largest,
      [](int step) { return AdamwAttrs{.lr = 0.01, .step = step, .amsgrad = true, .maximize = true}; },
      [](Element& e, const AdamwAttrs& a) {
        Options{a.lr, a.weightDecay, a.decoupled, a.maximize}.apply(e);
        average(e.s[0], a.beta1, e.g), average(e.s[1], a.beta2, e.g * e.g);
        e.s[2] = std::max(e.s[2], e.s[1]);
        const double square = e.s[2] / (1 - std::pow(a.beta2, a.step));
        e.p -= a.lr * e.s[0] / (1 - std::pow(a.beta1, a.step)) / (std::sqrt(square) + a.eps);
      });
  Tensor p = Tensor::random(Dtype::f32, {4}, 1);
  std::string code = code_of([&] { run("adamw_", AdamwAttrs{.amsgrad = true}, {&p, &p, &p, &p, nullptr}, {}); });
  FOVEA_CHECK(code == "FOVEA_ARGUMENT", "amsgrad without its maximum");
}

template <class Run>
void check_radam(const Run& run, int64_t largest) {
  for (double beta2 : {0.5, 0.999})  // rectified from the first steps on, or not within three
    for (bool decoupled : {false, true})
      check_steps<Run, RadamAttrs>(
          run, "radam_", 2, largest,
          [&](int step) {
            return RadamAttrs{.lr = 0.01, .beta2 = beta2, .weightDecay = 0.1, .step = 3 + step, .decoupled = decoupled};
          },
          [](Element& e, const RadamAttrs& a) {
            Options{a.lr, a.weightDecay, a.decoupled, a.maximize}.apply(e);
            average(e.s[0], a.beta1, e.g), average(e.s[1], a.beta2, e.g * e.g);
            const double power = std::pow(a.beta2, a.step), most = 2 / (1 - a.beta2) - 1;
            const double length = most - 2 * double(a.step) * power / (1 - power);
            const double mean = a.lr * e.s[0] / (1 - std::pow(a.beta1, a.step));
            const double factor = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length);
            e.p -= length > 5 ? mean * std::sqrt(factor * (1 - power)) / (std::sqrt(e.s[1]) + a.eps) : mean;
          });
}

template <class Run>
void check_nadam(const Run& run, int64_t largest) {
  check_steps<Run, NadamAttrs>(
      run, "nadam_", 2, largest,
      [](int step) { return NadamAttrs{.weightDecay = 0.1, .gradientRate = 0.01, .momentRate = 0.02, .step = step}; },
      [](Element& e, const NadamAttrs& a) {
        Options{a.lr, a.weightDecay, a.decoupled, a.maximize}.apply(e);
        average(e.s[0], a.beta1, e.g), average(e.s[1], a.beta2, e.g * e.g);
        const double root = std::sqrt(e.s[1] / (1 - std::pow(a.beta2, a.step))) + a.eps;
        e.p -= (a.gradientRate * e.g + a.momentRate * e.s[0]) / root;
      });
}

template <class Run>
void check_adagrad_and_lion(const Run& run, int64_t largest) {
  check_steps<Run, AdagradAttrs>(
      run, "adagrad_", 1, largest, [](int) { return AdagradAttrs{.eps = 1e-3, .weightDecay = 0.1, .maximize = true}; },
      [](Element& e, const AdagradAttrs& a) {
        Options{a.lr, a.weightDecay, false, a.maximize}.apply(e);
        e.s[0] += e.g * e.g;
        e.p -= a.lr * e.g / (std::sqrt(e.s[0]) + a.eps);
      });
  check_steps<Run, LionAttrs>(
      run, "lion_", 1, largest, [](int) { return LionAttrs{.lr = 0.01, .weightDecay = 0.1}; },
      [](Element& e, const LionAttrs& a) {
        Options{a.lr, a.weightDecay, true, a.maximize}.apply(e);
        const double c = a.beta1 * e.s[0] + (1 - a.beta1) * e.g;
        average(e.s[0], a.beta2, e.g);
        e.p -= a.lr * (std::fabs(c) < 1e-6 ? NAN : c > 0 ? 1 : -1);
      });
}

template <class Run>
void check_sophia(const Run& run, int64_t largest) {
  check_steps<Run, SophiaAttrs>(
      run, "sophia_", 2, largest,
      [](int) { return SophiaAttrs{.lr = 0.01, .beta1 = 0.7, .eps = 0.3, .weightDecay = 0.1}; },
      [](Element& e, const SophiaAttrs& a) {
        Options{a.lr, a.weightDecay, true, false}.apply(e);
        average(e.s[0], a.beta1, e.g);
        e.p -= a.lr * std::clamp(e.s[0] / std::max(a.gamma * e.s[1], a.eps), -1.0, 1.0);
      });
  // Curvatures above and below the least divisor, negative, and NaN.
  const std::vector<double> h{8, -8, 0.1, 0, NAN}, m{1, 1, -0.01, 4, 1};
  Tensor p(Dtype::f32, {5}), g(Dtype::f32, {5}), average_of(Dtype::f32, {5}), curvature(Dtype::f32, {5});
  p.fill({1, 1, 1, 1, 1}), g.fill(m), average_of.fill(m), curvature.fill(h);
  run("sophia_", SophiaAttrs{.lr = 0.5, .gamma = 0.25, .eps = 0.1, .weightDecay = 0}, {&p, &g, &average_of, &curvature},
      {});
  const double expected[] = {0.75, 0.5, 1.05, 0.5, NAN};
  for (int64_t i = 0; i < 5; i++) {
    FOVEA_CHECK_CLOSE(p.at(i), expected[i], 1e-6);
    FOVEA_CHECK_CLOSE(curvature.at(i), round_to(Dtype::f32, h[size_t(i)]), 0);
  }
}

template <class Run>
void check_rmsprop(const Run& run, int64_t largest) {
  // eps is far from 0, since v - m^2 nearly vanishes in the first step.
  check_steps<Run, RmspropAttrs>(
      run, "rmsprop_", 3, largest,
      [](int) { return RmspropAttrs{.alpha = 0.5, .eps = 0.1, .momentum = 0.9, .centered = true}; },
      [](Element& e, const RmspropAttrs& a) {
        average(e.s[0], a.alpha, e.g * e.g), average(e.s[2], a.alpha, e.g);
        e.s[1] = a.momentum * e.s[1] + e.g / (std::sqrt(e.s[0] - e.s[2] * e.s[2]) + a.eps);
        e.p -= a.lr * e.s[1];
      });
  // Without momentum, an infinite step leaves nothing behind for others.
  const int64_t n = 3000;
  Tensor p = Tensor::random(Dtype::f32, {n}, 1), g = Tensor::random(Dtype::f32, {n}, 2, 1, 2), v(Dtype::f32, {n});
  v.fill(std::vector<double>(size_t(n), 0));
  g.set(5, INFINITY), g.set(7, NAN);
  run("rmsprop_", RmspropAttrs{}, {&p, &g, &v, nullptr, nullptr}, {});
  for (int64_t i = 8; i < n; i++) FOVEA_CHECK(std::isfinite(p.at(i)), "element %lld", static_cast<long long>(i));
  std::string code = code_of([&] { run("rmsprop_", RmspropAttrs{.centered = true}, {&p, &g, &v, &v, nullptr}, {}); });
  FOVEA_CHECK(code == "FOVEA_ARGUMENT", "centered without an average");
}

}  // namespace fovea::test
