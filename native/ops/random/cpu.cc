// Random kernels: element i of a tensor, in row-major order, depends on the seed, the Generator's offset and i alone.
#include "ops/elementwise/convert.h"
#include "ops/elementwise/driver.h"
#include "ops/random/attrs.h"
#include "ops/random/numbers.h"

namespace fovea::FOVEA_ISA {
namespace {

// Rows [first, first + n) of a tensor's elements: make(first, row) fills kRow numbers of type `row_type`, which are
// converted to the tensor's dtype and scattered by its strides.
template <class Make>
void fill_rows(Call& call, const View& x, Dtype row_type, Make make) {
  Convert convert = converter(row_type, x.dtype);
  int64_t size = x.size(), width = int64_t(bytes_of(x.dtype));
  bool dense = x.contiguous(), past_cache = size * width >= kStreamBytes && aligned(x.data);
  call.parallel.for_range((size + kRow - 1) / kRow, kChunk / kRow, [&](int64_t begin, int64_t end) {
    alignas(64) std::byte row[kRow * 8], converted[kRow * 8];
    for (int64_t r = begin; r < end; r++) {
      int64_t first = r * kRow, n = size - first < kRow ? size - first : kRow;
      make(first, row);
      const std::byte* from = row;
      if (convert) convert(row, converted, n), from = converted;
      if (dense) {
        if (past_cache) stream_copy(x.data + first * width, from, n * width);
        else __builtin_memcpy(x.data + first * width, from, size_t(n * width));
        continue;
      }
      dispatch_width(size_t(width), [&]<class T>() {
        for (int64_t i = 0; i < n; i++) {
          int64_t offset = 0, rest = first + i;
          for (int axis = x.rank - 1; axis >= 0; axis--)
            offset += rest % x.shape[axis] * x.strides[axis], rest /= x.shape[axis];
          x.as<T>()[offset] = reinterpret_cast<const T*>(from)[i];
        }
      });
    }
    if (past_cache) stream_fence();
  });
}

// The largest value of type T below `bound`, as a float64.
template <class T, class Bits>
double next_below(double bound) {
  T y = convert_one<double, T>(bound);
  constexpr Bits sign = Bits(Bits(1) << (sizeof(Bits) * 8 - 1));
  while (convert_one<T, double>(y) >= bound) {
    Bits b;
    __builtin_memcpy(&b, &y, sizeof b);
    b = Bits(b & sign ? b + 1 : b ? b - 1 : sign + 1);
    __builtin_memcpy(&y, &b, sizeof b);
  }
  return convert_one<T, double>(y);
}
double next_below(Dtype t, double bound) {
  switch (t) {
    case Dtype::f64: return next_below<double, uint64_t>(bound);
    case Dtype::f16: return next_below<Half, uint16_t>(bound);
    case Dtype::bf16: return next_below<Bfloat16, uint16_t>(bound);
    default: return next_below<float, uint32_t>(bound);
  }
}

// float64 numbers into a row of float64 or float32.
FOVEA_INLINE void store_row(const double* from, void* row, bool wide) {
  if (wide) {
    __builtin_memcpy(row, from, kRow * sizeof(double));
  } else {
    for (int64_t i = 0; i < kRow; i++) static_cast<float*>(row)[i] = float(from[i]);
  }
}

// low + u (high - low); rounding never reaches `high`.
void uniform_(Call& call, const UniformAttrs& attrs) {
  const View& x = call.in[0];
  if (!(attrs.low <= attrs.high))
    call.fail("FOVEA_ARGUMENT", "low is %g and high is %g; expected low <= high", attrs.low, attrs.high);
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  bool wide = x.dtype == Dtype::f64;
  double last = attrs.low < attrs.high ? next_below(x.dtype, attrs.high) : attrs.low;
  fill_rows(call, x, wide ? Dtype::f64 : Dtype::f32, [&](int64_t first, void* row) {
    alignas(64) double u[kRow];
    wide ? uniform_row<53>(source, first, u) : uniform_row<24>(source, first, u);
    for (int64_t i = 0; i < kRow; i += kLanes<double>) {
      Vec<double> y = rounded(load(u + i) * (attrs.high - attrs.low)) + attrs.low;
      store<double>(u + i, blend(y > last, splat(last), y));
    }
    store_row(u, row, wide);
  });
}
void normal_(Call& call, const NormalAttrs& attrs) {
  const View& x = call.in[0];
  if (!(attrs.std >= 0)) call.fail("FOVEA_ARGUMENT", "std is %g; expected a number >= 0", attrs.std);
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  bool wide = x.dtype == Dtype::f64;
  fill_rows(call, x, wide ? Dtype::f64 : Dtype::f32, [&](int64_t first, void* row) {
    alignas(64) double z[kRow];
    if (wide) normal_row<53>(source, first, attrs.mean, attrs.std, static_cast<double*>(row));
    else normal_row<32>(source, first, attrs.mean, attrs.std, z), store_row(z, row, false);
  });
}
// low + floor(r (high - low) / 2^64) with 64 random bits r: the words of streams 0 and 1.
void randint_(Call& call, const RandintAttrs& attrs) {
  const View& x = call.in[0];
  if (attrs.low >= attrs.high)
    call.fail("FOVEA_ARGUMENT", "low is %lld and high is %lld; expected low < high", static_cast<long long>(attrs.low),
              static_cast<long long>(attrs.high));
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  uint64_t range = uint64_t(attrs.high) - uint64_t(attrs.low);
  fill_rows(call, x, Dtype::i64, [&](int64_t first, void* row) {
    alignas(64) uint32_t high[kRow], low[kRow];
    source.words(first, 0, high), source.words(first, 1, low);
    for (int64_t i = 0; i < kRow; i++) {
      auto bits = uint64_t(high[i]) << 32 | low[i];
      static_cast<int64_t*>(row)[i] =
          int64_t(uint64_t(attrs.low) + uint64_t((static_cast<unsigned __int128>(bits) * range) >> 64));
    }
  });
}

template <class C>
struct MaskBits {
  using type = uint32_t;
};
template <>
struct MaskBits<double> {
  using type = uint64_t;
};
// The product's bits or none, without a branch, which would be mispredicted.
template <class C>
FOVEA_INLINE void keep_row(const uint32_t* words, uint32_t threshold, C scale, C* row) {
  using Bits = typename MaskBits<C>::type;
  for (int64_t i = 0; i < kRow; i++) {
    C product = row[i] * scale;
    Bits bits;
    __builtin_memcpy(&bits, &product, sizeof bits);
    bits &= Bits(-int64_t((words[i] >> 8) >= threshold));
    __builtin_memcpy(row + i, &bits, sizeof bits);
  }
}

// y = x / (1 - p) where u >= p, else 0, for u uniform in 24 bits, plus `residual` if there is one; x and residual are
// dense.
template <bool kAdds>
void drop(Call& call, const DropoutAttrs& attrs, const View& x, const View& residual) {
  const View& y = call.out[0];
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  auto threshold = uint32_t(__builtin_ceil(attrs.p * 0x1p24));
  int64_t size = y.size();
  bool past_cache = size * int64_t(bytes_of(y.dtype)) >= kStreamBytes && aligned(y.data);
  dispatch_float(y.dtype, [&]<class T>() {
    using C = Compute<T>;
    C scale = attrs.p < 1 ? C(1 / (1 - attrs.p)) : C(0);
    call.parallel.for_range((size + kRow - 1) / kRow, kChunk / kRow, [&](int64_t begin, int64_t end) {
      alignas(64) uint32_t words[kRow];
      alignas(64) C row[kRow] = {}, added[kAdds ? kRow : 1] = {};
      alignas(64) T stored[kRow];
      for (int64_t r = begin; r < end; r++) {
        int64_t first = r * kRow, n = size - first < kRow ? size - first : kRow;
        source.words(first, 0, words);
        convert_row(x.as<T>() + first, row, n);
        keep_row(words, threshold, scale, row);
        if constexpr (kAdds) {
          convert_row(residual.as<T>() + first, added, n);
          for (int64_t i = 0; i < kRow; i++) row[i] += added[i];
        }
        T* to = past_cache ? stored : y.as<T>() + first;
        convert_row(row, to, n);
        if (past_cache) stream_copy(y.as<T>() + first, to, n * int64_t(sizeof(T)));
      }
      if (past_cache) stream_fence();
    });
  });
}
void check_probability(Call& call, double p) {
  if (!(p >= 0 && p <= 1)) call.fail("FOVEA_ARGUMENT", "p is %g; expected a probability between 0 and 1", p);
}
void dropout(Call& call, const DropoutAttrs& attrs) {
  check_probability(call, attrs.p);
  const View &x = call.in[0], &y = call.out[0];
  if (x.contiguous()) return drop<false>(call, attrs, x, x);
  Walk w = walk_over(y);
  w.add(y), w.add(x);
  run_walk(call, w, {nullptr, {x.dtype, x.dtype, x.dtype}, x.dtype}, nullptr);
  drop<false>(call, attrs, y, y);
}
void dropout_add(Call& call, const DropoutAttrs& attrs) {
  check_probability(call, attrs.p);
  drop<true>(call, attrs, call.in[0], call.in[1]);
}

// ---- multinomial

double probability(const View& p, int64_t row, int64_t j) {
  int64_t at = row * p.strides[0] + j;
  switch (p.dtype) {
    case Dtype::f64: return p.as<double>()[at];
    case Dtype::f16: return to_float(p.as<Half>()[at]);
    case Dtype::bf16: return to_float(p.as<Bfloat16>()[at]);
    default: return p.as<float>()[at];
  }
}
// Inverts the running sums of the row: sample s is the first category whose sum exceeds u total.
void draw_with_replacement(const MultinomialAttrs& attrs, const View& p, int64_t row, double* sums, int64_t* ids) {
  int64_t n = p.dim(1), count = attrs.numSamples;
  double total = 0;
  for (int64_t j = 0; j < n; j++) sums[j] = total += probability(p, row, j);
  for (int64_t s = 0; s < count; s++) {
    double x = uniform53(uint64_t(attrs.seed), uint64_t(attrs.offset), uint64_t(row * count + s), 0) * total;
    int64_t low = 0, high = n - 1;
    while (low < high) {
      int64_t middle = (low + high) / 2;
      // The product may round up to the total itself: then the last category that adds to the sum is meant.
      if (sums[middle] > x || sums[middle] == total) high = middle;
      else low = middle + 1;
    }
    ids[s] = low;
  }
}

// A max-heap of category numbers by their times.
void sift_down(int64_t* heap, int64_t size, const double* times) {
  for (int64_t at = 0;;) {
    int64_t child = 2 * at + 1;
    if (child >= size) return;
    if (child + 1 < size && times[heap[child + 1]] > times[heap[child]]) child++;
    if (times[heap[at]] >= times[heap[child]]) return;
    int64_t swapped = heap[at];
    heap[at] = heap[child], heap[child] = swapped, at = child;
  }
}
// Exponential race: category j arrives at time -ln(u_j) / p_j, and the first arrivals are a sample without replacement,
// in order. Its words come from the row's first element, streams 2 + 2 j and 3 + 2 j.
void draw_without_replacement(const MultinomialAttrs& attrs, const View& p, int64_t row, double* times, int64_t* ids) {
  int64_t n = p.dim(1), count = attrs.numSamples, size = 0;
  for (int64_t j = 0; j < n; j++) {
    double weight = probability(p, row, j);
    if (weight == 0) continue;
    times[j] = arrival(uint64_t(attrs.seed), uint64_t(attrs.offset), uint64_t(row * count), j, weight);
    if (size < count) {
      int64_t at = size++;
      for (; at > 0 && times[ids[(at - 1) / 2]] < times[j]; at = (at - 1) / 2) ids[at] = ids[(at - 1) / 2];
      ids[at] = j;
    } else if (times[j] < times[ids[0]]) {
      ids[0] = j;
      sift_down(ids, count, times);
    }
  }
  for (int64_t last = count - 1; last > 0; last--) {
    int64_t largest = ids[0];
    ids[0] = ids[last], ids[last] = largest;
    sift_down(ids, last, times);
  }
}

void check_weights(Call& call, const View& p, int64_t row, int64_t wanted) {
  int64_t positive = 0;
  for (int64_t j = 0; j < p.dim(1); j++) {
    double weight = probability(p, row, j);
    if (!(weight >= 0 && weight < __builtin_inf()))
      call.fail("FOVEA_ARGUMENT", "probs[%lld][%lld] is %g; expected finite numbers >= 0", static_cast<long long>(row),
                static_cast<long long>(j), weight);
    positive += weight > 0;
  }
  if (positive < wanted)
    call.fail("FOVEA_ARGUMENT", "row %lld of probs has %lld numbers above 0; expected at least %lld%s",
              static_cast<long long>(row), static_cast<long long>(positive), static_cast<long long>(wanted),
              wanted > 1 ? " to draw as many without replacement" : "");
}
void multinomial(Call& call, const MultinomialAttrs& attrs) {
  const View &p = call.in[0], &ids = call.out[0];
  if (attrs.numSamples < 1)
    call.fail("FOVEA_ARGUMENT", "numSamples is %lld; expected at least 1", static_cast<long long>(attrs.numSamples));
  int64_t rows = p.dim(0), n = p.dim(1), per_chunk = n < kChunk ? kChunk / (n + 1) + 1 : 1;
  call.parallel.for_each((rows + per_chunk - 1) / per_chunk, [&](int64_t chunk, int thread) {
    double* scratch = call.scratch<double>() + thread * n;
    for (int64_t row = chunk * per_chunk; row < rows && row < (chunk + 1) * per_chunk; row++) {
      check_weights(call, p, row, attrs.replacement ? 1 : attrs.numSamples);
      auto draw = attrs.replacement ? draw_with_replacement : draw_without_replacement;
      draw(attrs, p, row, scratch, ids.as<int64_t>() + row * attrs.numSamples);
    }
  });
}

}  // namespace

FOVEA_KERNELS(random, FOVEA_KERNEL("uniform_", uniform_, UniformAttrs), FOVEA_KERNEL("normal_", normal_, NormalAttrs),
              FOVEA_KERNEL("randint_", randint_, RandintAttrs), FOVEA_KERNEL("dropout", dropout, DropoutAttrs),
              FOVEA_KERNEL("dropoutAdd", dropout_add, DropoutAttrs),
              FOVEA_KERNEL("multinomial", multinomial, MultinomialAttrs))

}  // namespace fovea::FOVEA_ISA
