// CUDA matrix products against a plain float64 model: every kernel of matmul, with odd sizes, every stride pattern,
// broadcasting, all dtypes, special values, and parts of k. matmul_sm90_test.cc has those of sm_90.
#include "test/emulator/matmul_model.h"

namespace fovea::test {
namespace {

using Shape = std::vector<int64_t>;
using cuda::MatmulKernel;
using Sizes = std::array<int64_t, 3>;  // m, n, k

constexpr Dtype kMatmulTypes[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i32, Dtype::i64};
constexpr int kCapability = 80;

void check(const MatmulAttrs& attrs, Tensor& a, Tensor& b, Tensor* bias, Shape shape, const char* what,
           Tensor* residual = nullptr) {
  check_matmul(attrs, a, b, bias, shape, what, kCapability, residual);
}

struct Arrangement {
  const char* name;
  std::vector<int> order;
  int64_t step;
};
const Arrangement kArrangements[] = {{"row-major", {0, 1}, 1}, {"transposed", {1, 0}, 1}, {"spaced", {0, 1}, 2}};

// `arrangements`: so many of them, for both operands.
void check_layouts(Dtype dtype, int64_t m, int64_t n, int64_t k, int arrangements = 3) {
  for (int i = 0; i < arrangements * arrangements; i++) {
    const Arrangement &left = kArrangements[i / arrangements], &right = kArrangements[i % arrangements];
    Tensor a = numbers(Tensor::strided(dtype, {m, k}, left.order, left.step), 1);
    Tensor b = numbers(Tensor::strided(dtype, {k, n}, right.order, right.step), 2);
    check({}, a, b, nullptr, {m, n}, format("%s x %s", left.name, right.name).c_str());
  }
}

FOVEA_TEST(matmul_small_sizes_of_every_dtype_and_layout) {
  for (Dtype dtype : kMatmulTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{1, 1, 1}, {2, 7, 3}, {17, 5, 31}, {33, 70, 18}, {65, 66, 67}})
      check_layouts(dtype, m, n, k);
}

// Tails of every tile, with and without room for 16-byte copies.
FOVEA_TEST(matmul_ragged_tiles) {
  FOVEA_CHECK(matmul_plan_of(Dtype::f32, {260, 131, 95}, kCapability).rows == 64, "f32 tiles of another size");
  FOVEA_CHECK(matmul_plan_of(Dtype::f16, {40, 136, 24}, kCapability).kernel == MatmulKernel::sm80, "no tensor cores");
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16})
    for (auto [m, n, k] : std::initializer_list<Sizes>{{64, 64, 16},
                                                       {128, 128, 64},
                                                       {40, 136, 24},
                                                       {136, 264, 72},
                                                       {129, 63, 250},
                                                       {260, 131, 95},
                                                       {132, 148, 20}})
      check_layouts(dtype, m, n, k);
}

// Rows that can be read 16 bytes at a time, but for their ends.
FOVEA_TEST(matmul_padded_rows) {
  const std::vector<int> orders[] = {{0, 1}, {1, 0}};
  for (Dtype dtype : kFloats)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{1, 101, 131}, {5, 77, 523}, {66, 67, 35}, {60, 72, 203}})
      for (const auto& left : orders)
        for (const auto& right : orders) {
          Tensor a = padded(dtype, m, k, left, 25), b = padded(dtype, k, n, right, 26);
          check({}, a, b, nullptr, {m, n}, "padded");
        }
}

FOVEA_TEST(matmul_large_tiles) {
  for (auto [m, n, k] : std::initializer_list<Sizes>{{904, 508, 40}, {901, 510, 37}}) {
    FOVEA_CHECK(matmul_plan_of(Dtype::f32, {m, n, k}, kCapability).rows == 128, "f32 tiles of another size");
    check_layouts(Dtype::f32, m, n, k, 2);
  }
}

FOVEA_TEST(matmul_many_tiles_and_odd_strides_between_rows) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    Tensor a = numbers(Tensor(dtype, {1200, 40}), 3), b = numbers(Tensor(dtype, {40, 264}), 4);
    check({}, a, b, nullptr, {1200, 264}, "bands of tiles");
    for (int64_t k : {40, 43}) {  // matrices whose rows alternate
      Tensor left = numbers(Tensor::strided(dtype, {2, 130, k}, {1, 0, 2}), 5),
             right = numbers(Tensor::strided(dtype, {2, k, 70}, {1, 0, 2}), 6);
      check({}, left, right, nullptr, {2, 130, 70}, "alternating rows");
    }
  }
}

// Few tiles and much k: parts, added by a second kernel.
FOVEA_TEST(matmul_parts_of_k) {
  for (Dtype dtype : kMatmulTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{9, 20, 2100}, {20, 140, 1030}, {72, 40, 1544}}) {
      FOVEA_CHECK(matmul_plan_of(dtype, {m, n, k}, kCapability).splits > 1, "k is not split");
      check_layouts(dtype, m, n, k, dtype == Dtype::f32 || dtype == Dtype::bf16 ? 2 : 1);
      Tensor a = numbers(Tensor(dtype, {m, k}), 7), b = numbers(Tensor(dtype, {k, n}), 8),
             bias = numbers(Tensor::expanded(dtype, {m, n}, {true, false}), 9);
      check({.alpha = 2, .beta = -1}, a, b, &bias, {m, n}, "parts with bias");
    }
}

FOVEA_TEST(matmul_few_rows) {
  for (Dtype dtype : kFloats) {
    for (int64_t m : {1, 2, 3, 4, 5, 8}) {
      for (const auto& order : {std::vector<int>{0, 1}, {1, 0}})
        FOVEA_CHECK(matmul_plan_of(dtype, {m, 100, 130}, kCapability, {0, 1}, order).kernel == MatmulKernel::skinny,
                    "another kernel than the one for few rows");
      check_layouts(dtype, m, 100, 130);
      check_layouts(dtype, m, 72, 264, 2);
    }
    check_layouts(dtype, 1, 3, 5000, 2), check_layouts(dtype, 4, 264, 520, 2), check_layouts(dtype, 1, 1, 9001, 1);
    check_layouts(dtype, 300, 4, 200, 2), check_layouts(dtype, 130, 1, 513), check_layouts(dtype, 120, 8, 7);
    Tensor a = numbers(Tensor(dtype, {2, 3, 136}), 10),
           b = numbers(Tensor::strided(dtype, {2, 136, 72}, {0, 2, 1}), 11),
           bias = numbers(Tensor(dtype, {2, 3, 72}), 12);
    check({.alpha = 0.5, .beta = 3}, a, b, &bias, {2, 3, 72}, "few rows, batched");
  }
}

FOVEA_TEST(matmul_bias_alpha_beta) {
  for (Dtype dtype : kMatmulTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{1, 66, 130}, {6, 9, 5}, {70, 36, 17}, {131, 130, 40}})
      for (bool left : {false, true}) {
        Tensor a = numbers(Tensor::strided(dtype, {m, k}, left ? std::vector<int>{1, 0} : std::vector<int>{0, 1}), 13);
        Tensor b = numbers(Tensor(dtype, {k, n}), 14);
        for (auto repeats : {std::vector<bool>{false, false}, {true, false}, {false, true}, {true, true}}) {
          Tensor bias = numbers(Tensor::expanded(dtype, {m, n}, repeats), 15);
          check({}, a, b, &bias, {m, n}, "bias");
          check({.alpha = -3, .beta = 2}, a, b, &bias, {m, n}, "alpha and beta");
        }
        Tensor transposed = numbers(Tensor::strided(dtype, {m, n}, {1, 0}), 16), unread(dtype, {m, n});
        check({.alpha = 2, .beta = -1}, a, b, &transposed, {m, n}, "transposed bias");
        check({.alpha = 2, .beta = 0}, a, b, &unread, {m, n}, "beta = 0 and a bias of NaN");
        check({.alpha = 0, .beta = 1}, a, b, &transposed, {m, n}, "alpha = 0");
      }
}

// Every kernel, tiles with ragged edges, parts of k, whose bare sums have none, and nothing to sum.
FOVEA_TEST(matmul_activations) {
  FOVEA_CHECK(matmul_plan_of(Dtype::f32, {904, 508, 40}, kCapability).rows == 128, "f32 tiles of another size");
  FOVEA_CHECK(matmul_plan_of(Dtype::bf16, {72, 40, 1544}, kCapability).splits > 1, "k is not split");
  for (Dtype dtype : kFloats)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{6, 9, 5},
                                                       {3, 100, 130},
                                                       {1, 72, 2056},
                                                       {70, 36, 17},
                                                       {131, 136, 40},
                                                       {904, 508, 40},
                                                       {20, 140, 1030},
                                                       {72, 40, 1544},
                                                       {33, 70, 0}}) {
      if (dtype != Dtype::f32 && m > 900) continue;
      Tensor a = numbers(Tensor(dtype, {m, k}), 13), b = numbers(Tensor::strided(dtype, {k, n}, {1, 0}), 14),
             bias = numbers(Tensor::expanded(dtype, {m, n}, {true, false}), 15);
      double alpha = 1 / std::sqrt(double(k + 1));
      for (int64_t activation : {1, 2, 3, 4}) {
        check({.alpha = alpha, .activation = activation}, a, b, nullptr, {m, n}, "activation");
        check({.alpha = alpha, .beta = -1, .activation = activation}, a, b, &bias, {m, n}, "activation and bias");
      }
    }
  Tensor a = numbers(Tensor(Dtype::f32, {2, 3, 40, 48}), 17), b = numbers(Tensor(Dtype::f32, {2, 3, 48, 24}), 18);
  check({.alpha = 0.1, .activation = 1}, a, b, nullptr, {2, 3, 40, 24}, "activation, batched");
}

// Every kernel, with and without an activation before it, parts of k, repeated rows and columns, and many matrices.
FOVEA_TEST(matmul_residual) {
  for (Dtype dtype : kMatmulTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{
             {6, 9, 5}, {3, 100, 130}, {1, 72, 2056}, {70, 36, 17}, {131, 136, 40}, {72, 40, 1544}, {33, 70, 0}}) {
      Tensor a = numbers(Tensor(dtype, {m, k}), 13), b = numbers(Tensor::strided(dtype, {k, n}, {1, 0}), 14),
             bias = numbers(Tensor::expanded(dtype, {m, n}, {true, false}), 15),
             dense = numbers(Tensor(dtype, {m, n}), 27), turned = numbers(Tensor::strided(dtype, {m, n}, {1, 0}), 28),
             row = numbers(Tensor::expanded(dtype, {m, n}, {true, false}), 29);
      int64_t last = dtype == Dtype::i32 || dtype == Dtype::i64 ? 0 : 4;
      for (Tensor* residual : {&dense, &turned, &row})
        for (int64_t activation = 0; activation <= last; activation += 4)
          check({.alpha = 2, .beta = -1, .activation = activation}, a, b, &bias, {m, n}, "residual", residual);
    }
  for (bool repeats : {false, true}) {
    Tensor a = numbers(Tensor(Dtype::f32, {2, 3, 40, 48}), 17), b = numbers(Tensor(Dtype::f32, {2, 3, 48, 24}), 18),
           r = numbers(Tensor::expanded(Dtype::f32, {2, 3, 40, 24}, {false, repeats, false, false}), 30);
    check({}, a, b, nullptr, {2, 3, 40, 24}, "residual, batched", &r);
  }
}

FOVEA_TEST(matmul_batches) {
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::i64})
    for (auto [m, n, k] : std::initializer_list<Sizes>{{1, 68, 130}, {6, 17, 9}, {40, 48, 24}, {70, 5, 3}}) {
      for (int pattern = 0; pattern < 16; pattern++) {
        bool a0 = pattern & 1, a1 = pattern & 2, b0 = pattern & 4, b1 = pattern & 8;
        Tensor a = numbers(Tensor::expanded(dtype, {3, 2, m, k}, {a0, a1, false, false}), 17);
        Tensor b = numbers(Tensor::expanded(dtype, {3, 2, k, n}, {b0, b1, false, false}), 18);
        Tensor bias = numbers(Tensor::expanded(dtype, {3, 2, m, n}, {b1, b0, true, false}), 19);
        check({}, a, b, nullptr, {3, 2, m, n}, "batched");
        check({}, a, b, &bias, {3, 2, m, n}, "batched with bias");
      }
      // [b, t, h, d] seen as [b, h, t, d], as heads are.
      Tensor q = numbers(Tensor::strided(dtype, {2, 3, m, k}, {0, 2, 1, 3}), 20),
             w = numbers(Tensor::strided(dtype, {2, 3, k, n}, {0, 3, 1, 2}), 21);
      check({}, q, w, nullptr, {2, 3, m, n}, "heads");
    }
}

FOVEA_TEST(matmul_nothing_to_sum) {
  for (Dtype dtype : kMatmulTypes)
    for (auto [m, n] : std::initializer_list<std::array<int64_t, 2>>{{1, 1}, {3, 70}, {130, 9}, {70, 66}}) {
      Tensor a(dtype, {2, m, 0}), b(dtype, {2, 0, n}), bias = numbers(Tensor(dtype, {2, m, n}), 22);
      check({}, a, b, nullptr, {2, m, n}, "k = 0");
      check({.beta = 2}, a, b, &bias, {2, m, n}, "k = 0 with bias");
    }
}

// One NaN or infinity reaches its row or column and nothing else: padding must not multiply infinity by zero.
FOVEA_TEST(matmul_special_values) {
  for (Dtype dtype : kFloats)
    for (double special : {double(NAN), double(INFINITY), -double(INFINITY)})
      for (auto [m, n, k] : std::initializer_list<Sizes>{{1, 70, 130}, {3, 18, 40}, {40, 37, 23}, {130, 72, 40}})
        check_special_value(dtype, special, m, n, k, kCapability);
}

FOVEA_TEST(matmul_sixteen_bits_sum_in_float32) {
  // 2048 ones cannot be counted in float16 one at a time past 2048, nor 4096 in bfloat16 past 256.
  for (Dtype dtype : {Dtype::f16, Dtype::bf16})
    for (int64_t m : {1, 40}) {
      int64_t k = 8192;
      Tensor a(dtype, {m, k}), b(dtype, {k, 64}), c(dtype, {m, 64});
      a.fill(std::vector<double>(size_t(m * k), 1)), b.fill(std::vector<double>(size_t(k * 64), 1));
      run_cuda("matmul", MatmulAttrs{}, {&a, &b, nullptr}, {&c}, kCapability);
      for (int64_t i = 0; i < c.size(); i++) FOVEA_CHECK_CLOSE(c.at(i), 8192.0, 0.0);
    }
}

FOVEA_TEST(matmul_integers_wrap_and_refuse_fractions_and_activations) {
  Tensor a = Tensor::from(Dtype::i32, {1, 2}, {2147483647, 2}), b = Tensor::from(Dtype::i32, {2, 1}, {2, 3}),
         c(Dtype::i32, {1, 1});
  auto run = [&](const MatmulAttrs& attrs) { run_cuda("matmul", attrs, {&a, &b, nullptr}, {&c}, kCapability); };
  run({});
  FOVEA_CHECK_CLOSE(c.at(0), 4.0, 0.0);
  FOVEA_CHECK(code_of([&] { run({.alpha = 0.5}); }) == "FOVEA_ARGUMENT", "alpha of 0.5 was accepted");
  FOVEA_CHECK(code_of([&] { run({.beta = NAN}); }) == "FOVEA_ARGUMENT", "beta of NaN was accepted");
  FOVEA_CHECK(code_of([&] { run({.activation = 1}); }) == "FOVEA_ARGUMENT", "an activation of integers was accepted");
  Tensor x = numbers(Tensor(Dtype::f32, {2, 2}), 1), y(Dtype::f32, {2, 2});
  for (int64_t unknown : {-1, 5}) {
    auto run_unknown = [&] {
      run_cuda("matmul", MatmulAttrs{.activation = unknown}, {&x, &x, nullptr}, {&y}, kCapability);
    };
    FOVEA_CHECK(code_of(run_unknown) == "FOVEA_ARGUMENT", "activation %d was accepted", int(unknown));
  }
}

}  // namespace
}  // namespace fovea::test
