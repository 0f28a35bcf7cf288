// Checks of quantised weights that all devices share: against a float64 model of the blocks of GGUF files, written from
// their definition and not through what is packed. Repacking gives the same bytes back, weights have the same bits, and
// a product is that of the exact integers. Shapes are odd, of one block and of many.
#pragma once
#include "ops/quantized/attrs.h"
#include "ops/quantized/layout.h"
#include "test/harness.h"

namespace fovea::test {

constexpr QuantType kFileTypes[] = {QuantType::q8_0, QuantType::q4_0, QuantType::q4_K, QuantType::q6_K};
constexpr QuantType kQuantTypesTested[] = {QuantType::q8_0, QuantType::q4_0, QuantType::q4_K, QuantType::q6_K,
                                           QuantType::int8};

inline QuantizedAttrs attrs_of(QuantType type, int64_t n, int64_t k, int64_t size = 0) {
  QuantizedAttrs attrs;
  attrs.type = int64_t(type), attrs.n = n, attrs.k = k, attrs.size = size;
  return attrs;
}

// ---- the model of a file's blocks

struct Weight {
  double scale, minimum, value;  // scale quant - minimum, and that as float32
  int quant;
};
inline double half_at(const uint8_t* p) { return to_float(Half{uint16_t(p[0] | p[1] << 8)}); }

inline Weight weight_at(QuantType type, const uint8_t* block, int i) {
  double scale = 0, minimum = 0;
  int quant = 0;
  if (type == QuantType::q8_0) scale = half_at(block), quant = int8_t(block[2 + i]);
  if (type == QuantType::q4_0) scale = half_at(block), quant = (i < 16 ? block[2 + i] & 15 : block[i - 14] >> 4) - 8;
  if (type == QuantType::q4_K) {
    const uint8_t *s = block + 4, *q = block + 16;
    int j = i / 32, byte = q[j / 2 * 32 + i % 32];
    int sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) + 16 * (s[j - 4] / 64);
    int m = j < 4 ? s[j + 4] & 63 : s[j + 4] / 16 + 16 * (s[j] / 64);
    scale = half_at(block) * sc, minimum = half_at(block + 2) * m, quant = j % 2 ? byte / 16 : byte % 16;
  }
  if (type == QuantType::q6_K) {
    int half = i / 128, l = i % 32, part = i % 128 / 32;
    int low = block[half * 64 + (part & 1) * 32 + l], high = block[128 + half * 32 + l];
    quant = (part < 2 ? low & 15 : low >> 4) + 16 * ((high >> (2 * part)) & 3) - 32;
    scale = half_at(block + 208) * int8_t(block[192 + i / 16]);
  }
  return {scale, minimum, double(float(scale * quant - minimum)), quant};
}

// Random bytes with scales of ordinary size.
inline Tensor random_file(QuantType type, int64_t n, int64_t k, uint64_t seed) {
  Tensor file(Dtype::u8, {gguf_bytes(type, n, k)});
  Numbers random{seed};
  uint8_t* bytes = file.view.as<uint8_t>();
  for (int64_t i = 0; i < file.size(); i++) bytes[i] = uint8_t(random.bits());
  for (int64_t b = 0; b < n * blocks_of(type, k); b++) {
    uint8_t* block = bytes + b * gguf_block_bytes(type);
    auto put = [&](int64_t at) {
      uint16_t half = to_half(float(random.between(-0.1, 0.1))).bits;
      block[at] = uint8_t(half), block[at + 1] = uint8_t(half >> 8);
    };
    put(type == QuantType::q6_K ? 208 : 0);
    if (type == QuantType::q4_K) put(2);
  }
  return file;
}
inline std::vector<Weight> model_of(QuantType type, const Tensor& file, int64_t n, int64_t k) {
  std::vector<Weight> weights;
  int64_t length = block_of(type);
  for (int64_t b = 0; b < n * (k / length); b++)
    for (int i = 0; i < length; i++)
      weights.push_back(weight_at(type, file.view.as<uint8_t>() + b * gguf_block_bytes(type), i));
  return weights;
}

template <class Run>
Tensor packed_of(const Run& run, QuantType type, Tensor& file, int64_t n, int64_t k) {
  Tensor packed(Dtype::u8, {packed_bytes(type, n, k)});
  run("packQuantized", attrs_of(type, n, k, packed.size()), {&file}, {&packed});
  return packed;
}
template <class Run>
Tensor dequantized(const Run& run, QuantType type, Tensor& packed, int64_t n, int64_t k, Dtype dtype = Dtype::f32) {
  DequantizeAttrs attrs;
  attrs.type = int64_t(type), attrs.n = n, attrs.k = k, attrs.dtype = dtype;
  Tensor w(dtype, {n, k});
  run("dequantize", attrs, {&packed}, {&w});
  return w;
}
template <class Run>
Tensor quantized(const Run& run, QuantType type, Tensor& w) {
  int64_t n = w.view.shape[0], k = w.view.shape[1];
  Tensor packed(Dtype::u8, {packed_bytes(type, n, k)});
  run("quantize", attrs_of(type, n, k, packed.size()), {&w}, {&packed});
  return packed;
}
template <class Run>
Tensor linear(const Run& run, QuantType type, Tensor& x, Tensor& packed, int64_t n, Tensor* bias = nullptr) {
  int64_t m = x.view.shape[0], k = x.view.shape[1];
  Tensor y(x.dtype(), {m, n});
  run("quantizedLinear", attrs_of(type, n, k), {&x, &packed, bias}, {&y});
  return y;
}

// ---- the model of a product

// Quants of a row of x, and what each is worth: max |x| / 127 over `piece` values.
inline void model_activations(const Tensor& x, int64_t row, int64_t piece, std::vector<int>& quants,
                              std::vector<float>& d) {
  int64_t k = x.view.shape[1];
  quants.assign(size_t(k), 0), d.assign(size_t(k), 0);
  for (int64_t from = 0; from < k; from += piece) {
    int64_t end = std::min(from + piece, k);
    float top = 0;
    for (int64_t i = from; i < end; i++) top = std::max(top, std::fabs(float(x.at(row * k + i))));
    float scale = top / 127, inverse = scale > 0 ? 1 / scale : 0;
    for (int64_t i = from; i < end; i++) {
      quants[size_t(i)] = int(std::nearbyint(float(x.at(row * k + i)) * inverse));
      d[size_t(i)] = scale;
    }
  }
}

inline void check_product(const Tensor& x, const std::vector<Weight>& w, QuantType type, int64_t n, const Tensor& y,
                          const char* where) {
  int64_t m = x.view.shape[0], k = x.view.shape[1];
  std::vector<int> quants;
  std::vector<float> d;
  double error = 0, power = 0;
  for (int64_t r = 0; r < m; r++) {
    model_activations(x, r, type == QuantType::int8 ? k : block_of(type), quants, d);
    for (int64_t c = 0; c < n; c++) {
      double sum = 0, size = 0, plain = 0;
      for (int64_t i = 0; i < k; i++) {
        const Weight& weight = w[size_t(c * k + i)];
        double q = quants[size_t(i)] * double(d[size_t(i)]);
        sum += q * (weight.scale * weight.quant - weight.minimum);
        size += std::fabs(q) * (std::fabs(weight.scale * weight.quant) + std::fabs(weight.minimum));
        plain += x.at(r * k + i) * weight.value;
      }
      double got = y.at(r * n + c), tolerance = 4e-7 * size + (y.dtype() == Dtype::f32 ? 0 : ulp(y.dtype(), sum));
      FOVEA_CHECK(close(got, sum, tolerance), "%s type %d [%lld,%lld,%lld] at %lld,%lld: %.9g, expected %.9g", where,
                  int(type), (long long)m, (long long)n, (long long)k, (long long)r, (long long)c, got, sum);
      error += (got - plain) * (got - plain), power += plain * plain;
    }
  }
  FOVEA_CHECK(error <= 5e-4 * power, "%s type %d: NMSE %g", where, int(type), error / power);
}

struct ProductShape {
  int64_t m, n, k;
};
constexpr ProductShape kProductShapes[] = {{1, 1, 256},   {1, 16, 512},   {2, 17, 256}, {3, 5, 768},   {5, 33, 512},
                                           {13, 31, 256}, {26, 48, 1024}, {37, 7, 256}, {40, 19, 1280}};

template <class Run>
std::vector<Weight> model_of_int8(const Run& run, Tensor& packed, int64_t n, int64_t k) {
  Tensor w = dequantized(run, QuantType::int8, packed, n, k);
  std::vector<Weight> weights;
  for (int64_t c = 0; c < n; c++) {
    double scale = 0;
    for (int64_t i = 0; i < k; i++) scale = std::max(scale, std::fabs(w.at(c * k + i)) / 127);
    for (int64_t i = 0; i < k; i++) {
      double value = w.at(c * k + i);
      weights.push_back({scale, 0, value, scale > 0 ? int(std::lround(value / scale)) : 0});
    }
  }
  return weights;
}

template <class Run>
void check_repacking(const Run& run) {
  const std::string name = run.where();
  const char* where = name.c_str();
  for (QuantType type : kFileTypes)
    for (int64_t n : {1, 15, 16, 33})
      for (int64_t k : {256, 768}) {
        Tensor file = random_file(type, n, k, uint64_t(n * k)), back(Dtype::u8, {file.size()});
        Tensor packed = packed_of(run, type, file, n, k);
        run("unpackQuantized", attrs_of(type, n, k, file.size()), {&packed}, {&back});
        FOVEA_CHECK(back.same_bits(file), "%s type %d [%lld,%lld]", where, int(type), (long long)n, (long long)k);
      }
}

template <class Run>
void check_definitions(const Run& run) {
  const std::string name = run.where();
  const char* where = name.c_str();
  for (QuantType type : kFileTypes)
    for (Dtype dtype : kFloats) {
      int64_t n = 19, k = 512;
      Tensor file = random_file(type, n, k, 7), packed = packed_of(run, type, file, n, k);
      Tensor w = dequantized(run, type, packed, n, k, dtype), expected(dtype, {n, k});
      std::vector<Weight> model = model_of(type, file, n, k);
      for (int64_t i = 0; i < n * k; i++) expected.set(i, model[size_t(i)].value);
      for (int64_t i = 0; i < n * k; i++)
        FOVEA_CHECK(w.at(i) == expected.at(i), "%s type %d at %lld: %.9g, expected %.9g", where, int(type),
                    (long long)i, w.at(i), expected.at(i));
    }
}

template <class Run>
void check_products(const Run& run) {
  const std::string name = run.where();
  const char* where = name.c_str();
  for (QuantType type : kQuantTypesTested)
    for (ProductShape s : kProductShapes)
      for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
        if (dtype != Dtype::f32 && s.m != 5) continue;
        Tensor x = Tensor::random(dtype, {s.m, s.k}, 11), packed;
        std::vector<Weight> model;
        if (type == QuantType::int8) {
          Tensor w = Tensor::random(Dtype::f32, {s.n, s.k}, 3);
          packed = quantized(run, type, w);
          model = model_of_int8(run, packed, s.n, s.k);
        } else {
          Tensor file = random_file(type, s.n, s.k, 5);
          packed = packed_of(run, type, file, s.n, s.k);
          model = model_of(type, file, s.n, s.k);
        }
        check_product(x, model, type, s.n, linear(run, type, x, packed, s.n), where);
      }
}

template <class Run>
void check_any_width(const Run& run) {
  const std::string name = run.where();
  const char* where = name.c_str();
  for (int64_t k : {1, 3, 31, 33, 100, 530, 1000}) {
    Tensor w = Tensor::random(Dtype::f32, {18, k}, 3), packed = quantized(run, QuantType::int8, w);
    std::vector<Weight> model = model_of_int8(run, packed, 18, k);
    for (int64_t m : {4, 50}) {
      Tensor x = Tensor::random(Dtype::f32, {m, k}, 9);
      check_product(x, model, QuantType::int8, 18, linear(run, QuantType::int8, x, packed, 18), where);
    }
  }
}

template <class Run>
void check_special_values(const Run& run) {
  const std::string name = run.where();
  const char* where = name.c_str();
  for (QuantType type : kQuantTypesTested)
    for (double special : {double(NAN), double(INFINITY), -double(INFINITY), 1e30, 1e-40, 0.0}) {
      Tensor w = Tensor::random(Dtype::f32, {18, 512}, 6), x = Tensor::random(Dtype::f32, {3, 512}, 8);
      Tensor sound = quantized(run, type, w);
      x.set(512 + 100, special);
      Tensor y = linear(run, type, x, sound, 18);
      for (int64_t i = 0; i < 3 * 18; i++)
        FOVEA_CHECK(std::isnan(y.at(i)) == (i / 18 == 1 && !std::isfinite(special)), "%s type %d x %g at %lld: %g",
                    where, int(type), special, (long long)i, y.at(i));
      for (int64_t i = 0; i < 512; i++) w.set(3 * 512 + i, special);
      Tensor packed = quantized(run, type, w), back = dequantized(run, type, packed, 18, 512);
      bool fits = type == QuantType::int8 ? std::isfinite(special) : std::fabs(special) < 1e20;
      for (int64_t i = 0; i < w.size(); i++)
        FOVEA_CHECK(std::isfinite(back.at(i)) == (i / 512 != 3 || fits), "%s type %d w %g at %lld: %g", where,
                    int(type), special, (long long)i, back.at(i));
    }
}

// A row alone gives what it gives among `m` rows.
template <class Run>
void check_rows_alone(const Run& run, int64_t m, int64_t k) {
  for (QuantType type : kQuantTypesTested) {
    if (k % divisor_of(type) != 0) continue;
    int64_t n = 37;
    Tensor w = Tensor::random(Dtype::f32, {n, k}, 1), x = Tensor::random(Dtype::f32, {m, k}, 2);
    Tensor bias = Tensor::random(Dtype::f32, {n}, 3), packed = quantized(run, type, w);
    Tensor y = linear(run, type, x, packed, n, &bias);
    for (int64_t row : {int64_t(0), int64_t(5), m - 1}) {
      Tensor one(Dtype::f32, {1, k});
      for (int64_t i = 0; i < k; i++) one.set(i, x.at(row * k + i));
      Tensor alone = linear(run, type, one, packed, n, &bias);
      for (int64_t c = 0; c < n; c++)
        FOVEA_CHECK(alone.at(c) == y.at(row * n + c), "%s type %d row %lld", run.where().c_str(), int(type),
                    (long long)row);
    }
  }
}

template <class Run>
void check_refusals(const Run& run) {
  Tensor x(Dtype::f32, {2, 64}), y(Dtype::f32, {2, 8}), packed(Dtype::u8, {packed_bytes(QuantType::q8_0, 8, 64)});
  auto code = [&](QuantizedAttrs attrs) {
    return code_of([&] { run("quantizedLinear", attrs, {&x, &packed, nullptr}, {&y}); });
  };
  FOVEA_CHECK(code(attrs_of(QuantType(9), 8, 64)) == "FOVEA_ARGUMENT", "type");
  FOVEA_CHECK(code(attrs_of(QuantType(-1), 8, 64)) == "FOVEA_ARGUMENT", "type");
  FOVEA_CHECK(code(attrs_of(QuantType::q8_0, 8, 40)) == "FOVEA_SHAPE", "k");
  FOVEA_CHECK(code(attrs_of(QuantType::q8_0, 40, 64)) == "FOVEA_SHAPE", "packed size");
  FOVEA_CHECK(code(attrs_of(QuantType::q8_0, int64_t(1) << 60, 64)) == "FOVEA_SHAPE", "n");
  FOVEA_CHECK(code(attrs_of(QuantType::q8_0, 8, -64)) == "FOVEA_SHAPE", "k");
  FOVEA_CHECK(code(attrs_of(QuantType::int8, 8, int64_t(1) << 20)) == "FOVEA_UNSUPPORTED", "deep int8");
  Tensor file(Dtype::u8, {64});
  FOVEA_CHECK(code_of([&] {
                run("packQuantized", attrs_of(QuantType::q8_0, 8, 64, packed.size()), {&file}, {&packed});
              }) == "FOVEA_SHAPE",
              "a file's size");
  FOVEA_CHECK(code_of([&] { run("unpackQuantized", attrs_of(QuantType::int8, 8, 64, 64), {&packed}, {&file}); }) ==
                  "FOVEA_UNSUPPORTED",
              "int8 of a file");
}

template <class Run>
void check_loss(const Run& run) {
  const std::string name = run.where();
  const char* where = name.c_str();
  const double bounds[] = {1.6e-5, 4.7e-3, 3.4e-3, 1.9e-4, 1.7e-5};  // of the power of uniform weights

  for (QuantType type : kQuantTypesTested) {
    Tensor w = Tensor::random(Dtype::f32, {32, 1024}, 4), packed = quantized(run, type, w);
    Tensor back = dequantized(run, type, packed, 32, 1024);
    double error = 0, power = 0;
    for (int64_t i = 0; i < w.size(); i++) error += std::pow(w.at(i) - back.at(i), 2), power += w.at(i) * w.at(i);
    FOVEA_CHECK(error <= bounds[int(type)] * power, "%s type %d: NMSE %g", where, int(type), error / power);
  }
}

}  // namespace fovea::test
