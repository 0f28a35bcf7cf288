// matmul on sm_90: tiles by TMA and wgmma, alone and in clusters of two, every transposition, parts of k, and what
// falls back to other kernels.
#include "test/emulator/matmul_model.h"

namespace fovea::test {
namespace {

using Sizes = std::array<int64_t, 3>;  // m, n, k
constexpr Dtype kTypes[] = {Dtype::f16, Dtype::bf16};
constexpr int kCapability = 90;

void check(const MatmulAttrs& attrs, Tensor& a, Tensor& b, Tensor* bias, std::vector<int64_t> shape, const char* what,
           Tensor* residual = nullptr) {
  check_matmul(attrs, a, b, bias, shape, what, kCapability, residual);
}

void check_transpositions(Dtype dtype, int64_t m, int64_t n, int64_t k, const MatmulAttrs& attrs = {},
                          Tensor* bias = nullptr, Tensor* residual = nullptr) {
  const std::vector<int> orders[] = {{0, 1}, {1, 0}};
  for (const auto& left : orders)
    for (const auto& right : orders) {
      Tensor a = numbers(Tensor::strided(dtype, {m, k}, left), 1),
             b = numbers(Tensor::strided(dtype, {k, n}, right), 2);
      check(attrs, a, b, bias, {m, n}, format("a %d%d b %d%d", left[0], left[1], right[0], right[1]).c_str(), residual);
    }
}

void expect_columns(Sizes mnk, int columns) {
  cuda::CudaMatmulPlan plan = matmul_plan_of(Dtype::bf16, mnk, kCapability);
  FOVEA_CHECK(plan.kernel == cuda::MatmulKernel::sm90 && plan.columns == columns, "tiles of %d columns for m=%lld",
              plan.columns, static_cast<long long>(mnk[0]));
}

FOVEA_TEST(matmul_sm90_single_blocks) {
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] :
         std::initializer_list<Sizes>{{128, 128, 64}, {40, 72, 16}, {136, 200, 200}, {72, 136, 456}, {264, 128, 128}}) {
      expect_columns({m, n, k}, 128);
      check_transpositions(dtype, m, n, k);
    }
}

FOVEA_TEST(matmul_sm90_clusters) {
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{512, 512, 64}, {392, 456, 328}, {448, 392, 72}}) {
      expect_columns({m, n, k}, 256);
      check_transpositions(dtype, m, n, k);
    }
}

// More tiles than blocks, and a ring that wraps around within them.
FOVEA_TEST(matmul_sm90_blocks_take_many_tiles) {
  expect_columns({776, 1000, 136}, 256);
  check_transpositions(Dtype::bf16, 776, 1000, 136);
  Tensor a = numbers(Tensor(Dtype::bf16, {3, 264, 200}), 3), b = numbers(Tensor(Dtype::bf16, {3, 200, 264}), 4);
  check({}, a, b, nullptr, {3, 264, 264}, "many tiles, batched");
}

FOVEA_TEST(matmul_sm90_parts_of_k) {
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{72, 80, 2056}, {40, 24, 1088}, {16, 200, 4104}}) {
      FOVEA_CHECK(matmul_plan_of(dtype, {m, n, k}, kCapability).splits > 1, "k is not split");
      check_transpositions(dtype, m, n, k);
    }
  Tensor bias = numbers(Tensor::expanded(Dtype::bf16, {72, 80}, {true, false}), 5);
  check_transpositions(Dtype::bf16, 72, 80, 2056, {.alpha = 0.5, .beta = 2}, &bias);
}

// k or rows that are not whole multiples of tiles or of 16 bytes: of c by plain stores, of operands by other kernels.
FOVEA_TEST(matmul_sm90_ragged) {
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{130, 72, 72}, {129, 131, 64}, {65, 128, 77}, {400, 401, 40}})
      check_transpositions(dtype, m, n, k);
}

FOVEA_TEST(matmul_sm90_padded_rows) {
  const std::vector<int> orders[] = {{0, 1}, {1, 0}};
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{70, 67, 131}, {400, 403, 75}, {9, 20, 1001}})
      for (const auto& left : orders)
        for (const auto& right : orders) {
          Tensor a = padded(dtype, m, k, left, 15), b = padded(dtype, k, n, right, 16);
          check({}, a, b, nullptr, {m, n}, "padded");
        }
}

FOVEA_TEST(matmul_sm90_bias_alpha_beta) {
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{72, 136, 40}, {392, 392, 72}, {131, 133, 24}}) {
      for (auto repeats : {std::vector<bool>{false, false}, {true, false}, {false, true}, {true, true}}) {
        Tensor bias = numbers(Tensor::expanded(dtype, {m, n}, repeats), 6);
        check_transpositions(dtype, m, n, k, {.alpha = -3, .beta = 2}, &bias);
      }
      Tensor transposed = numbers(Tensor::strided(dtype, {m, n}, {1, 0}), 7), unread(dtype, {m, n});
      check_transpositions(dtype, m, n, k, {}, &transposed);
      check_transpositions(dtype, m, n, k, {.alpha = 2, .beta = 0}, &unread);
    }
}

// Narrow and wide tiles, stored by TMA and not, and parts of k.
FOVEA_TEST(matmul_sm90_activations) {
  expect_columns({136, 136, 72}, 128), expect_columns({392, 392, 72}, 256);
  FOVEA_CHECK(matmul_plan_of(Dtype::bf16, {72, 80, 2056}, kCapability).splits > 1, "k is not split");
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] :
         std::initializer_list<Sizes>{{136, 136, 72}, {72, 133, 24}, {392, 392, 72}, {400, 401, 40}, {72, 80, 2056}}) {
      Tensor bias = numbers(Tensor::expanded(dtype, {m, n}, {true, false}), 6);
      double alpha = 1 / std::sqrt(double(k));
      for (int64_t activation : {1, 2, 3, 4}) {
        check_transpositions(dtype, m, n, k, {.alpha = alpha, .activation = activation});
        check_transpositions(dtype, m, n, k, {.alpha = alpha, .beta = -1, .activation = activation}, &bias);
      }
    }
}

FOVEA_TEST(matmul_sm90_residual) {
  for (Dtype dtype : kTypes)
    for (auto [m, n, k] : std::initializer_list<Sizes>{{136, 136, 72}, {72, 133, 24}, {392, 392, 72}, {72, 80, 2056}}) {
      Tensor bias = numbers(Tensor::expanded(dtype, {m, n}, {true, false}), 6),
             turned = numbers(Tensor::strided(dtype, {m, n}, {1, 0}), 17);
      for (auto repeats : {std::vector<bool>{false, false}, {true, false}, {false, true}}) {
        Tensor residual = numbers(Tensor::expanded(dtype, {m, n}, repeats), 18);
        check_transpositions(dtype, m, n, k, {}, nullptr, &residual);
      }
      check_transpositions(dtype, m, n, k, {.alpha = 0.5, .beta = -1, .activation = 4}, &bias, &turned);
    }
}

FOVEA_TEST(matmul_sm90_batches) {
  for (auto [m, n, k] : std::initializer_list<Sizes>{{40, 72, 24}, {136, 136, 72}}) {
    constexpr Dtype dtype = Dtype::bf16;
    for (int pattern = 0; pattern < 16; pattern++) {
      bool a0 = pattern & 1, a1 = pattern & 2, b0 = pattern & 4, b1 = pattern & 8;
      Tensor a = numbers(Tensor::expanded(dtype, {3, 2, m, k}, {a0, a1, false, false}), 8);
      Tensor b = numbers(Tensor::expanded(dtype, {3, 2, k, n}, {b0, b1, false, false}), 9);
      Tensor bias = numbers(Tensor::expanded(dtype, {3, 2, m, n}, {b1, b0, true, false}), 10);
      check({}, a, b, &bias, {3, 2, m, n}, "batched with bias");
    }
    // [b, t, h, d] seen as [b, h, t, d], as heads are, and three axes that do not merge.
    Tensor q = numbers(Tensor::strided(dtype, {2, 3, m, k}, {0, 2, 1, 3}), 11),
           w = numbers(Tensor::strided(dtype, {2, 3, k, n}, {0, 3, 1, 2}), 12);
    check({}, q, w, nullptr, {2, 3, m, n}, "heads");
    Tensor x = numbers(Tensor::strided(dtype, {2, 3, 2, m, k}, {1, 0, 3, 2, 4}), 13),
           y = numbers(Tensor::strided(dtype, {2, 3, 2, k, n}, {2, 1, 0, 3, 4}), 14);
    check({}, x, y, nullptr, {2, 3, 2, m, n}, "three leading axes");
  }
}

FOVEA_TEST(matmul_sm90_special_values) {
  for (Dtype dtype : kTypes)
    for (double special : {double(NAN), double(INFINITY)})
      for (auto [m, n, k] : std::initializer_list<Sizes>{{40, 72, 24}, {392, 392, 72}, {40, 40, 1096}})
        check_special_value(dtype, special, m, n, k, kCapability);
}

FOVEA_TEST(matmul_sm90_sixteen_bits_sum_in_float32) {
  for (Dtype dtype : kTypes) {
    int64_t m = 136, n = 136, k = 4096;
    Tensor a(dtype, {m, k}), b(dtype, {k, n}), c(dtype, {m, n});
    a.fill(std::vector<double>(size_t(m * k), 1)), b.fill(std::vector<double>(size_t(k * n), 1));
    run_cuda("matmul", MatmulAttrs{}, {&a, &b, nullptr}, {&c}, kCapability);
    for (int64_t i = 0; i < c.size(); i++) FOVEA_CHECK_CLOSE(c.at(i), 4096.0, 0.0);
  }
}

}  // namespace
}  // namespace fovea::test
