// States of optimisers in 16 and 8 bits (ops/optim/compact.h): the grid itself, and steps from what the states held
// before, in float64, whose new states are neighbours of what was computed. On the CPU and on emulated devices.
#pragma once
#include <functional>

#include "ops/optim/compact.h"
#include "test/optim_steps_model.h"

namespace fovea::test {

// One state of one parameter.
struct CompactTensor {
  Tensor values, scales;
  bool is_signed;
  CompactTensor(Dtype dtype, int64_t n, bool is_signed)
      : values(dtype, {n}), scales(Dtype::f32, {(n + kStateRun - 1) / kStateRun}), is_signed(is_signed) {
    values.fill(std::vector<double>(size_t(n), 0));
    scales.fill(std::vector<double>(size_t(scales.size()), 0));
  }
  bool bytes() const { return values.dtype() == Dtype::u8; }
  Tensor* scales_or_none() { return bytes() ? &scales : nullptr; }
  double decoded(uint32_t code) const { return is_signed ? decode_signed(code) : decode_positive(code); }
  double at(int64_t i) const {
    return bytes() ? decoded(uint32_t(values.at(i))) * scales.at(i / kStateRun) : values.at(i);
  }
  // How far neighbours of element i are apart.
  double distance(int64_t i) const {
    if (!bytes()) return 2 * ulp(Dtype::bf16, values.at(i));
    const uint32_t code = uint32_t(values.at(i)) & (is_signed ? 127u : 255u), last = is_signed ? 127 : 255;
    const double above = code < last ? decoded(code + 1) - decoded(code) : 0;
    return std::max(above, code > 0 ? decoded(code) - decoded(code - 1) : 0) * scales.at(i / kStateRun);
  }
};

template <class Run, class Attrs>
void check_compact_steps(const Run& run, const char* name, int states, int64_t largest,
                         const std::function<Attrs(int step)>& attrs_of,
                         const std::function<void(Element&, const Attrs&)>& model) {
  for (Dtype kept : {Dtype::bf16, Dtype::u8})
    for (Dtype dtype : kFloats) {
      Parameters all(dtype, largest);
      std::vector<std::vector<CompactTensor>> compact(4);
      for (size_t t = 0; t < 4; t++)
        for (int s = 0; s < states; s++) compact[t].emplace_back(kept, all.sizes[t], s == 0);
      for (int step = 1; step <= 3; step++) {
        all.next_gradients(step);
        const Attrs attrs = attrs_of(step);
        std::vector<Tensor*> in;
        std::vector<Element> before;
        for (size_t t = 0; t < 4; t++) {
          in.insert(in.end(), {&all.p[t], &all.g[t]});
          for (CompactTensor& state : compact[t]) in.push_back(&state.values);
          for (CompactTensor& state : compact[t]) in.push_back(state.scales_or_none());
          for (int64_t i = 0; i < all.sizes[t]; i++) {
            before.push_back({all.p[t].at(i), all.g[t].at(i), {}});
            for (int s = 0; s < states; s++) before.back().s[s] = compact[t][size_t(s)].at(i);
          }
        }
        run(name, attrs, in, {});
        size_t at = 0;
        for (size_t t = 0; t < 4; t++)
          for (int64_t i = 0; i < all.sizes[t]; i++) {
            Element& e = before[at++];
            model(e, attrs);
            if (!std::isnan(e.p)) FOVEA_CHECK_CLOSE(all.p[t].at(i), e.p, 3e-6 + optim_tolerance(dtype, e.p));
            for (int s = 0; s < states; s++) {
              const CompactTensor& state = compact[t][size_t(s)];
              FOVEA_CHECK_CLOSE(state.at(i), e.s[s], state.distance(i) + 1e-6 * (1 + std::fabs(e.s[s])));
              FOVEA_CHECK(s == 0 || e.s[s] == 0 || state.at(i) > 0, "state %d, element %lld", s,
                          static_cast<long long>(i));
            }
          }
      }
    }
}

template <class Run>
void check_compact_adamw(const Run& run, int64_t largest) {
  check_compact_steps<Run, AdamwAttrs>(
      run, "adamwCompact_", 3, largest,
      [](int step) { return AdamwAttrs{.lr = 0.01, .eps = 1e-3, .step = step, .amsgrad = step > 1, .maximize = true}; },
      [](Element& e, const AdamwAttrs& a) {
        Options{a.lr, a.weightDecay, a.decoupled, a.maximize}.apply(e);
        average(e.s[0], a.beta1, e.g), average(e.s[1], a.beta2, e.g * e.g);
        e.s[2] = std::max(e.s[2], e.s[1]);
        const double square = (a.amsgrad ? e.s[2] : e.s[1]) / (1 - std::pow(a.beta2, a.step));
        e.p -= a.lr * e.s[0] / (1 - std::pow(a.beta1, a.step)) / (std::sqrt(square) + a.eps);
      });
  const int64_t n = 300;
  Tensor p = Tensor::random(Dtype::f32, {n}, 1), g = Tensor::random(Dtype::f32, {n}, 2);
  CompactTensor m(Dtype::u8, n, true), v(Dtype::u8, n, false);
  Tensor few(Dtype::f32, {1});
  auto code = [&](bool amsgrad, Tensor* scales) {
    return code_of([&] {
      run("adamwCompact_", AdamwAttrs{.amsgrad = amsgrad},
          {&p, &g, &m.values, &v.values, nullptr, &m.scales, scales, nullptr}, {});
    });
  };
  FOVEA_CHECK(code(true, &v.scales) == "FOVEA_ARGUMENT", "amsgrad without its maximum");
  FOVEA_CHECK(code(false, nullptr) == "FOVEA_SHAPE", "bytes without scales");
  FOVEA_CHECK(code(false, &few) == "FOVEA_SHAPE", "too few scales");
  // What is not finite shows in its run, and in no other.
  for (double bad : {double(NAN), double(INFINITY), 1e25}) {  // of the last, the square is infinite
    CompactTensor m1(Dtype::u8, n, true), v1(Dtype::u8, n, false);
    for (int step = 1; step <= 2; step++) {
      g.fill_random(uint64_t(step)).set(5, step == 1 ? bad : 1);
      run("adamwCompact_", AdamwAttrs{.step = step},
          {&p, &g, &m1.values, &v1.values, nullptr, &m1.scales, &v1.scales, nullptr}, {});
    }
    FOVEA_CHECK(std::isnan(p.at(5)) && std::isnan(p.at(6)) && std::isfinite(p.at(290)), "%g", bad);
    p.fill_random(1);
  }
}

template <class Run>
void check_compact_lion(const Run& run, int64_t largest) {
  check_compact_steps<Run, LionAttrs>(
      run, "lionCompact_", 1, largest, [](int step) { return LionAttrs{.lr = 0.01, .weightDecay = 0.1, .step = step}; },
      [](Element& e, const LionAttrs& a) {
        Options{a.lr, a.weightDecay, true, a.maximize}.apply(e);
        const double c = a.beta1 * e.s[0] + (1 - a.beta1) * e.g;
        average(e.s[0], a.beta2, e.g);
        e.p -= a.lr * (std::fabs(c) < 1e-6 ? NAN : c > 0 ? 1 : -1);
      });
}

// Every code is the nearest to its own value, values ascend to 1, and rounding is right on average.
inline void check_codes() {
  constexpr uint32_t kDithers[] = {0x02000000u, 0x80000000u, 0xfd000000u};
  double last = -1;
  for (uint32_t code = 0; code < 256; code++) {
    const float value = decode_positive(code);
    FOVEA_CHECK(value > last, "code %u", code);
    last = value;
    for (uint32_t dither : kDithers) {
      FOVEA_CHECK(encode_positive(value * 3, 3, dither) == code, "code %u", code);
      if (code != 128) FOVEA_CHECK(encode_signed(decode_signed(code) * 3, 3, dither) == code, "signed code %u", code);
    }
  }
  FOVEA_CHECK(decode_positive(255) == 1 && decode_signed(127) == 1 && decode_signed(255) == -1, "1 is not on the grid");
  FOVEA_CHECK(encode_positive(1e-30f, 1, 0) == 1 && encode_positive(0, 0, 0) == 0, "squares of 0");
  for (int sample = 0; sample < 400; sample++) {
    const float x = std::pow(10.0f, -7.5f * float(sample) / 400);
    double bytes = 0, halves = 0;
    const int kDraws = 4096;
    for (int k = 0; k < kDraws; k++) {
      const uint32_t dither = uint32_t(k) << 20 | 0x80000u;
      bytes -= decode_signed(encode_signed(-x, 1, dither));
      halves += to_float(to_bfloat16_dithered(x, dither));
    }
    FOVEA_CHECK_CLOSE(bytes / kDraws, x, 1e-3 * x + 1e-9);
    FOVEA_CHECK_CLOSE(halves / kDraws, x, 1e-5 * x);
  }
  for (float x : {NAN, -NAN, INFINITY, -INFINITY}) FOVEA_CHECK_CLOSE(to_float(to_bfloat16_dithered(x, ~0u)), x, 0);
  FOVEA_CHECK(std::isnan(to_float(to_bfloat16_dithered(float_of(0x7f800001u), 0))), "a NaN became infinite");
}

}  // namespace fovea::test
