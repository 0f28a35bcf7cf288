// Random kernels on the emulated device: the bits of the CPU's, whatever the dtype, the strides and the size.
#include <algorithm>

#include "core/random.h"
#include "ops/random/attrs.h"
#include "test/emulator/harness_cuda.h"

FOVEA_TEST_FAMILY(random)

namespace fovea::test {
namespace {

const Table& cpu() { return tables_of_random()[0]; }

template <class Attrs, class Make>
void check_filled(const char* name, const Attrs& attrs, Make make) {
  Tensor value = make(), expected = make();
  run_cuda(name, attrs, {&value}, {});
  run(cpu(), name, attrs, {&expected}, {});
  FOVEA_CHECK(value.same_bits(expected), "%s %s of %lld", name, name_of(value.dtype()), (long long)value.size());
}
// Sizes around packs, Philox blocks and thread blocks; views that begin in the middle of a pack, and with strides.
template <class Attrs>
void check_everywhere(const char* name, Dtype dtype, const Attrs& attrs) {
  for (int64_t n : {0, 1, 3, 4, 5, 8, 17, 512, 1023, 4099})
    check_filled(name, attrs, [&] { return Tensor(dtype, {n}); });
  check_filled(name, attrs, [&] { return Tensor(dtype, {}); });
  check_filled(name, attrs, [&] { return Tensor::strided(dtype, {7, 3, 10}, {2, 0, 1}, 2); });
  check_filled(name, attrs, [&] {
    Tensor x(dtype, {130});
    x.view.data += kDtypeBytes[int(dtype)], x.view.shape[0] = 121;
    return x;
  });
}

template <class Attrs>
std::string refusal(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                    const std::vector<Tensor*>& out) {
  try {
    run_cuda(name, attrs, in, out);
  } catch (const Error& error) { return std::string(error.code) + " " + error.what(); }
  return "accepted";
}

// The ids of both, of probabilities [rows, n].
void check_multinomial(Tensor& p, const MultinomialAttrs& attrs) {
  const int64_t rows = p.view.dim(0), n = p.view.dim(1);
  Tensor value(Dtype::i64, {rows, attrs.numSamples}), expected(Dtype::i64, {rows, attrs.numSamples});
  run_cuda("multinomial", attrs, {&p}, {&value});
  run(cpu(), "multinomial", attrs, {&p}, {&expected}, 2, size_t(2 * n) * sizeof(double));
  FOVEA_CHECK(value.same_bits(expected), "%s [%lld, %lld], %lld samples", name_of(p.dtype()), (long long)rows,
              (long long)n, (long long)attrs.numSamples);
}

}  // namespace

FOVEA_TEST(random_fills) {
  for (Dtype dtype : kFloats) {
    check_everywhere("uniform_", dtype, UniformAttrs{.seed = 1ll << 40, .offset = 1ll << 33, .low = -0.3, .high = 0.7});
    check_everywhere("uniform_", dtype, UniformAttrs{.seed = 3, .low = 1000, .high = 1000.1});
    check_everywhere("uniform_", dtype, UniformAttrs{.low = 0.5, .high = 0.5});
    check_everywhere("normal_", dtype, NormalAttrs{.seed = 9, .offset = 8, .mean = 0.1, .std = 1.7});
    check_everywhere("normal_", dtype, NormalAttrs{.seed = 1ll << 52, .offset = (1ll << 32) - 3});
  }
  for (Dtype dtype : kAll) {
    check_everywhere("randint_", dtype, RandintAttrs{.seed = 9, .offset = 8, .low = -5, .high = 1000});
    check_everywhere("randint_", dtype, RandintAttrs{.seed = 4, .low = -(1ll << 52), .high = 1ll << 52});
  }
}

FOVEA_TEST(random_many_normals) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64})
    check_filled("normal_", NormalAttrs{.seed = 17, .offset = 5, .mean = -1, .std = 3},
                 [&] { return Tensor(dtype, {200003}); });
}

FOVEA_TEST(random_refusals) {
  Tensor x(Dtype::f32, {8}), y(Dtype::f32, {8});
  FOVEA_CHECK(refusal("uniform_", UniformAttrs{.low = 2, .high = 1}, {&x}, {}) ==
                  "FOVEA_ARGUMENT uniform_: low is 2 and high is 1; expected low <= high",
              "accepted");
  FOVEA_CHECK(refusal("normal_", NormalAttrs{.std = -1}, {&x}, {}) ==
                  "FOVEA_ARGUMENT normal_: std is -1; expected a number >= 0",
              "accepted");
  FOVEA_CHECK(refusal("randint_", RandintAttrs{.low = 3, .high = 3}, {&x}, {}) ==
                  "FOVEA_ARGUMENT randint_: low is 3 and high is 3; expected low < high",
              "accepted");
  FOVEA_CHECK(refusal("dropout", DropoutAttrs{.p = 1.5}, {&x}, {&y}) ==
                  "FOVEA_ARGUMENT dropout: p is 1.5; expected a probability between 0 and 1",
              "accepted");
}

FOVEA_TEST(random_dropout) {
  for (Dtype dtype : kFloats)
    for (double p : {0.0, 0.3, 0.999, 1.0})
      for (int layout = 0; layout < 4; layout++)
        for (int64_t n : {1, 7, 96, 1037}) {
          Tensor x = layout == 1   ? Tensor::strided(dtype, {n, 3}, {1, 0})
                     : layout == 2 ? Tensor::expanded(dtype, {n, 3}, {false, true})
                                   : Tensor(dtype, {n, 3});
          if (layout == 3) x = Tensor(dtype, {n, 4}), x.view.shape[1] = 3;
          x.fill_random(5);
          x.set(0, INFINITY), x.set(1, NAN), x.set(2, -0.0);
          Tensor value(dtype, {n, 3}), expected(dtype, {n, 3});
          const DropoutAttrs attrs{.p = p, .seed = 4, .offset = 77};
          run_cuda("dropout", attrs, {&x}, {&value});
          run(cpu(), "dropout", attrs, {&x}, {&expected});
          for (int64_t i = 0; i < value.size(); i++)
            FOVEA_CHECK(std::isnan(expected.at(i))
                            ? std::isnan(value.at(i))
                            : std::memcmp(value.bytes(i), expected.bytes(i), kDtypeBytes[int(dtype)]) == 0,
                        "%s p %g [%lld]: %g, expected %g", name_of(dtype), p, (long long)i, value.at(i),
                        expected.at(i));
        }
}

// What dropout gives, plus the residual, rounded once; tensors that begin anywhere.
FOVEA_TEST(random_dropout_add) {
  for (Dtype dtype : kFloats)
    for (int64_t n : {1, 7, 96, 1037})
      for (int offset : {0, 1}) {
        Tensor x(dtype, {n + 1}), residual(dtype, {n + 1}), value(dtype, {n}), expected(dtype, {n});
        residual.view.data += offset * int64_t(kDtypeBytes[int(dtype)]);
        for (Tensor* t : {&x, &residual}) t->view.shape[0] = n, t->fill_random(uint64_t(n) + (t == &x));
        const DropoutAttrs attrs{.p = 0.3, .seed = 4, .offset = 77};
        run_cuda("dropoutAdd", attrs, {&x, &residual}, {&value});
        run(cpu(), "dropoutAdd", attrs, {&x, &residual}, {&expected});
        for (int64_t i = 0; i < n; i++) FOVEA_CHECK_CLOSE(value.at(i), expected.at(i), ulp(dtype, expected.at(i)));
      }
}

FOVEA_TEST(random_multinomial) {
  for (Dtype dtype : kFloats)
    for (int64_t n : {1, 5, 255, 257, 1000, 5003}) {
      Tensor p(dtype, {3, n + 2});
      p.view.shape[1] = n;  // rows with a gap between them
      p.fill_random(uint64_t(n), 0, 1);
      for (int64_t i = 1; i < p.size(); i += 3) p.set(i, i % n == 0 ? 1 : 0);
      check_multinomial(p, {.numSamples = n > 1000 ? 1500 : 300, .replacement = true, .seed = 3, .offset = 9});
      const int64_t most = n == 1 ? 1 : n / 2;
      check_multinomial(p, {.numSamples = std::min<int64_t>(most, 20), .seed = 1ll << 33, .offset = 2});
      check_multinomial(p, {.numSamples = 1, .seed = 8});
    }
}

// u total falls onto the end of a category: what is drawn hangs on the rounding of the sums from left to right.
FOVEA_TEST(random_multinomial_at_the_ends) {
  const uint64_t seed = 5;
  constexpr int64_t samples = 1200, n = samples + 2;  // several to a thread
  std::vector<double> ends = {0, 1};
  for (uint64_t i = 0; i < samples; i++) {
    const uint64_t bits = uint64_t(philox_word(seed, 0, i)) << 21 | philox_word(seed, 0, i, 1) >> 11;
    ends.push_back(double(bits) * 0x1p-53 * (1 + (double(i % 17) - 8) * 0x1p-52));
  }
  std::sort(ends.begin(), ends.end());
  std::vector<double> weights;
  for (size_t j = 0; j + 1 < ends.size(); j++) weights.push_back((ends[j + 1] - ends[j]) / 3);  // inexact
  weights.push_back(0);
  Tensor p = Tensor::from(Dtype::f64, {1, n}, weights);
  check_multinomial(p, {.numSamples = samples, .replacement = true, .seed = int64_t(seed)});
  // Weights whose times overflow.
  Tensor tiny = Tensor::from(Dtype::f64, {1, 4}, {0, 4e-310, 0, 1});
  Tensor ids(Dtype::i64, {1, 2});
  run_cuda("multinomial", MultinomialAttrs{.numSamples = 2, .seed = 1}, {&tiny}, {&ids});
  FOVEA_CHECK(ids.at(0) == 3 && ids.at(1) == 1, "%g %g", ids.at(0), ids.at(1));
}

FOVEA_TEST(random_multinomial_refusals) {
  Tensor ids(Dtype::i64, {2, 5});
  auto check = [&](std::vector<double> weights, MultinomialAttrs attrs, int count, int expected) {
    Tensor p = Tensor::from(Dtype::f32, {2, 5}, weights);
    const std::string text = refusal("multinomial", attrs, {&p}, {&ids});
    FOVEA_CHECK(text == format("FOVEA_ARGUMENT multinomial: row 1 of probs has %d numbers above 0; expected at least "
                               "%d, and finite numbers >= 0 alone",
                               count, expected),
                "%s", text.c_str());
  };
  const MultinomialAttrs with{.numSamples = 5, .replacement = true}, without{.numSamples = 5};
  check({1, 1, 2, 4, 1, 1, 0, 2, 4, 1}, without, 4, 5);
  check({1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, with, 0, 1);
  check({1, 0, 2, 4, 1, 1, -1, 2, 4, 1}, with, 4, 1);
  check({1, 0, 2, 4, 1, 1, NAN, 2, 4, 1}, with, 4, 1);
  check({1, 0, 2, 4, 1, 1, INFINITY, 2, 4, 1}, with, 5, 1);
  Tensor p = Tensor::from(Dtype::f32, {2, 5}, {1, 0, 2, 4, 1, 1, 0, 2, 4, 1});
  FOVEA_CHECK(refusal("multinomial", MultinomialAttrs{.numSamples = 0}, {&p}, {&ids}) ==
                  "FOVEA_ARGUMENT multinomial: numSamples is 0; expected at least 1",
              "accepted");
}

}  // namespace fovea::test
