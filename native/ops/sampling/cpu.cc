// A token for each row of logits, drawn from softmax(logits / temperature) restricted by topK, topP and minP (op.cc).
//
// What may be drawn is put in order, the likeliest first, and numbered; the draw is the exponential race of multinomial
// over these numbers. Nothing is sorted but what may be drawn: with topP, the likeliest few first, and more only where
// they do not reach it. Without any restriction the numbers are the tokens' own.
#include "cpu/rows.h"
#include "ops/random/rounded.h"
#include "ops/sampling/workspace.h"
#include "ops/sorting/select.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kFirst = 64, kGrowth = 8;  // of the likeliest that are looked at, before all
using Key = FloatKey<uint32_t, 0x7f800000>;

struct Row {
  float *scaled, *weights;
  NarrowItem* items;
  int64_t n, limit;
  float largest;  // of scaled
};

// x[i] becomes e^(x[i] - largest); their sum.
FOVEA_INLINE float powers(const float* x, int64_t n, float largest, float* to) {
  const Vec<float> maximum = splat(largest);
  return fold_blocks<float>(n, Add(), [&](int64_t begin, int64_t count) {
    return fold_vectors<float>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      const Vec<float> power = exp(load(x + begin + i, lanes) - maximum);
      store(to + begin + i, power, lanes);
      return power;
    });
  });
}
FOVEA_INLINE float sum_of_powers(const float* x, int64_t n, float largest) {
  const Vec<float> maximum = splat(largest);
  return fold_blocks<float>(n, Add(), [&](int64_t begin, int64_t count) {
    return fold_vectors<float>(
        count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return exp(load(x + begin + i, lanes) - maximum); });
  });
}

// The m likeliest, in order.
const NarrowItem* select(const Row& row, int64_t m) {
  Candidates<Key, NarrowItem> candidates(row.items, m);
  uint32_t keys[kBlock];
  for_blocks(row.n, [&](int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
      uint32_t bits;
      __builtin_memcpy(&bits, row.scaled + begin + i, sizeof bits);
      keys[i] = ~Key::of(bits);
    }
    candidates.add(keys, count, begin);
  });
  return candidates.sorted();
}

// Turns the weights of the m likeliest into probabilities, up to the first that is not to be drawn; its number.
int64_t cut(float* weights, int64_t m, float scale, const SampleAttrs& a) {
  const bool by_sum = a.topP < 1;
  const float top_p = float(a.topP), min_p = float(a.minP);
  double sum = 0;
  for (int64_t j = 0; j < m; j++) {
    const float weight = weights[j] *= scale;
    sum += weight;
    if (j > 0 && ((by_sum && float(sum) - weight >= top_p) || weight < weights[0] * min_p)) return j;
  }
  return m;
}

// The number of the first arrival among `count`.
int64_t first_arrival(const SampleAttrs& a, int64_t row, const float* weights, int64_t count) {
  int64_t first = 0;
  double soonest = __builtin_inf();
  for (int64_t j = 0; j < count; j++) {
    if (weights[j] == 0) continue;
    const double time = arrival(uint64_t(a.seed), uint64_t(a.offset), uint64_t(row), j, double(weights[j]));
    if (time < soonest) soonest = time, first = j;
  }
  return first;
}

int64_t draw(const SampleAttrs& a, const Row& row, int64_t number) {
  const bool limited = row.limit < row.n;
  if (!limited && a.topP >= 1 && a.minP == 0) {
    const float scale = 1 / powers(row.scaled, row.n, row.largest, row.scaled);
    for (int64_t j = 0; j < row.n; j++) row.scaled[j] *= scale;
    return first_arrival(a, number, row.scaled, row.n);
  }
  const float total = limited ? 0 : sum_of_powers(row.scaled, row.n, row.largest);
  for (int64_t m = limited ? row.limit : min_of(row.n, kFirst);; m = min_of(row.limit, m * kGrowth)) {
    const NarrowItem* items = select(row, m);
    for (int64_t j = 0; j < m; j++) row.weights[j] = row.scaled[items[j].position];
    const float sum = powers(row.weights, m, row.largest, row.weights);
    const int64_t count = cut(row.weights, m, 1 / (limited ? sum : total), a);
    if (count < m || m == row.limit) return items[first_arrival(a, number, row.weights, count)].position;
  }
}

// Divides the row at `from` by the temperature. False if its largest logit is not finite.
template <class A>
bool prepare(Call& call, const Source<A>& logits, int64_t from, double temperature, Row& row) {
  Buffer<A> buffer;
  const auto divisor = float(temperature);
  const A largest = fold_blocks<A>(row.n, Maximum(), [&](int64_t begin, int64_t count) {
    const A* x = logits.block(from + begin, count, buffer);
    for (int64_t i = 0; i < count; i++) row.scaled[begin + i] = float(x[i]) / divisor;
    return fold_vectors<A>(count, Maximum(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
  });
  if (!(largest - largest == 0)) return false;
  row.largest = float(largest) / divisor;
  if (!(row.largest - row.largest == 0))
    call.fail("FOVEA_ARGUMENT", "logits of %g divided by a temperature of %g are not finite; expected a higher one",
              double(largest), temperature);
  return true;
}

void sample_tokens(Call& call, const SampleAttrs& a) {
  const View& logits = call.in[0];
  const int64_t n = logits.dim(1);
  if (!(a.temperature > 0)) call.fail("FOVEA_ARGUMENT", "temperature is %g; expected a number above 0", a.temperature);
  if (n == 0) call.fail("FOVEA_SHAPE", "logits have no columns; expected at least one token");
  if (logits.dim(0) == 0) return;
  const SampleScratch scratch(n, a);
  int64_t* ids = call.out[0].as<int64_t>();
  dispatch_compute(logits.dtype, [&]<class A>() {
    const Source<A> source(logits);
    call.parallel.for_each(logits.dim(0), [&](int64_t number, int thread) {
      std::byte* mine = call.workspace + thread * scratch.bytes;
      Row row{reinterpret_cast<float*>(mine),
              reinterpret_cast<float*>(mine + scratch.weights),
              reinterpret_cast<NarrowItem*>(mine + scratch.items),
              n,
              scratch.limit,
              0};
      const bool valid = prepare(call, source, number * logits.stride(0), a.temperature, row);
      ids[number] = valid ? draw(a, row, number) : -1;
    });
  });
}

}  // namespace

FOVEA_KERNELS(sampling, FOVEA_KERNEL("sampleTokens", sample_tokens, SampleAttrs))

}  // namespace fovea::FOVEA_ISA
