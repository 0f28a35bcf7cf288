// How exact the float32 functions that others are made of are: |y - f(x)| in units in the last place of f(x), f being
// the C library's in float64, at floats spread evenly over all exponents of the range, both signs, and at its ends.
#include "ops/elementwise/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(elementwise)

namespace fovea::test {
namespace {

struct Function {
  const char* name;
  double (*model)(double);
  float low, high;  // beyond, the result is infinite, zero or the argument's sign, or is the C library's
  double ulps;
};
const Function kFunctions[] = {{"exp", std::exp, -104, 88.72f, 1.5},    {"tanh", std::tanh, -12, 12, 1.5},
                               {"erf", std::erf, -5, 5, 1.5},           {"log", std::log, 0, 0x1.fffffep127f, 2},
                               {"sin", std::sin, -0x1p17f, 0x1p17f, 2}, {"cos", std::cos, -0x1p17f, 0x1p17f, 2}};

constexpr uint32_t kStep = 4999;  // of the bits of a float: 1678 arguments between a power of two and the next

std::vector<float> arguments(const Function& f) {
  std::vector<float> x = {f.low, f.high};
  for (uint64_t bits = 0; bits < uint64_t(1) << 32; bits += kStep)
    if (float v = float_of(uint32_t(bits)); v >= f.low && v <= f.high) x.push_back(v);
  return x;
}

FOVEA_TEST(elementwise_accuracy_of_basic_functions) {
  for (const Function& f : kFunctions) {
    std::vector<float> arguments_of_f = arguments(f);
    int64_t n = int64_t(arguments_of_f.size());
    Tensor x(Dtype::f32, {n}), y(Dtype::f32, {n});
    std::vector<double> expected;
    for (int64_t i = 0; i < n; i++) {
      x.set(i, double(arguments_of_f[size_t(i)]));
      expected.push_back(f.model(x.at(i)));
    }
    for (const Table& t : tables_of_elementwise()) {
      run(t, f.name, NoAttrs{}, {&x}, {&y});
      double worst = 0, at = 0;
      for (int64_t i = 0; i < n; i++) {
        double value = expected[size_t(i)];
        if (y.at(i) == value) continue;
        double error = std::fabs(y.at(i) - value) / ulp(Dtype::f32, value);
        if (!(error <= worst)) worst = std::isnan(error) ? double(INFINITY) : error, at = x.at(i);
      }
      FOVEA_CHECK(worst <= f.ulps, "%s %s: %.3f units in the last place at %.9g", f.name, t.isa, worst, at);
    }
  }
}

}  // namespace
}  // namespace fovea::test
