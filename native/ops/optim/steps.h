// What an optimiser does to one element, the same on the CPU and on CUDA. A step is made of the attributes, with all
// that does not depend on the element rounded from float64 once; step(p, g, a, b, c) gives the new parameter and
// changes the states, of which it has kStates. The order of operations is PyTorch's, so that float64 agrees with it to
// the last digits. Formulas are in op.cc.
#pragma once
#include "core/inline.h"
#include "ops/optim/attrs.h"
#include "ops/optim/compact.h"

namespace fovea {

FOVEA_INLINE float root_of(float x) {
#if defined(__CUDA_ARCH__)
  return ::sqrtf(x);
#else
  return __builtin_sqrtf(x);
#endif
}
FOVEA_INLINE double root_of(double x) {
#if defined(__CUDA_ARCH__)
  return ::sqrt(x);
#else
  return __builtin_sqrt(x);
#endif
}
FOVEA_HOST_INLINE double without_bias(double beta, int64_t step) { return 1 - __builtin_pow(beta, double(step)); }

// Weight decay: of the gradient, or, where it is decoupled, of the parameter itself.
template <class A>
struct Decay {
  A added, kept;
  bool negated;
  FOVEA_HOST_INLINE Decay(double lr, double weight_decay, bool decoupled, bool maximize)
      : added(A(decoupled ? 0 : weight_decay)), kept(A(decoupled ? 1 - lr * weight_decay : 1)), negated(maximize) {}
  FOVEA_INLINE A gradient(A p, A g) const {
    g = negated ? -g : g;
    return added != 0 ? g + added * p : g;
  }
};

// The running averages of g and of its square that the Adam family has.
template <class A>
struct Moments {
  A rest1, beta2, rest2;
  FOVEA_HOST_INLINE Moments(double beta1, double beta2) : rest1(A(1 - beta1)), beta2(A(beta2)), rest2(A(1 - beta2)) {}
  FOVEA_INLINE void update(A g, A& m, A& v) const {
    m += (g - m) * rest1;
    v = v * beta2 + rest2 * g * g;
  }
};

template <class A>
struct AdamwStep {
  static constexpr int kStates = 3;
  Decay<A> decay;
  Moments<A> moments;
  A step_size, root_correction, eps;
  bool amsgrad;
  FOVEA_HOST_INLINE explicit AdamwStep(const AdamwAttrs& a)
      : decay(a.lr, a.weightDecay, a.decoupled, a.maximize),
        moments(a.beta1, a.beta2),
        step_size(A(a.lr / without_bias(a.beta1, a.step))),
        root_correction(A(__builtin_sqrt(without_bias(a.beta2, a.step)))),
        eps(A(a.eps)),
        amsgrad(a.amsgrad) {}
  FOVEA_INLINE A operator()(A p, A g, A& m, A& v, A& largest) const {
    moments.update(decay.gradient(p, g), m, v);
    largest = v > largest || v != v ? v : largest;
    return p * decay.kept - step_size * m / (root_of(amsgrad ? largest : v) / root_correction + eps);
  }
};

template <class A>
struct RadamStep {
  static constexpr int kStates = 2;
  Decay<A> decay;
  Moments<A> moments;
  A step_size, rectified, eps;  // rectified: 0 while the variance of the second average is not yet tractable
  FOVEA_HOST_INLINE explicit RadamStep(const RadamAttrs& a)
      : decay(a.lr, a.weightDecay, a.decoupled, a.maximize),
        moments(a.beta1, a.beta2),
        step_size(A(a.lr / without_bias(a.beta1, a.step))),
        rectified(A(rectification(a))),
        eps(A(a.eps)) {}
  FOVEA_HOST_INLINE static double rectification(const RadamAttrs& a) {
    const double rest = without_bias(a.beta2, a.step), most = 2 / (1 - a.beta2) - 1;
    const double length = most - 2 * double(a.step) * (1 - rest) / rest;
    if (length <= 5) return 0;
    return __builtin_sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)) *
           __builtin_sqrt(rest);
  }
  FOVEA_INLINE A operator()(A p, A g, A& m, A& v, A&) const {
    moments.update(decay.gradient(p, g), m, v);
    const A scaled = rectified != 0 ? m * (rectified / (root_of(v) + eps)) : m;
    return p * decay.kept - step_size * scaled;
  }
};

template <class A>
struct NadamStep {
  static constexpr int kStates = 2;
  Decay<A> decay;
  Moments<A> moments;
  A gradient_rate, moment_rate, correction, eps;
  FOVEA_HOST_INLINE explicit NadamStep(const NadamAttrs& a)
      : decay(a.lr, a.weightDecay, a.decoupled, a.maximize),
        moments(a.beta1, a.beta2),
        gradient_rate(A(a.gradientRate)),
        moment_rate(A(a.momentRate)),
        correction(A(without_bias(a.beta2, a.step))),
        eps(A(a.eps)) {}
  FOVEA_INLINE A operator()(A p, A g, A& m, A& v, A&) const {
    g = decay.gradient(p, g);
    moments.update(g, m, v);
    const A divisor = root_of(v / correction) + eps;
    return p * decay.kept - gradient_rate * g / divisor - moment_rate * m / divisor;
  }
};

template <class A>
struct AdagradStep {
  static constexpr int kStates = 1;
  Decay<A> decay;
  A lr, eps;
  FOVEA_HOST_INLINE explicit AdagradStep(const AdagradAttrs& a)
      : decay(a.lr, a.weightDecay, false, a.maximize), lr(A(a.lr)), eps(A(a.eps)) {}
  FOVEA_INLINE A operator()(A p, A g, A& sum, A&, A&) const {
    g = decay.gradient(p, g);
    sum += g * g;
    return p - lr * g / (root_of(sum) + eps);
  }
};

template <class A>
struct RmspropStep {
  static constexpr int kStates = 3;
  Decay<A> decay;
  A lr, alpha, rest, eps, momentum;
  bool centered;
  FOVEA_HOST_INLINE explicit RmspropStep(const RmspropAttrs& a)
      : decay(a.lr, a.weightDecay, false, a.maximize),
        lr(A(a.lr)),
        alpha(A(a.alpha)),
        rest(A(1 - a.alpha)),
        eps(A(a.eps)),
        momentum(A(a.momentum)),
        centered(a.centered) {}
  FOVEA_INLINE A operator()(A p, A g, A& v, A& u, A& mean) const {
    g = decay.gradient(p, g);
    v = v * alpha + rest * g * g;
    mean += (g - mean) * rest;
    const A scaled = g / (root_of(centered ? v - mean * mean : v) + eps);
    u = momentum != 0 ? momentum * u + scaled : scaled;  // without momentum, u may hold anything
    return p - lr * u;
  }
};

template <class A>
struct LionStep {
  static constexpr int kStates = 1;
  Decay<A> decay;
  A lr, beta1, rest1, beta2, rest2;
  FOVEA_HOST_INLINE explicit LionStep(const LionAttrs& a)
      : decay(a.lr, a.weightDecay, true, a.maximize),
        lr(A(a.lr)),
        beta1(A(a.beta1)),
        rest1(A(1 - a.beta1)),
        beta2(A(a.beta2)),
        rest2(A(1 - a.beta2)) {}
  FOVEA_INLINE A operator()(A p, A g, A& m, A&, A&) const {
    g = decay.gradient(p, g);
    const A c = beta1 * m + rest1 * g;
    m = beta2 * m + rest2 * g;
    return p * decay.kept - lr * (c > 0 ? A(1) : c < 0 ? A(-1) : c);
  }
};

template <class A>
struct SophiaStep {
  static constexpr int kStates = 2;
  Decay<A> decay;
  A lr, rest1, gamma, eps;
  FOVEA_HOST_INLINE explicit SophiaStep(const SophiaAttrs& a)
      : decay(a.lr, a.weightDecay, true, false), lr(A(a.lr)), rest1(A(1 - a.beta1)), gamma(A(a.gamma)), eps(A(a.eps)) {}
  FOVEA_INLINE A operator()(A p, A g, A& m, A& h, A&) const {
    m += (g - m) * rest1;
    const A curvature = gamma * h, ratio = m / (curvature < eps ? eps : curvature);  // a NaN of h stays one
    return p * decay.kept - lr * (ratio > 1 ? A(1) : ratio < -1 ? A(-1) : ratio);
  }
};

template <class A>
struct SgdStep {
  static constexpr int kStates = 1;
  Decay<A> decay;
  A lr, momentum, damping;
  bool nesterov, first;
  FOVEA_HOST_INLINE explicit SgdStep(const SgdAttrs& a)
      : decay(a.lr, a.weightDecay, false, a.maximize),
        lr(A(a.lr)),
        momentum(A(a.momentum)),
        damping(A(1 - a.dampening)),
        nesterov(a.nesterov),
        first(a.first || a.momentum == 0) {}
  FOVEA_INLINE A operator()(A p, A g, A& u, A&, A&) const {
    g = decay.gradient(p, g);
    u = first ? g : momentum * u + damping * g;
    return p - lr * (nesterov ? g + momentum * u : u);
  }
};

// Where compact states of `states` kinds, each with its scales behind them all, do not fit; scales are for bytes alone.
template <class AnyCall>
FOVEA_HOST_INLINE void check_scales(const AnyCall& call, int states) {
  const int inputs = 2 + 2 * states;
  for (int64_t i = 0; i < call.in.size(); i++) {
    const int place = int(i % inputs) - 2;
    if (place < 0 || place >= states) continue;
    const View &state = call.in[i], &scales = call.in[i + states];
    const bool bytes = state.present() && state.dtype == Dtype::u8;
    const int64_t runs = bytes ? (state.size() + kStateRun - 1) / kStateRun : 0;
    if (scales.present() != bytes || (bytes && scales.size() != runs))
      call.fail("FOVEA_SHAPE", "state %d of parameter %lld needs %lld scales, received %lld; load a whole state", place,
                static_cast<long long>(i / inputs), static_cast<long long>(runs),
                static_cast<long long>(scales.present() ? scales.size() : 0));
  }
}
// Fails where option `option` is on but a tuple of `inputs` views lacks the one at `place`.
template <class AnyCall>
FOVEA_HOST_INLINE void need_state(const AnyCall& call, int inputs, int place, bool on, const char* name,
                                  const char* option) {
  for (int64_t i = 0; on && i < call.in.size(); i += inputs)
    if (!call.in[i + place].present())
      call.fail("FOVEA_ARGUMENT", "parameter %lld has no %s, which %s needs; give one or leave it out",
                static_cast<long long>(i / inputs), name, option);
}
template <class AnyCall>
FOVEA_HOST_INLINE void check_states(const AnyCall& call, const AdamwAttrs& a) {
  need_state(call, 5, 4, a.amsgrad, "vMax", "amsgrad");
}
template <class AnyCall>
FOVEA_HOST_INLINE void check_states(const AnyCall& call, const RmspropAttrs& a) {
  need_state(call, 5, 3, a.momentum != 0, "momentum buffer u", "momentum");
  need_state(call, 5, 4, a.centered, "average m", "centered");
}
template <class AnyCall>
FOVEA_HOST_INLINE void check_states(const AnyCall& call, const SgdAttrs& a) {
  need_state(call, 3, 2, a.momentum != 0, "momentum buffer u", "momentum");
}
template <class AnyCall, class Attrs>
FOVEA_HOST_INLINE void check_states(const AnyCall&, const Attrs&) {}
template <class AnyCall>
FOVEA_HOST_INLINE void check_compact_states(const AnyCall& call, const AdamwAttrs& a) {
  need_state(call, 8, 4, a.amsgrad, "vMax", "amsgrad");
  check_scales(call, 3);
}
template <class AnyCall>
FOVEA_HOST_INLINE void check_compact_states(const AnyCall& call, const LionAttrs&) {
  check_scales(call, 1);
}

}  // namespace fovea
