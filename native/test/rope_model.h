// Rotary embedding against the definition in float64, on the CPU and on emulated devices: both kinds of pairs, the
// inverse, strided rows, shared angles, components that pass.
#pragma once
#include "ops/rope/attrs.h"
#include "test/harness.h"

namespace fovea::test {

struct RopeCase {
  int64_t b, h, n, d, r;
  Dtype dtype = Dtype::f32;
  RopeAttrs attrs = {};
  bool shared_angles = true, strided = false;
};

template <class Run>
void check_rope(const Run& run, const RopeCase& c) {
  std::vector<int64_t> shape = {c.b, c.h, c.n, c.d};
  Tensor x = c.strided ? Tensor::strided(c.dtype, shape, {0, 2, 1, 3}) : Tensor(c.dtype, shape), y(c.dtype, shape);
  Dtype acc = accumulator_of(c.dtype);
  Tensor cosines = Tensor::expanded(acc, {c.b, c.n, c.r}, {c.shared_angles, false, false});
  Tensor sines = Tensor::expanded(acc, {c.b, c.n, c.r}, {c.shared_angles, false, false});
  x.fill_random(1);
  Numbers numbers{2};
  for (int64_t i = 0; i < cosines.size(); i++) {
    double angle = c.shared_angles ? double(i % (c.n * c.r)) : numbers.between(-4, 4);
    cosines.set(i, std::cos(angle)), sines.set(i, std::sin(angle));
  }
  run("rope", c.attrs, {&x, &cosines, &sines}, {&y});
  for (int64_t row = 0; row < c.b * c.h * c.n; row++) {
    int64_t angles = (row / c.n / c.h * c.n + row % c.n) * c.r;
    for (int64_t i = 0; i < c.d; i++) {
      double expected = x.at(row * c.d + i);
      if (i < 2 * c.r) {
        bool first = c.attrs.interleaved ? i % 2 == 0 : i < c.r;
        int64_t pair = c.attrs.interleaved ? i / 2 : i % c.r, other = c.attrs.interleaved ? i ^ 1
                                                                      : first             ? i + c.r
                                                                                          : i - c.r;
        double sine = sines.at(angles + pair) * (first != c.attrs.inverse ? -1 : 1);
        expected = expected * cosines.at(angles + pair) + x.at(row * c.d + other) * sine;
      }
      FOVEA_CHECK_CLOSE(y.at(row * c.d + i), expected, 3 * epsilon(c.dtype));
    }
  }
}

// Every kind of rotation, then `large`.
template <class Run>
void check_rope_rotations(const Run& run, const RopeCase& large) {
  for (Dtype t : kFloats)
    for (bool interleaved : {false, true})
      for (bool inverse : {false, true})
        for (bool flag : {false, true}) {
          check_rope(run, {2, 3, 5, 64, 32, t, {interleaved, inverse}, flag, !flag});
          check_rope(run, {1, 2, 3, 37, 11, t, {interleaved, inverse}, flag, flag});
          check_rope(run, {1, 2, 3, 48, 16, t, {interleaved, inverse}, flag, !flag});
          check_rope(run, {1, 1, 2, 600, 300, t, {interleaved, inverse}, flag, flag});
        }
  for (const RopeCase& c : {RopeCase{1, 1, 3, 5, 0}, RopeCase{0, 1, 3, 4, 2}, RopeCase{1, 1, 1, 0, 0}, large})
    check_rope(run, c);
}

template <class Run>
void check_rope_inverse(const Run& run) {
  Tensor x = Tensor::random(Dtype::f64, {1, 2, 7, 12}, 1), c(Dtype::f64, {1, 7, 6}), s(Dtype::f64, {1, 7, 6});
  for (int64_t i = 0; i < 42; i++) c.set(i, std::cos(double(i))), s.set(i, std::sin(double(i)));
  Tensor y(Dtype::f64, {1, 2, 7, 12}), z(Dtype::f64, {1, 2, 7, 12});
  run("rope", RopeAttrs{}, {&x, &c, &s}, {&y});
  run("rope", RopeAttrs{.inverse = true}, {&y, &c, &s}, {&z});
  for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(z.at(i), x.at(i), 1e-14);
}

template <class Run>
void check_rope_rejects_too_many_angles(const Run& run) {
  Tensor x(Dtype::f32, {1, 1, 2, 6}), c(Dtype::f32, {1, 2, 4}), s(Dtype::f32, {1, 2, 4}), y(Dtype::f32, {1, 1, 2, 6});
  std::string code = code_of([&] { run("rope", RopeAttrs{}, {&x, &c, &s}, {&y}); });
  FOVEA_CHECK(code == "FOVEA_SHAPE", "code %s", code.c_str());
}

}  // namespace fovea::test
