// Random numbers: the bits of the CPU's (cuda_numbers.h). A thread makes the four elements of one Philox block or two.
#include "ops/elementwise/cuda_map.h"
#include "ops/random/attrs.h"
#include "ops/random/cuda_kernels.h"
#include "ops/random/cuda_numbers.h"

namespace fovea::cuda {
namespace {

constexpr int kPerBlock = 4;
// Philox blocks that a thread makes the elements of: 16 bytes where that is not too many.
template <class T>
constexpr int kBlocks = sizeof(T) < 4 ? 2 : 1;
template <class T>
constexpr int kElements = kBlocks<T> * kPerBlock;

template <class T>
Config config_for(int64_t size) {
  return {{unsigned(ceil_div(size, kThreads * kElements<T>))}, {kThreads}};
}
__device__ inline int64_t first_element(int per_thread) {
  return (int64_t(blockIdx.x) * kThreads + threadIdx.x) * per_thread;
}
// Whether views of one dense row can be moved kElements at a time.
template <class T, int kViews, class... Views>
bool moves_packs(const Layout<kViews>& layout, const Views&... views) {
  return layout.dense() && ((reinterpret_cast<uintptr_t>(views.data) % (kElements<T> * sizeof(T)) == 0) && ...);
}

// make(number of a Philox block, numbers): numbers of type C, which are converted to T.
template <class T, class C, class Make>
__global__ void __launch_bounds__(kThreads) fill_blocks(T* x, Layout<1> layout, bool packs, Make make) {
  constexpr int n = kElements<T>;
  const int64_t first = first_element(n);
  if (first >= layout.size) return;
  Pack<T, n> pack;
#pragma unroll
  for (int b = 0; b < kBlocks<T>; b++) {
    C numbers[kPerBlock];
    make(first / kPerBlock + b, numbers);
#pragma unroll
    for (int k = 0; k < kPerBlock; k++) pack.value[b * kPerBlock + k] = convert_one<C, T>(numbers[k]);
  }
  if (packs && first + n <= layout.size) {
    *reinterpret_cast<Pack<T, n>*>(x + first) = pack;
    return;
  }
#pragma unroll
  for (int k = 0; k < n; k++) {
    int64_t at[1];
    layout.offsets(first + k, at);
    if (first + k < layout.size) x[at[0]] = pack.value[k];
  }
}
template <class T, class C, class Make>
void fill_with(const CudaCall& call, Make make) {
  const View& x = call.in[0];
  auto layout = layout_of(x);
  call.launch(fill_blocks<T, C, Make>, config_for<T>(layout.size), x.as<T>(), layout, moves_packs<T>(layout, x), make);
}

// ---- uniform

// The largest value of T below `bound`, as a float64.
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

// low + u (high - low); rounding never reaches `high`.
template <class C>
struct UniformNumbers {
  Source source;
  double low, range, last;
  __device__ void operator()(int64_t block, C (&x)[kPerBlock]) const {
    PhiloxBlock high = source.block(block, 0), rest = {};
    if constexpr (kSame<C, double>) rest = source.block(block, 1);
    for (int k = 0; k < kPerBlock; k++) {
      double u = kSame<C, double> ? uniform53(high.word[k], rest.word[k]) : uniform24(high.word[k]);
      double y = __dadd_rn(__dmul_rn(u, range), low);
      x[k] = C(y > last ? last : y);
    }
  }
};
void uniform_(const CudaCall& call, const UniformAttrs& attrs) {
  if (!(attrs.low <= attrs.high))
    call.fail("FOVEA_ARGUMENT", "low is %g and high is %g; expected low <= high", attrs.low, attrs.high);
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  double last = attrs.low < attrs.high ? next_below(call.in[0].dtype, attrs.high) : attrs.low;
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    fill_with<T, C>(call, UniformNumbers<C>{source, attrs.low, attrs.high - attrs.low, last});
  });
}

// ---- normal

template <class C>
struct NormalNumbers {
  Source source;
  double mean, deviation;
  __device__ void operator()(int64_t block, C (&x)[kPerBlock]) const {
    PhiloxBlock words = source.block(block, 0), rest = {};
    if constexpr (kSame<C, double>) rest = source.block(block, 1);
    for (int k = 0; k < kPerBlock; k += 2) {
      double radius, angle;
      if constexpr (kSame<C, double>) {
        radius = __dadd_rn(uniform53(words.word[k], rest.word[k]), 0x1p-53);
        angle = uniform53(words.word[k + 1], rest.word[k + 1]);
      } else {
        radius = __dadd_rn(__dmul_rn(double(words.word[k]), 0x1p-32), 0x1p-32);
        angle = __dmul_rn(double(words.word[k + 1]), 0x1p-32);
      }
      Pair pair = normal_pair(radius, angle, mean, deviation);
      x[k] = C(pair.first), x[k + 1] = C(pair.second);
    }
  }
};
void normal_(const CudaCall& call, const NormalAttrs& attrs) {
  if (!(attrs.std >= 0)) call.fail("FOVEA_ARGUMENT", "std is %g; expected a number >= 0", attrs.std);
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    fill_with<T, C>(call, NormalNumbers<C>{source, attrs.mean, attrs.std});
  });
}

// ---- whole numbers

// low + floor(r range / 2^64) with 64 random bits r: the words of streams 0 and 1.
struct WholeNumbers {
  Source source;
  uint64_t low, range;
  __device__ void operator()(int64_t block, int64_t (&x)[kPerBlock]) const {
    PhiloxBlock high = source.block(block, 0), rest = source.block(block, 1);
    for (int k = 0; k < kPerBlock; k++)
      x[k] = int64_t(low + __umul64hi(uint64_t(high.word[k]) << 32 | rest.word[k], range));
  }
};
void randint_(const CudaCall& call, const RandintAttrs& attrs) {
  if (attrs.low >= attrs.high)
    call.fail("FOVEA_ARGUMENT", "low is %lld and high is %lld; expected low < high", static_cast<long long>(attrs.low),
              static_cast<long long>(attrs.high));
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  WholeNumbers make{source, uint64_t(attrs.low), uint64_t(attrs.high) - uint64_t(attrs.low)};
  dispatch(call.in[0].dtype, [&](auto zero) { fill_with<decltype(zero), int64_t>(call, make); });
}

// ---- dropout

// y = x / (1 - p) where u >= p, else 0, for u uniform in 24 bits; kAdds: plus the residual, which lies as y does.
template <class T, bool kAdds>
__global__ void __launch_bounds__(kThreads) drop(const T* x, const T* residual, T* y, Layout<2> layout, bool packs,
                                                 Source source, uint32_t threshold, Compute<T> scale) {
  constexpr int n = kElements<T>;
  const int64_t first = first_element(n);
  if (first >= layout.size) return;
  packs = packs && first + n <= layout.size;
  Pack<T, n> pack = {};
  int64_t at[n][2];
  if (packs) {
    pack = *reinterpret_cast<const Pack<T, n>*>(x + first);
  } else {
#pragma unroll
    for (int k = 0; k < n; k++) {
      layout.offsets(first + k < layout.size ? first + k : first, at[k]);
      pack.value[k] = x[at[k][0]];
    }
  }
  Compute<T> values[n];
  widen_pack(pack, values);
#pragma unroll
  for (int b = 0; b < kBlocks<T>; b++) {
    PhiloxBlock words = source.block(first / kPerBlock + b, 0);
#pragma unroll
    for (int k = 0; k < kPerBlock; k++) {
      Compute<T>& value = values[b * kPerBlock + k];
      value = (words.word[k] >> 8) >= threshold ? value * scale : Compute<T>(0);
    }
  }
  if constexpr (kAdds) {
    Compute<T> added[n];
    if (packs) {
      pack = *reinterpret_cast<const Pack<T, n>*>(residual + first);
    } else {
#pragma unroll
      for (int k = 0; k < n; k++) pack.value[k] = residual[at[k][1]];
    }
    widen_pack(pack, added);
#pragma unroll
    for (int k = 0; k < n; k++) values[k] += added[k];
  }
  pack = narrow_pack<T>(values);
  if (packs) {
    *reinterpret_cast<Pack<T, n>*>(y + first) = pack;
  } else {
#pragma unroll
    for (int k = 0; k < n; k++)
      if (first + k < layout.size) y[at[k][1]] = pack.value[k];
  }
}
template <bool kAdds>
void dropout(const CudaCall& call, const DropoutAttrs& attrs) {
  if (!(attrs.p >= 0 && attrs.p <= 1))
    call.fail("FOVEA_ARGUMENT", "p is %g; expected a probability between 0 and 1", attrs.p);
  const View &x = call.in[0], &residual = call.in[kAdds ? 1 : 0], &y = call.out[0];
  Source source{uint64_t(attrs.seed), uint64_t(attrs.offset)};
  auto threshold = uint32_t(__builtin_ceil(attrs.p * 0x1p24));
  auto layout = layout_of(x, y);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    C scale = attrs.p < 1 ? C(1 / (1 - attrs.p)) : C(0);
    call.launch(drop<T, kAdds>, config_for<T>(layout.size), x.as<T>(), residual.as<T>(), y.as<T>(), layout,
                moves_packs<T>(layout, x, residual, y), source, threshold, scale);
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(random, FOVEA_CUDA_KERNEL("uniform_", uniform_, UniformAttrs),
                   FOVEA_CUDA_KERNEL("normal_", normal_, NormalAttrs),
                   FOVEA_CUDA_KERNEL("randint_", randint_, RandintAttrs),
                   FOVEA_CUDA_KERNEL("dropout", dropout<false>, DropoutAttrs),
                   FOVEA_CUDA_KERNEL("dropoutAdd", dropout<true>, DropoutAttrs),
                   FOVEA_CUDA_KERNEL_WITH("multinomial", multinomial, MultinomialAttrs, multinomial_cuda_workspace))

}  // namespace fovea::cuda
