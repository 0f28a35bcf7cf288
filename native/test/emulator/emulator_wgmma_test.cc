// wgmma on the emulator: every layout of the operands against sums of small integers, and mistakes that must be
// noticed.
#include "test/emulator/emulator_test.h"

namespace fovea::test {
namespace {

constexpr int kDepth = 32;  // k of the test products: two instructions

// One element of a K-major tile [rows, 64] or of a transposed one [64 k, rows] in panels of 64.
size_t place(int line, int k, bool transposed, size_t panel) {
  if (!transposed) return swizzled(line, k, 2);
  return size_t(line / 64) * panel + swizzled(k, line % 64, 2);
}
struct ProductTest {
  bool registers, wait, fence;
};
// D = A B with A[64, 32], B[32, N], once with and once without an earlier D; the number of wrong elements.
template <class T, int N, bool kTransposeA, bool kTransposeB>
int wrong_products(ProductTest test = {false, true, true}) {
  constexpr size_t kA = 64 * 128, kB = kTransposeB ? (N + 63) / 64 * size_t(8192) : N * size_t(128);
  int wrong = 0;
  emulator::launch(1, 128, kA + kB, 1, [&] {
    const int thread = int(threadIdx.x), lane = thread % 32, first = thread / 32 * 16 + lane / 4, t = lane % 4 * 2;
    for (int i = thread; i < 64 * kDepth; i += 128)
      *shared_as<T>(place(i / kDepth, i % kDepth, kTransposeA, kA)) = number<T>(entry(i / kDepth, i % kDepth));
    for (int i = thread; i < N * kDepth; i += 128)
      *shared_as<T>(kA + place(i / kDepth, i % kDepth, kTransposeB, 8192)) =
          number<T>(entry(i / kDepth + 2, i % kDepth));
    fence_async_proxy();
    __syncthreads();
    float d[N / 2];
    for (float& x : d) x = 5;
    if (test.fence) wgmma_fence();
    for (int k = 0; k < kDepth; k += 16) {
      const auto step_a = uint32_t(k * (kTransposeA ? 128 : 2)), step_b = uint32_t(k * (kTransposeB ? 128 : 2));
      const uint64_t a =
          kTransposeA ? descriptor_mn_major(shared_at(0) + step_a, kA) : descriptor_k_major(shared_at(0) + step_a);
      const uint64_t b =
          kTransposeB ? descriptor_mn_major(shared_at(kA) + step_b, 8192) : descriptor_k_major(shared_at(kA) + step_b);
      uint32_t r[4];
      for (int i = 0; i < 4; i++) {
        const int row = first + i % 2 * 8, column = k + t + i / 2 * 8;
        r[i] = pack_pair<T>(float(entry(row, column)), float(entry(row, column + 1)));
      }
      if (test.registers) wgmma_rs<T, N, kTransposeB>(d, r, b, k > 0);
      else wgmma_ss<T, N, kTransposeA, kTransposeB>(d, a, b, k > 0);
    }
    wgmma_commit();
    if (test.wait) wgmma_wait<0>();
    for (int i = 0; i < N / 2; i++) {
      int expected = 0;
      for (int k = 0; k < kDepth; k++)
        expected += entry(first + i / 2 % 2 * 8, k) * entry(i / 4 * 8 + t + i % 2 + 2, k);
      wrong += d[i] != float(expected);
    }
    if (!test.wait) wgmma_wait<0>();
  });
  return wrong;
}

}  // namespace

FOVEA_TEST(emulator_wgmma) {
  FOVEA_CHECK((wrong_products<Bfloat16, 64, false, false>() == 0), "both K-major");
  FOVEA_CHECK((wrong_products<Half, 256, false, false>() == 0), "wide");
  FOVEA_CHECK((wrong_products<Half, 32, false, false>() == 0), "narrow");
  FOVEA_CHECK((wrong_products<Bfloat16, 128, true, false>() == 0), "A transposed");
  FOVEA_CHECK((wrong_products<Half, 128, false, true>() == 0), "B transposed");
  FOVEA_CHECK((wrong_products<Bfloat16, 192, true, true>() == 0), "both transposed");
  FOVEA_CHECK((wrong_products<Half, 64, false, false>({true, true, true}) == 0), "A in registers");
  FOVEA_CHECK((wrong_products<Bfloat16, 128, false, true>({true, true, true}) == 0), "A in registers, B transposed");
}

FOVEA_TEST(emulator_wgmma_mistakes) {
  int wrong = 0;
  for_each_seed([&] { wrong += wrong_products<Half, 64, false, false>({false, false, true}); });
  FOVEA_CHECK(wrong > 100, "a missing wait is not seen: %d", wrong);
  std::string text;
  try {
    wrong_products<Half, 64, false, false>({false, true, false});
  } catch (const std::runtime_error& error) { text = error.what(); }
  FOVEA_CHECK(contains(text, "without a wgmma_fence()"), "%s", text.c_str());

  auto issue = [](uint64_t a, uint64_t b) {
    return failure_of(1, 128, 32768, [=] {
      float d[32] = {};
      const auto base = uint64_t(shared_at(0) >> 4);
      wgmma_fence();
      wgmma_ss<Half, 64>(d, a + base, b + base, 0);
      wgmma_commit(), wgmma_wait<0>();
    });
  };
  const uint64_t good = descriptor_k_major(0);
  FOVEA_CHECK(issue(good, good).empty(), "%s", issue(good, good).c_str());
  FOVEA_CHECK(contains(issue(good, good & ~(uint64_t(3) << 62)), "swizzle"), "accepted");
  FOVEA_CHECK(contains(issue(good + (128 >> 4), good), "not aligned"), "accepted");
  FOVEA_CHECK(contains(issue(good + (112 >> 4), good), "within a row"), "accepted");
  FOVEA_CHECK(contains(issue(good, good + (30 * 1024 >> 4)), "outside"), "accepted");
  CHECK_FAILURE("different numbers of wgmma", 1, 128, 32768, [] {
    float d[32] = {};
    if (threadIdx.x >= 96) return;
    wgmma_fence();
    wgmma_ss<Half, 64>(d, descriptor_k_major(shared_at(0)), descriptor_k_major(shared_at(8192)), 0);
    wgmma_commit(), wgmma_wait<0>();
  });
}

FOVEA_TEST(emulator_wgmma_groups) {
  // While a later group is in flight, the registers of an earlier one hold its results; its own may be NaN.
  int early = 0, late = 0;
  for_each_seed([&] {
    emulator::launch(1, 128, 16384, 1, [&] {
      for (int k = int(threadIdx.x); k < 8192; k += 128) shared_as<Half>()[k] = to_half(1);
      __syncthreads();
      float d[2][32] = {};
      const uint64_t a = descriptor_k_major(shared_at(0)), b = descriptor_k_major(shared_at(8192));
      wgmma_fence();
      wgmma_ss<Half, 64>(d[0], a, b, 0), wgmma_commit();
      wgmma_ss<Half, 64>(d[1], a, b, 1), wgmma_ss<Half, 64>(d[1], a, b, 1), wgmma_commit();
      wgmma_wait<1>();
      for (float x : d[0]) early += x != 16;
      for (float x : d[1]) late += x != 32;
      wgmma_wait<0>();
      for (float x : d[1]) early += x != 32;
    });
  });
  FOVEA_CHECK(early == 0 && late > 0, "%d %d", early, late);
}

}  // namespace fovea::test
