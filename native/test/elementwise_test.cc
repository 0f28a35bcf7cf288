// Elementwise kernels against the C library in float64: every op, dtype and layout; special values; integer semantics.
#include "ops/elementwise/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(elementwise)

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double kNan = NAN, kInf = INFINITY;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_tanh_slope(double x) { return 1.5957691216057308 * (x + 0.044715 * x * x * x); }

struct Unary {
  const char* name;
  double (*model)(double);
  double low, high;  // arguments of the random samples
  double ulps;       // allowed in float32
  bool ints;
};
const Unary kUnary[] = {
    {"neg", [](double x) { return -x; }, -100, 100, 0, true},
    {"abs", [](double x) { return std::fabs(x); }, -100, 100, 0, true},
    {"sign", [](double x) { return std::isnan(x) ? x : double((x > 0) - (x < 0)); }, -3, 3, 0, true},
    {"square", [](double x) { return x * x; }, -11, 11, 1, true},
    {"relu", [](double x) { return x < 0 ? 0 : x; }, -100, 100, 0, true},
    {"floor", [](double x) { return std::floor(x); }, -100, 100, 0, true},
    {"ceil", [](double x) { return std::ceil(x); }, -100, 100, 0, true},
    {"round", [](double x) { return std::nearbyint(x); }, -100, 100, 0, true},
    {"trunc", [](double x) { return std::trunc(x); }, -100, 100, 0, true},
    {"exp", [](double x) { return std::exp(x); }, -10, 10, 1.5, false},
    {"expm1", [](double x) { return std::expm1(x); }, -10, 10, 4, false},
    {"log", [](double x) { return std::log(x); }, 0, 100, 2, false},
    {"log1p", [](double x) { return std::log1p(x); }, -1, 100, 4, false},
    {"log2", [](double x) { return std::log2(x); }, 0, 100, 4, false},
    {"sqrt", [](double x) { return std::sqrt(x); }, 0, 100, 1, false},
    {"rsqrt", [](double x) { return 1 / std::sqrt(x); }, 0, 100, 2, false},
    {"reciprocal", [](double x) { return 1 / x; }, -100, 100, 1, false},
    {"sin", [](double x) { return std::sin(x); }, -100, 100, 2, false},
    {"cos", [](double x) { return std::cos(x); }, -100, 100, 2, false},
    {"tanh", [](double x) { return std::tanh(x); }, -10, 10, 1.5, false},
    {"sigmoid", [](double x) { return sigmoid(x); }, -20, 20, 4, false},
    {"erf", [](double x) { return std::erf(x); }, -5, 5, 1.5, false},
    {"gelu", [](double x) { return x * 0.5 * std::erfc(-x * std::sqrt(0.5)); }, -12, 12, 4, false},
    {"geluTanh", [](double x) { return x * sigmoid(gelu_tanh_slope(x)); }, -8, 8, 4, false},
    {"silu", [](double x) { return x * sigmoid(x); }, -90, 90, 4, false},
};

struct Binary {
  const char* name;
  double (*model)(double, double);
  double low, high, ulps;
  bool ints;
};
// As Python and PyTorch, through fmod: a number over the infinity of the other sign is -1.
double floor_divide(double a, double b) {
  if (std::isinf(b) && std::isfinite(a)) return a != 0 && (a < 0) != (b < 0) ? -1 : 0;
  return std::isinf(a) ? kNan : std::floor(a / b);
}
double remainder_of(double a, double b) {
  double r = std::fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
const Binary kBinary[] = {
    {"add", [](double a, double b) { return a + b; }, -50, 50, 1, true},
    {"sub", [](double a, double b) { return a - b; }, -50, 50, 1, true},
    {"mul", [](double a, double b) { return a * b; }, -10, 10, 1, true},
    {"maximum", [](double a, double b) { return std::isnan(a)   ? a
                                                : std::isnan(b) ? b
                                                                : std::fmax(a, b); }, -50, 50, 0,
     true},
    {"minimum", [](double a, double b) { return std::isnan(a)   ? a
                                                : std::isnan(b) ? b
                                                                : std::fmin(a, b); }, -50, 50, 0,
     true},
    {"div", [](double a, double b) { return a / b; }, -50, 50, 1, false},
    {"atan2", [](double a, double b) { return std::atan2(a, b); }, -50, 50, 4, false},
    {"pow", [](double a, double b) { return std::pow(a, b); }, 0, 9, 4, false},
    {"remainder", remainder_of, 1, 60, 0, false},
    {"floorDivide", floor_divide, 1, 60, 0, false},
};

// Layouts of quality-bar class A2, all with shape [5, 3, 37].
Tensor laid_out(Dtype dtype, int kind) {
  switch (kind) {
    case 1: return Tensor::strided(dtype, {5, 3, 37}, {2, 1, 0});
    case 2: return Tensor::strided(dtype, {5, 3, 37}, {0, 1, 2}, 2);
    case 3: return Tensor::expanded(dtype, {5, 3, 37}, {false, true, false});
    case 4: return Tensor::expanded(dtype, {5, 3, 37}, {false, false, true});
    case 5: return Tensor::strided(dtype, {5, 3, 37}, {1, 0, 2}, -1);
    default: return Tensor(dtype, {5, 3, 37});
  }
}
constexpr int kLayouts = 6;

// The result must be `expected` within `ulps` of the type that is computed in, rounded to the dtype.
void check_value(const char* op, const Table& t, Dtype dtype, double value, double expected, double ulps,
                 double argument) {
  double rounded = round_to(dtype, expected);
  // In float64 the model's own rounding counts, too.
  double allowed = (dtype == Dtype::f32 ? ulps : dtype == Dtype::f64 ? 64 * ulps : 1) * ulp(dtype, rounded);
  FOVEA_CHECK(close(value, rounded, allowed), "%s %s %s at %.9g: %.9g, expected %.9g", op, t.isa, name_of(dtype),
              argument, value, expected);
}

}  // namespace

FOVEA_TEST(elementwise_unary) {
  for (const Table& t : tables_of_elementwise())
    for (const Unary& op : kUnary)
      for (Dtype dtype : kAll) {
        bool is_float = set_of(dtype) & kFloatTypes;
        if (dtype == Dtype::boolean || (!is_float && !op.ints)) continue;
        for (int layout = 0; layout < kLayouts; layout++) {
          Tensor x = laid_out(dtype, layout), y(dtype, {5, 3, 37});
          x.fill_random(7, dtype == Dtype::u8 ? 0 : op.low, op.high);
          if (is_float) x.set(1, kNan), x.set(3, kInf), x.set(4, 0);
          run(t, op.name, NoAttrs{}, {&x}, {&y});
          for (int64_t i = 0; i < x.size(); i++) {
            double expected = op.model(x.at(i));
            if (dtype == Dtype::u8 && expected < 0) expected += 256;
            check_value(op.name, t, dtype, y.at(i), expected, op.ulps, x.at(i));
          }
        }
      }
}

FOVEA_TEST(elementwise_special_values) {
  const double values[] = {
      kNan, kInf, -kInf,  0.0,  -0.0, 0x1p-149, -0x1p-149, 0x1p-126, 0x1.fffffep127, -0x1.fffffep127, 1,
      -1,   88.9, -104.5, 1e10, -3e5, 0.5,      2.5,       -1.5};
  for (const Table& t : tables_of_elementwise())
    for (const Unary& op : kUnary) {
      Tensor x = Tensor::from(Dtype::f32, {19}, std::vector<double>(std::begin(values), std::end(values))),
             y(Dtype::f32, {19});
      run(t, op.name, NoAttrs{}, {&x}, {&y});
      for (int64_t i = 0; i < x.size(); i++) {
        double expected = op.model(x.at(i));
        check_value(op.name, t, Dtype::f32, y.at(i), expected, op.ulps, x.at(i));
        if (expected == 0)
          FOVEA_CHECK(std::signbit(y.at(i)) == std::signbit(expected) || y.at(i) != 0, "%s %s: sign of zero at %g",
                      op.name, t.isa, x.at(i));
      }
    }
}

// Every 50021st bit pattern of float32, so that all exponents, both signs and denormals are met.
FOVEA_TEST(elementwise_accuracy) {
  for (const Table& t : tables_of_elementwise())
    for (const Unary& op : kUnary) {
      std::vector<double> values;
      for (uint64_t bits = 0; bits < 1ull << 32; bits += 50021) values.push_back(float_of(uint32_t(bits)));
      int64_t n = int64_t(values.size());
      Tensor x = Tensor::from(Dtype::f32, {n}, values), y(Dtype::f32, {n});
      run(t, op.name, NoAttrs{}, {&x}, {&y});
      for (int64_t i = 0; i < n; i++) check_value(op.name, t, Dtype::f32, y.at(i), op.model(x.at(i)), op.ulps, x.at(i));
    }
}

FOVEA_TEST(elementwise_binary) {
  for (const Table& t : tables_of_elementwise())
    for (const Binary& op : kBinary)
      for (Dtype dtype : kAll) {
        bool is_float = set_of(dtype) & kFloatTypes;
        if (dtype == Dtype::boolean || (!is_float && !op.ints)) continue;
        for (int layout = 0; layout < kLayouts * kLayouts; layout++) {
          Tensor a = laid_out(dtype, layout / kLayouts), b = laid_out(dtype, layout % kLayouts), c(dtype, {5, 3, 37});
          double low = dtype == Dtype::u8 ? 0 : op.low;
          a.fill_random(3, low, op.high), b.fill_random(4, low, op.high);
          if (is_float) a.set(1, kNan), b.set(2, kNan), a.set(4, kInf);
          run(t, op.name, ScalarAttrs{}, {&a, &b}, {&c});
          for (int64_t i = 0; i < c.size(); i++) {
            double expected = op.model(a.at(i), b.at(i));
            if (dtype == Dtype::u8) expected = double(uint8_t(int64_t(expected)));
            check_value(op.name, t, dtype, c.at(i), expected, op.ulps, a.at(i));
          }
        }
      }
}

FOVEA_TEST(elementwise_special_pairs) {
  const double values[] = {kNan, kInf, -kInf, 0.0, -0.0, 0x1p-149, -7, 7, 2.5, 3, -3, 0.1f, 1e10f, -3e38f, 1e-20f, 1};
  for (const Table& t : tables_of_elementwise())
    for (const Binary& op : kBinary) {
      bool divides = op.model == floor_divide || op.model == remainder_of;
      Tensor a(Dtype::f32, {16, 16}), b(Dtype::f32, {16, 16}), c(Dtype::f32, {16, 16});
      for (int64_t i = 0; i < 256; i++) a.set(i, values[i / 16]), b.set(i, values[i % 16]);
      run(t, op.name, ScalarAttrs{}, {&a, &b}, {&c});
      for (int64_t i = 0; i < 256; i++)  // beyond 2^22, the float64 model of a division is no model of float32
        if (!divides || std::fabs(a.at(i) / b.at(i)) < 0x1p22)
          check_value(op.name, t, Dtype::f32, c.at(i), op.model(a.at(i), b.at(i)), op.ulps, a.at(i));
    }
}

FOVEA_TEST(elementwise_scalars_and_sizes) {
  for (const Table& t : tables_of_elementwise())
    for (Dtype dtype : kFloats)
      for (int64_t n : {0, 1, 2, 15, 16, 17, 31, 33, 511, 513, 1031, 40000}) {
        Tensor x = Tensor::random(dtype, {n}, 5), y(dtype, {n});
        run(t, "sub", ScalarAttrs{.scalar = 1.5, .scalarFirst = true}, {&x, nullptr}, {&y});
        for (int64_t i = 0; i < n; i++) check_value("sub", t, dtype, y.at(i), 1.5 - x.at(i), 1, x.at(i));
        run(t, "mul_", ScalarAttrs{.scalar = -3}, {&x, nullptr}, {});
        Tensor z = Tensor::random(dtype, {n}, 5);
        for (int64_t i = 0; i < n; i++) check_value("mul_", t, dtype, x.at(i), -3 * z.at(i), 1, z.at(i));
      }
}

// Results that bypass the cache, and results cut among threads, are the same as small ones.
FOVEA_TEST(elementwise_large) {
  for (const Table& t : tables_of_elementwise()) {
    constexpr int64_t rows = 2100, columns = 1025;
    Tensor a = Tensor::random(Dtype::f32, {rows, columns}, 1),
           b = Tensor::expanded(Dtype::f32, {rows, columns}, {true, false});
    Tensor c(Dtype::f32, {rows, columns}), transposed = Tensor::strided(Dtype::f32, {rows, columns}, {1, 0});
    b.fill_random(2), transposed.fill_random(3);
    run(t, "add", ScalarAttrs{}, {&a, &b}, {&c}, 4);
    int64_t wrong = 0;
    for (int64_t i = 0; i < c.size(); i++) wrong += float(c.at(i)) != float(a.at(i)) + float(b.at(i));
    run(t, "copy", NoAttrs{}, {&transposed}, {&c}, 4);
    for (int64_t i = 0; i < c.size(); i++) wrong += c.at(i) != transposed.at(i);
    FOVEA_CHECK(wrong == 0, "%s: %lld elements differ", t.isa, static_cast<long long>(wrong));
  }
}

FOVEA_TEST(elementwise_integers) {
  for (const Table& t : tables_of_elementwise()) {
    for (Dtype dtype : {Dtype::i32, Dtype::i64, Dtype::i8}) {
      Tensor a = Tensor::from(dtype, {6}, {7, -7, 7, -7, -128, 0}), b = Tensor::from(dtype, {6}, {3, 3, -3, -3, -1, 5}),
             c(dtype, {6});
      run(t, "remainder", ScalarAttrs{}, {&a, &b}, {&c});
      FOVEA_CHECK(c.values() == std::vector<double>({1, 2, -2, -1, 0, 0}), "%s %s", t.isa, name_of(dtype));
      run(t, "floorDivide", ScalarAttrs{}, {&a, &b}, {&c});
      FOVEA_CHECK(c.values() == std::vector<double>({2, -3, -3, 2, dtype == Dtype::i8 ? -128.0 : 128.0, 0}), "%s %s",
                  t.isa, name_of(dtype));
      Tensor base = Tensor::from(dtype, {6}, {2, -3, 1, -1, 5, 0}),
             power = Tensor::from(dtype, {6}, {6, 3, -4, -3, -1, 0});
      run(t, "pow", ScalarAttrs{}, {&base, &power}, {&c});
      FOVEA_CHECK(c.values() == std::vector<double>({64, -27, 1, -1, 0, 1}), "%s %s", t.isa, name_of(dtype));
      FOVEA_CHECK(error_of(t, "remainder", ScalarAttrs{}, {&a, nullptr}, {&c}) == "FOVEA_ARGUMENT", "%s", t.isa);
      FOVEA_CHECK(error_of(t, "floorDivide", ScalarAttrs{}, {&a, nullptr}, {&c}) == "FOVEA_ARGUMENT", "%s", t.isa);
      FOVEA_CHECK(error_of(t, "pow", ScalarAttrs{.scalar = -1}, {&a, nullptr}, {&c}) == "FOVEA_ARGUMENT", "%s", t.isa);
    }
    Tensor big = Tensor::from(Dtype::i32, {1}, {2147483647.0}), sum(Dtype::i32, {1});
    run(t, "add", ScalarAttrs{.scalar = 1}, {&big, nullptr}, {&sum});
    FOVEA_CHECK(sum.at(0) == -2147483648.0, "wraps around");
    Tensor x = Tensor::from(Dtype::boolean, {4}, {0, 0, 1, 1}), y = Tensor::from(Dtype::boolean, {4}, {0, 1, 0, 1}),
           z(Dtype::boolean, {4});
    run(t, "add", ScalarAttrs{}, {&x, &y}, {&z});
    FOVEA_CHECK(z.values() == std::vector<double>({0, 1, 1, 1}), "%s", t.isa);
    run(t, "mul", ScalarAttrs{}, {&x, &y}, {&z});
    FOVEA_CHECK(z.values() == std::vector<double>({0, 0, 0, 1}), "%s", t.isa);
  }
}

FOVEA_TEST(elementwise_comparisons) {
  struct {
    const char* name;
    bool (*model)(double, double);
  } const ops[] = {{"eq", [](double a, double b) { return a == b; }},
                   {"ne", [](double a, double b) { return a != b; }},
                   {"lt", [](double a, double b) { return a < b; }},
                   {"le", [](double a, double b) { return a <= b; }},
                   {"gt", [](double a, double b) { return a > b; }},
                   {"ge", [](double a, double b) { return a >= b; }},
                   {"logicalAnd", [](double a, double b) { return a != 0 && b != 0; }},
                   {"logicalOr", [](double a, double b) { return a != 0 || b != 0; }},
                   {"logicalXor", [](double a, double b) { return (a != 0) != (b != 0); }}};
  for (const Table& t : tables_of_elementwise())
    for (Dtype dtype : kAll)
      for (auto& op : ops) {
        bool logical = op.name[0] == 'l' && op.name[1] == 'o';
        Dtype second = logical ? Dtype::f16 : dtype;
        Tensor a = laid_out(dtype, 1), b = laid_out(second, 3), c(Dtype::boolean, {5, 3, 37});
        a.fill_random(1, 0, 3), b.fill_random(2, 0, 3);
        for (int64_t i = 0; i < 20; i++) b.set(i, a.at(i));
        if (set_of(dtype) & kFloatTypes) a.set(30, kNan);
        if (logical) run(t, op.name, NoAttrs{}, {&a, &b}, {&c});
        else run(t, op.name, ScalarAttrs{}, {&a, &b}, {&c});
        for (int64_t i = 0; i < c.size(); i++)
          FOVEA_CHECK(c.at(i) == op.model(a.at(i), b.at(i)), "%s %s %s", op.name, t.isa, name_of(dtype));
      }
}

FOVEA_TEST(elementwise_tests_and_where) {
  for (const Table& t : tables_of_elementwise())
    for (Dtype dtype : kAll) {
      bool is_float = set_of(dtype) & kFloatTypes;
      Tensor x = laid_out(dtype, 2), y(Dtype::boolean, {5, 3, 37}), z(dtype, {5, 3, 37});
      x.fill_random(1, 0, 2);
      if (is_float) x.set(0, kNan), x.set(1, kInf), x.set(2, -kInf), x.set(3, 0);
      run(t, "isNan", NoAttrs{}, {&x}, {&y});
      for (int64_t i = 0; i < y.size(); i++)
        FOVEA_CHECK(y.at(i) == std::isnan(x.at(i)), "%s %s", t.isa, name_of(dtype));
      run(t, "isFinite", NoAttrs{}, {&x}, {&y});
      for (int64_t i = 0; i < y.size(); i++)
        FOVEA_CHECK(y.at(i) == std::isfinite(x.at(i)), "%s %s", t.isa, name_of(dtype));
      run(t, "logicalNot", NoAttrs{}, {&x}, {&y});
      for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK(y.at(i) == (x.at(i) == 0), "%s %s", t.isa, name_of(dtype));
      run(t, "where", WhereAttrs{.scalarB = 1}, {&y, &x, nullptr}, {&z});
      for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(z.at(i), y.at(i) ? x.at(i) : 1, 0);
    }
}

FOVEA_TEST(elementwise_casts) {
  for (const Table& t : tables_of_elementwise())
    for (Dtype from : kAll)
      for (Dtype to : kAll) {
        Tensor x = laid_out(from, 1), y(to, {5, 3, 37});
        x.fill_random(1, from == Dtype::u8 ? 0 : -120, 120);
        run(t, "cast", CastAttrs{to}, {&x}, {&y});
        for (int64_t i = 0; i < y.size(); i++) {
          double v = x.at(i), expected = set_of(to) & kFloatTypes ? round_to(to, v) : std::trunc(v);
          if (to == Dtype::boolean) expected = v != 0;
          if (to == Dtype::u8 && expected < 0) expected = set_of(from) & kFloatTypes ? 0 : expected + 256;
          FOVEA_CHECK_CLOSE(y.at(i), expected, 0);
        }
        Tensor target = laid_out(to, 5);
        run(t, "copy_", NoAttrs{}, {&target, &x}, {});
        for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(target.at(i), y.at(i), 0);
      }
  for (const Table& t : tables_of_elementwise()) {
    Tensor x = Tensor::from(Dtype::f32, {7}, {kNan, kInf, -kInf, 3e9, -3e9, 2.9, -2.9}), i(Dtype::i32, {7}),
           l(Dtype::i64, {7}), u(Dtype::u8, {7}), b(Dtype::boolean, {7});
    run(t, "cast", CastAttrs{Dtype::i32}, {&x}, {&i});
    FOVEA_CHECK(i.values() == std::vector<double>({0, 2147483647.0, -2147483648.0, 2147483647.0, -2147483648.0, 2, -2}),
                "%s", t.isa);
    run(t, "cast", CastAttrs{Dtype::i64}, {&x}, {&l});
    FOVEA_CHECK(l.values() == std::vector<double>({0, 0x1p63, -0x1p63, 3e9, -3e9, 2, -2}), "%s", t.isa);
    run(t, "cast", CastAttrs{Dtype::u8}, {&x}, {&u});
    FOVEA_CHECK(u.values() == std::vector<double>({0, 255, 0, 255, 0, 2, 0}), "%s", t.isa);
    run(t, "cast", CastAttrs{Dtype::boolean}, {&x}, {&b});
    FOVEA_CHECK(b.values() == std::vector<double>(7, 1), "%s", t.isa);
  }
}

FOVEA_TEST(elementwise_gradients) {
  struct {
    const char* name;
    double (*of_x)(double);
    double (*of_y)(double);
  } const ops[] = {
      {"geluBackward",
       [](double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI); },
       nullptr},
      {"geluTanhBackward",
       [](double x) {
         double s = sigmoid(gelu_tanh_slope(x));
         return s + x * s * (1 - s) * 1.5957691216057308 * (1 + 3 * 0.044715 * x * x);
       },
       nullptr},
      {"siluBackward", [](double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }, nullptr},
      {"sigmoidBackward", nullptr, [](double y) { return y * (1 - y); }},
      {"tanhBackward", nullptr, [](double y) { return 1 - y * y; }},
      {"reluBackward", nullptr, [](double y) { return double(y > 0); }}};
  for (const Table& t : tables_of_elementwise())
    for (Dtype dtype : kFloats)
      for (auto& op : ops) {
        Tensor x = laid_out(dtype, 1), dy = laid_out(dtype, 4), dx(dtype, {5, 3, 37});
        x.fill_random(1, op.of_x ? -6 : -1, op.of_x ? 6 : 1), dy.fill_random(2);
        run(t, op.name, NoAttrs{}, {&x, &dy}, {&dx});
        for (int64_t i = 0; i < dx.size(); i++) {
          double expected = dy.at(i) * (op.of_x ? op.of_x(x.at(i)) : op.of_y(x.at(i)));
          FOVEA_CHECK(close(dx.at(i), expected, 64 * epsilon(dtype)), "%s %s %s: %g, expected %g", op.name, t.isa,
                      name_of(dtype), dx.at(i), expected);
        }
      }
}

FOVEA_TEST(elementwise_clamp_softplus_triangle) {
  for (const Table& t : tables_of_elementwise())
    for (Dtype dtype : kFloats) {
      Tensor x = laid_out(dtype, 1), dy = laid_out(dtype, 0), y(dtype, {5, 3, 37});
      x.fill_random(1, -30, 30), dy.fill_random(2), x.set(0, kNan);
      run(t, "clamp", ClampAttrs{.min = -1, .max = 4}, {&x}, {&y});
      for (int64_t i = 0; i < y.size(); i++)
        FOVEA_CHECK_CLOSE(y.at(i), std::isnan(x.at(i)) ? x.at(i) : std::fmin(std::fmax(x.at(i), -1), 4), 0);
      run(t, "clampBackward", ClampAttrs{.min = -1, .max = 4}, {&x, &dy}, {&y});
      for (int64_t i = 0; i < y.size(); i++)
        FOVEA_CHECK_CLOSE(y.at(i), x.at(i) >= -1 && x.at(i) <= 4 ? dy.at(i) : 0, 0);
      run(t, "softplus", SoftplusAttrs{.beta = 2}, {&x}, {&y});
      for (int64_t i = 0; i < y.size(); i++)
        check_value("softplus", t, dtype, y.at(i), 2 * x.at(i) > 20 ? x.at(i) : std::log1p(std::exp(2 * x.at(i))) / 2,
                    4, x.at(i));
      run(t, "softplusBackward", SoftplusAttrs{.beta = 2}, {&x, &dy}, {&y});
      for (int64_t i = 0; i < y.size(); i++)
        check_value("softplusBackward", t, dtype, y.at(i),
                    2 * x.at(i) > 20 ? dy.at(i) : dy.at(i) * sigmoid(2 * x.at(i)), 4, x.at(i));
      for (int64_t diagonal : {-40, -2, 0, 1, 36, 50})
        for (bool upper : {false, true}) {
          run(t, "triangle", TriangleAttrs{diagonal, upper}, {&x}, {&y});
          for (int64_t i = 0; i < y.size(); i++) {
            int64_t offset = i % 37 - i / 37 % 3;
            FOVEA_CHECK_CLOSE(y.at(i), (upper ? offset >= diagonal : offset <= diagonal) ? x.at(i) : 0, 0);
          }
        }
    }
}
