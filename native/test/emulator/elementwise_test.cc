// Elementwise kernels on the emulated device: accuracy against the C library in float64; every op, dtype and layout
// against the CPU kernels, bit for bit where nothing is rounded.
#include "ops/elementwise/attrs.h"
#include "test/emulator/harness_cuda.h"

FOVEA_TEST_FAMILY(elementwise)

namespace fovea::test {
namespace {

constexpr double kNan = NAN, kInf = INFINITY;
bool is_float(Dtype t) { return (set_of(t) & kFloatTypes) != 0; }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_tanh_slope(double x) { return 1.5957691216057308 * (x + 0.044715 * x * x * x); }

struct Unary {
  const char* name;
  double (*model)(double);  // of ops that round; nullptr: the CPU's bits
  bool ints = false;
};
const Unary kUnary[] = {
    {"neg", nullptr, true},
    {"abs", nullptr, true},
    {"sign", nullptr, true},
    {"square", nullptr, true},
    {"relu", nullptr, true},
    {"floor", nullptr, true},
    {"ceil", nullptr, true},
    {"round", nullptr, true},
    {"trunc", nullptr, true},
    {"exp", [](double x) { return std::exp(x); }},
    {"expm1", [](double x) { return std::expm1(x); }},
    {"log", [](double x) { return std::log(x); }},
    {"log1p", [](double x) { return std::log1p(x); }},
    {"log2", [](double x) { return std::log2(x); }},
    {"sqrt", [](double x) { return std::sqrt(x); }},
    {"rsqrt", [](double x) { return 1 / std::sqrt(x); }},
    {"reciprocal", [](double x) { return 1 / x; }},
    {"sin", [](double x) { return std::sin(x); }},
    {"cos", [](double x) { return std::cos(x); }},
    {"tanh", [](double x) { return std::tanh(x); }},
    {"sigmoid", [](double x) { return sigmoid(x); }},
    {"erf", [](double x) { return std::erf(x); }},
    {"gelu", [](double x) { return x * 0.5 * std::erfc(-x * std::sqrt(0.5)); }},
    {"geluTanh", [](double x) { return x * sigmoid(gelu_tanh_slope(x)); }},
    {"silu", [](double x) { return x * sigmoid(x); }},
};
const char* const kBinaryOfAny[] = {"add", "mul", "maximum", "minimum"};
const char* const kBinaryOfNumbers[] = {"sub", "pow", "remainder", "floorDivide"};
const char* const kBinaryOfFloats[] = {"div", "atan2"};
const char* const kComparisons[] = {"eq", "ne", "lt", "le", "gt", "ge"};

// What the two may differ by in float32, in ULP; more in float64, where both magnify roundings of arguments.
double allowed_of(const std::string& name) {
  for (const Unary& op : kUnary)
    if (name == op.name) return op.model ? 5 : 0;
  if (name == "pow" || name == "atan2") return 5;
  return 0;
}

// Bit for bit where `ulps` is 0, but one NaN is as good as another.
void check_same(const char* name, const Tensor& value, const Tensor& expected, double ulps) {
  const Dtype dtype = value.dtype();
  for (int64_t i = 0; i < value.size(); i++) {
    const double got = value.at(i), wanted = expected.at(i);
    bool same = std::memcmp(value.bytes(i), expected.bytes(i), kDtypeBytes[int(dtype)]) == 0;
    if (std::isnan(wanted)) same = std::isnan(got);
    else if (!same && ulps > 0)
      same = close(got, wanted,
                   (dtype == Dtype::f32   ? ulps
                    : dtype == Dtype::f64 ? 64 * ulps
                                          : 1) *
                       ulp(dtype, wanted));
    FOVEA_CHECK(same, "%s %s [%lld]: %.9g, expected %.9g", name, name_of(dtype), static_cast<long long>(i), got,
                wanted);
  }
}
// Runs the op on both and compares.
template <class Attrs>
void check_op(const char* name, const Attrs& attrs, std::initializer_list<Tensor*> in, Dtype out,
              const std::vector<int64_t>& shape) {
  Tensor value(out, shape), expected(out, shape);
  run_cuda(name, attrs, std::vector<Tensor*>(in), {&value});
  run(tables_of_elementwise()[0], name, attrs, in, {&expected});
  check_same(name, value, expected, allowed_of(name));
}

const std::vector<int64_t> kShape = {5, 3, 40};  // rows of whole packs
constexpr int kLayouts = 6;
Tensor laid_out(Dtype dtype, int kind, const std::vector<int64_t>& shape = kShape) {
  switch (kind) {
    case 1: return Tensor::strided(dtype, shape, {2, 1, 0});
    case 2: return Tensor::strided(dtype, shape, {0, 1, 2}, 2);
    case 3: return Tensor::expanded(dtype, shape, {false, true, false});
    case 4: return Tensor::expanded(dtype, shape, {false, false, true});
    case 5: return Tensor::strided(dtype, shape, {1, 0, 2});
    default: return Tensor(dtype, shape);
  }
}
Tensor sample(Dtype dtype, int kind, uint64_t seed, double low = -9, double high = 9,
              const std::vector<int64_t>& shape = kShape) {
  Tensor x = laid_out(dtype, kind, shape);
  x.fill_random(seed, dtype == Dtype::u8 || dtype == Dtype::boolean ? 0 : low, high);
  if (is_float(dtype) && x.size() > 60) x.set(1, kNan), x.set(3, kInf), x.set(44, -kInf), x.set(51, -0.0);
  return x;
}

// An op that writes its first input, which `make` makes.
template <class Attrs, class Make>
void check_in_place(const char* name, const Attrs& attrs, Make make, Tensor* b) {
  Tensor value = make(), expected = make();
  run_cuda(name, attrs, {&value, b}, {});
  run(tables_of_elementwise()[0], name, attrs, {&expected, b}, {});
  check_same(name, value, expected, 0);
}
template <class Attrs>
std::string refusal(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in, Tensor* out) {
  try {
    run_cuda(name, attrs, in, {out});
  } catch (const Error& error) { return std::string(error.code) + " " + error.what(); }
  return "accepted";
}

}  // namespace

// Every 400009th bit pattern of float32, so that all exponents, both signs and denormals are met.
FOVEA_TEST(elementwise_accuracy) {
  std::vector<double> values = {kNan, kInf, -kInf, 0.0, -0.0, 0x1p-149, -0x1p-149, 88.9, -104.5, 1e10, -3e5, 2.5, -1.5};
  for (uint64_t bits = 0; bits < 1ull << 32; bits += 400009) values.push_back(float_of(uint32_t(bits)));
  for (double x = -110; x < 30; x += 0.0371) values.push_back(float(x));
  const int64_t n = int64_t(values.size());
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16})
    for (const Unary& op : kUnary) {
      if (!op.model) continue;
      Tensor x = Tensor::from(dtype, {n}, values), y(dtype, {n});
      run_cuda(op.name, NoAttrs{}, {&x}, {&y});
      for (int64_t i = 0; i < n; i++) {
        const double expected = round_to(dtype, op.model(x.at(i))), ulps = dtype == Dtype::f32 ? 4 : 1;
        FOVEA_CHECK(close(y.at(i), expected, ulps * ulp(dtype, expected)), "%s %s at %.9g: %.9g, expected %.9g",
                    op.name, name_of(dtype), x.at(i), y.at(i), expected);
        FOVEA_CHECK(expected != 0 || y.at(i) != 0 || std::signbit(y.at(i)) == std::signbit(expected),
                    "%s: sign of zero at %g", op.name, x.at(i));
      }
    }
}

FOVEA_TEST(elementwise_unary) {
  for (const Unary& op : kUnary)
    for (Dtype dtype : kAll) {
      if (dtype == Dtype::boolean || (!is_float(dtype) && !op.ints)) continue;
      for (int layout = 0; layout < kLayouts; layout++) {
        Tensor x = sample(dtype, layout, 7);
        check_op(op.name, NoAttrs{}, {&x}, dtype, kShape);
      }
    }
  for (Dtype dtype : kAll)
    for (const char* name : {"isNan", "isFinite", "logicalNot"}) {
      Tensor x = sample(dtype, 2, 7, 0, 2);
      check_op(name, NoAttrs{}, {&x}, Dtype::boolean, kShape);
    }
}

FOVEA_TEST(elementwise_parameters) {
  for (Dtype dtype : kAll) {
    if (dtype == Dtype::boolean) continue;
    Tensor x = sample(dtype, 1, 3, -30, 30), dy = sample(dtype, 0, 4);
    for (ClampAttrs attrs : {ClampAttrs{-1.5, 4}, ClampAttrs{.max = 2}, ClampAttrs{.min = 3}, ClampAttrs{5, -5}}) {
      check_op("clamp", attrs, {&x}, dtype, kShape);
      if (is_float(dtype)) check_op("clampBackward", attrs, {&x, &dy}, dtype, kShape);
    }
    if (!is_float(dtype)) continue;
    for (SoftplusAttrs attrs : {SoftplusAttrs{}, SoftplusAttrs{2, 20}, SoftplusAttrs{0.5, 3}}) {
      Tensor y(dtype, kShape), dx(dtype, kShape);
      run_cuda("softplus", attrs, {&x}, {&y}), run_cuda("softplusBackward", attrs, {&x, &dy}, {&dx});
      for (int64_t i = 0; i < y.size(); i++) {
        const double v = x.at(i), z = v * attrs.beta;
        const double expected =
            z > attrs.threshold ? v : (std::fmax(z, 0) + std::log1p(std::exp(-std::fabs(z)))) / attrs.beta;
        const double slope = z > attrs.threshold ? dy.at(i) : dy.at(i) * sigmoid(z);
        FOVEA_CHECK_CLOSE(y.at(i), std::isnan(v) ? v : round_to(dtype, expected), 4 * ulp(dtype, expected));
        FOVEA_CHECK_CLOSE(dx.at(i), round_to(dtype, slope), 4 * ulp(dtype, slope));
      }
    }
  }
}

FOVEA_TEST(elementwise_gradients) {
  for (const char* name :
       {"geluBackward", "geluTanhBackward", "siluBackward", "sigmoidBackward", "tanhBackward", "reluBackward"})
    for (Dtype dtype : kFloats)
      for (int layout = 0; layout < kLayouts; layout++) {
        Tensor x = sample(dtype, layout, 1, -6, 6), dy = sample(dtype, kLayouts - 1 - layout, 2, -2, 2);
        Tensor value(dtype, kShape), expected(dtype, kShape);
        run_cuda(name, NoAttrs{}, {&x, &dy}, {&value});
        run(tables_of_elementwise()[0], name, NoAttrs{}, {&x, &dy}, {&expected});
        for (int64_t i = 0; i < value.size(); i++)
          FOVEA_CHECK(close(value.at(i), expected.at(i), 32 * epsilon(dtype) * (1 + std::fabs(expected.at(i)))),
                      "%s %s at %g: %g, expected %g", name, name_of(dtype), x.at(i), value.at(i), expected.at(i));
      }
}

FOVEA_TEST(elementwise_binary) {
  auto check = [](const char* name, Dtype dtype, Dtype out) {
    for (int layout = 0; layout < kLayouts * kLayouts; layout += dtype == Dtype::f32 ? 1 : 5) {
      Tensor a = sample(dtype, layout / kLayouts, 3), b = sample(dtype, layout % kLayouts, 4);
      const bool divides = std::strcmp(name, "remainder") == 0 || std::strcmp(name, "floorDivide") == 0;
      if (divides && !is_float(dtype))
        for (int64_t i = 0; i < b.size(); i++)
          if (b.at(i) == 0) b.set(i, 3);
      check_op(name, ScalarAttrs{}, {&a, &b}, out, kShape);
      if (layout % kLayouts) continue;
      check_op(name, ScalarAttrs{.scalar = 2.7}, {&a, nullptr}, out, kShape);
      if (divides && !is_float(dtype)) continue;
      check_op(name, ScalarAttrs{.scalar = 2.1, .scalarFirst = true}, {&a, nullptr}, out, kShape);
    }
  };
  for (Dtype dtype : kAll) {
    for (const char* name : kBinaryOfAny) check(name, dtype, dtype);
    for (const char* name : kComparisons) check(name, dtype, Dtype::boolean);
    if (dtype == Dtype::boolean) continue;
    for (const char* name : kBinaryOfNumbers) check(name, dtype, dtype);
    if (!is_float(dtype)) continue;
    for (const char* name : kBinaryOfFloats) check(name, dtype, dtype);
  }
}

FOVEA_TEST(elementwise_special_pairs) {
  const double values[] = {kNan, kInf, -kInf, 0.0, -0.0, 0x1p-149, -7, 7, 2.5, 3, -3, 0.1f, 1e10f, -3e38f, 1e-20f, 1};
  Tensor a(Dtype::f32, {16, 16}), b(Dtype::f32, {16, 16});
  for (int64_t i = 0; i < 256; i++) a.set(i, values[i / 16]), b.set(i, values[i % 16]);
  for (const auto& names : {kBinaryOfAny, kBinaryOfNumbers})
    for (int k = 0; k < 4; k++) check_op(names[k], ScalarAttrs{}, {&a, &b}, Dtype::f32, {16, 16});
  for (const char* name : kBinaryOfFloats) check_op(name, ScalarAttrs{}, {&a, &b}, Dtype::f32, {16, 16});
  for (const char* name : kComparisons) check_op(name, ScalarAttrs{}, {&a, &b}, Dtype::boolean, {16, 16});
}

FOVEA_TEST(elementwise_integers) {
  for (Dtype dtype : kInts) {
    if (dtype == Dtype::u8) continue;
    const double lowest = dtype == Dtype::i8 ? -128 : dtype == Dtype::i32 ? -0x1p31 : -0x1p63;
    Tensor a = Tensor::from(dtype, {8}, {7, -7, 7, -7, lowest, 0, lowest, 5});
    Tensor b = Tensor::from(dtype, {8}, {3, 3, -3, -3, -1, 5, 1, -5}), c(dtype, {8});
    for (const char* name : {"add", "sub", "mul", "remainder", "floorDivide", "pow"})
      check_op(name, ScalarAttrs{}, {&a, &b}, dtype, {8});
    for (const char* name : {"neg", "abs", "square"}) check_op(name, NoAttrs{}, {&a}, dtype, {8});
    const char* zero = "an integer is divided by zero";
    for (const char* name : {"remainder", "floorDivide"}) {
      const std::string expected = format("FOVEA_ARGUMENT %s: %s", name, zero);
      FOVEA_CHECK(refusal(name, ScalarAttrs{}, {&a, nullptr}, &c) == expected, "%s %s", name, name_of(dtype));
      Tensor with_zero = Tensor::from(dtype, {8}, {3, 3, -3, -3, -1, 5, 1, 0});
      FOVEA_CHECK(refusal(name, ScalarAttrs{}, {&a, &with_zero}, &c) == expected, "%s", name);
    }
    const std::string text = refusal("pow", ScalarAttrs{.scalar = -1}, {&a, nullptr}, &c);
    FOVEA_CHECK(text.starts_with("FOVEA_ARGUMENT pow: integers cannot be raised to the negative power -1"), "%s",
                text.c_str());
  }
}

// Sizes around packs and blocks; views that begin in the middle of a pack.
FOVEA_TEST(elementwise_sizes) {
  for (Dtype dtype : kAll)
    for (int64_t n : {0, 1, 2, 3, 7, 8, 9, 127, 128, 1023, 1024, 1025, 2047, 2051, 5003})
      for (int64_t begin : {0, 1, 8}) {
        Tensor x(dtype, {n + begin});
        x.view.data += begin * int64_t(kDtypeBytes[int(dtype)]), x.view.shape[0] = n;
        x.fill_random(5, 0, 9);
        check_op("add", ScalarAttrs{.scalar = 3}, {&x, nullptr}, dtype, {n});
        check_op("copy", NoAttrs{}, {&x}, dtype, {n});
        if (begin == 0) check_op("mul", ScalarAttrs{}, {&x, &x}, dtype, {n});
      }
  for (Dtype dtype : kAll)
    for (int64_t gap : {1, 2, 8}) {  // rows of whole packs, which may begin within one
      Tensor x(dtype, {9, 32 + gap}), bias = Tensor::expanded(dtype, {9, 32}, {true, false});
      x.view.shape[1] = 32, x.fill_random(5, 0, 9), bias.fill_random(6, 0, 9);
      check_op("add", ScalarAttrs{}, {&x, &bias}, dtype, {9, 32});
    }
  Tensor x = Tensor::from(Dtype::f32, {}, {3}), y(Dtype::f32, {});
  run_cuda("square", NoAttrs{}, {&x}, {&y});
  FOVEA_CHECK(y.at(0) == 9, "%g", y.at(0));
}

FOVEA_TEST(elementwise_in_place) {
  for (Dtype dtype : kAll)
    for (int layout : {0, 1, 2, 5}) {
      auto make = [&] { return sample(dtype, layout, 3); };
      for (int other = 0; other < kLayouts; other++) {
        Tensor b = sample(dtype, other, 4);
        for (const char* name : {"add_", "mul_"}) check_in_place(name, ScalarAttrs{}, make, &b);
        if (dtype != Dtype::boolean) check_in_place("sub_", ScalarAttrs{}, make, &b);
        if (is_float(dtype)) check_in_place("div_", ScalarAttrs{}, make, &b);
      }
      check_in_place("mul_", ScalarAttrs{.scalar = 0.3}, make, nullptr);
      if (dtype != Dtype::boolean) check_in_place("sub_", ScalarAttrs{.scalar = 5, .scalarFirst = true}, make, nullptr);
    }
}

FOVEA_TEST(elementwise_casts) {
  for (Dtype from : kAll)
    for (Dtype to : kAll)
      for (int layout = 0; layout < kLayouts; layout++) {
        Tensor x = sample(from, layout, 1, -300, 300);
        if (from == Dtype::f32 || from == Dtype::f64) {
          const double ends[] = {3e9, -3e9, 0x1p63, -0x1p63, 1e30, -1e30, 0x1p-140, 65520, 2.9, -2.9, 1 + 0x1p-8};
          for (int64_t i = 0; i < 11; i++) x.set(4 + i, ends[i]);
          if (from == Dtype::f64) x.set(20, 1 + 0x1p-8 + 0x1p-40), x.set(21, 1 + 0x1p-11 + 0x1p-40);
        }
        if (from == Dtype::i64) x.set(9, 0x1p40 + 0x1p32 + 1), x.set(10, -0x1p63), x.set(11, 0x1p31);
        check_op("cast", CastAttrs{to}, {&x}, to, kShape);
        for (int target : {0, 1, 2, 5})
          if (layout == 0 || target == 2)
            check_in_place(
                "copy_", NoAttrs{}, [&] { return sample(to, target, 9); }, &x);
      }
}

FOVEA_TEST(elementwise_transposed_copies) {
  const std::pair<std::vector<int64_t>, std::vector<int>> cases[] = {
      {{70, 45}, {1, 0}},
      {{64, 64}, {1, 0}},
      {{3, 33, 130}, {0, 2, 1}},
      {{50, 3, 67}, {2, 1, 0}},
      {{2, 40, 3, 36}, {0, 3, 2, 1}},
      {{2, 65, 7, 9}, {0, 2, 3, 1}},
      {{2, 3, 2, 2, 3, 2, 2, 3}, {7, 3, 1, 5, 0, 2, 4, 6}}};
  for (Dtype dtype : {Dtype::u8, Dtype::bf16, Dtype::f32, Dtype::f64})
    for (const auto& [shape, order] : cases) {
      Tensor x = Tensor::strided(dtype, shape, order);
      x.fill_random(5, 0, 200);
      check_op("copy", NoAttrs{}, {&x}, dtype, shape);
      Tensor dense = Tensor::random(dtype, shape, 6, 0, 200);
      check_in_place(
          "copy_", NoAttrs{}, [&, &shape = shape, &order = order] { return Tensor::strided(dtype, shape, order); },
          &dense);
      check_in_place(
          "add_", ScalarAttrs{},
          [&, &shape = shape, &order = order] {
            Tensor t = Tensor::strided(dtype, shape, order);
            t.fill_random(8, 0, 20);
            return t;
          },
          &x);
    }
}

FOVEA_TEST(elementwise_choices) {
  for (Dtype dtype : kAll)
    for (int layout = 0; layout < kLayouts; layout++) {
      Tensor c = sample(Dtype::boolean, layout, 1, 0, 2), a = sample(dtype, 0, 2),
             b = sample(dtype, kLayouts - 1 - layout, 3);
      check_op("where", WhereAttrs{}, {&c, &a, &b}, dtype, kShape);
      check_op("where", WhereAttrs{.scalarA = 0.7}, {&c, nullptr, &b}, dtype, kShape);
      check_op("where", WhereAttrs{.scalarB = -kInf}, {&c, &a, nullptr}, dtype, kShape);
      check_op("where", WhereAttrs{1, 300}, {&c, nullptr, nullptr}, dtype, kShape);
      for (const char* name : {"logicalAnd", "logicalOr", "logicalXor"}) {
        Tensor d = sample(layout % 2 ? Dtype::boolean : Dtype::f16, layout, 5, 0, 2);
        check_op(name, NoAttrs{}, {&c, &d}, Dtype::boolean, kShape);
        check_op(name, NoAttrs{}, {&a, &d}, Dtype::boolean, kShape);
      }
    }
}

FOVEA_TEST(elementwise_triangle) {
  for (Dtype dtype : {Dtype::boolean, Dtype::bf16, Dtype::i32, Dtype::f64})
    for (int layout = 0; layout < kLayouts; layout++)
      for (int64_t diagonal : {-40, -2, 0, 1, 36, 50})
        for (bool upper : {false, true}) {
          Tensor x = sample(dtype, layout, 1, -30, 30, {2, 31, 37});
          check_op("triangle", TriangleAttrs{diagonal, upper}, {&x}, dtype, {2, 31, 37});
        }
}

}  // namespace fovea::test
