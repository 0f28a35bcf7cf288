// Draws from the categories of each row in proportion to their weights, a block to a row.
//   with replacement     sample s is the first category whose running sum exceeds u total
//   without              exponential race (Efraimidis & Spirakis 2006): category j arrives at time -ln(u_j) / p_j, and
//                        the first arrivals, in order, are the sample
// The ids are those of the CPU, which adds the running sums from left to right. Here the parts of a row are summed side
// by side, and a sample that falls so close to the end of a category that rounding could decide otherwise is looked up
// once more in sums from left to right.
#include "cuda/convert.h"
#include "ops/random/cuda_kernels.h"
#include "ops/random/cuda_numbers.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kNever = -1;  // the time of a category without weight, or that has been drawn

struct Draw {
  Source source;
  int64_t categories, stride, samples;
  int64_t wanted;  // numbers above 0 that a row needs
  __device__ double uniform(int64_t element, uint32_t stream) const {
    uint32_t high = philox_word(source.seed, source.offset, uint64_t(element), stream);
    return uniform53(high, philox_word(source.seed, source.offset, uint64_t(element), stream + 1));
  }
};

// Counts the row's positive weights; false, and the fault raised, where there are too few or one is no weight.
template <class T>
__device__ bool check_weights(const T* weights, const Draw& draw, int64_t row, Fault* fault) {
  auto* positive = shared_memory_as<int64_t>();
  int64_t mine = 0;
  int bad = 0;
  for (int64_t j = threadIdx.x; j < draw.categories; j += kThreads) {
    double weight = double(widen(weights[j]));
    bad |= !(weight >= 0 && weight < INFINITY);
    mine += weight > 0;
  }
  positive[threadIdx.x] = mine;
  bad = __syncthreads_or(bad);
  int64_t count = 0;
  for (int t = 0; t < kThreads; t++) count += positive[t];
  __syncthreads();
  if (!bad && count >= draw.wanted) return true;
  if (threadIdx.x == 0) raise(fault, row, count, draw.wanted);
  return false;
}

// The category that the CPU finds.
template <class T>
__device__ int64_t category_from_left(const T* weights, int64_t n, double u) {
  double total = 0, running = 0;
  for (int64_t j = 0; j < n; j++) total = __dadd_rn(total, double(widen(weights[j])));
  const double x = __dmul_rn(u, total);
  for (int64_t j = 0; j < n - 1; j++) {
    running = __dadd_rn(running, double(widen(weights[j])));
    // The product may round up to the total itself: then the last category that adds to the sum is meant.
    if (running > x || running == total) return j;
  }
  return n - 1;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    draw_with_replacement(const T* probs, int64_t* ids, Draw draw, Fault* fault) {
  int64_t row = blockIdx.x, n = draw.categories;
  const T* weights = probs + row * draw.stride;
  if (!check_weights(weights, draw, row, fault)) return;
  auto* ends = shared_memory_as<double>();  // running sum at the end of each thread's part
  int64_t part = (n + kThreads - 1) / kThreads, from = part * threadIdx.x, to = from + part < n ? from + part : n;
  double sum = 0;
#pragma unroll 4
  for (int64_t j = from; j < to; j++) sum += double(widen(weights[j]));
  ends[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int t = 1; t < kThreads; t++) ends[t] += ends[t - 1];
  __syncthreads();
  const double total = ends[kThreads - 1];
  // More than either order of adding, and the product, can be off by.
  const double margin = double(n + kThreads) * 0x1p-50 * total;
  for (int64_t s = threadIdx.x; s < draw.samples; s += kThreads) {
    const double u = draw.uniform(row * draw.samples + s, 0), x = u * total;
    int low = 0, high = kThreads - 1;
    while (low < high) {
      int middle = (low + high) / 2;
      if (ends[middle] > x) high = middle;
      else low = middle + 1;
    }
    double before = low > 0 ? ends[low - 1] : 0, after = before;
    int64_t j = part * low - 1;
    while (after <= x && j < n - 1) before = after, after += double(widen(weights[++j]));
    const bool sure = after - x > margin && (x - before > margin || j == 0);
    ids[row * draw.samples + s] = sure ? j : category_from_left(weights, n, u);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    draw_without_replacement(const T* probs, int64_t* ids, double* all_times, Draw draw, Fault* fault) {
  int64_t row = blockIdx.x, n = draw.categories;
  const T* weights = probs + row * draw.stride;
  if (!check_weights(weights, draw, row, fault)) return;
  double* times = all_times + row * n;
  for (int64_t j = threadIdx.x; j < n; j += kThreads) {
    double weight = double(widen(weights[j]));
    double u = __dadd_rn(draw.uniform(row * draw.samples, uint32_t(2 + 2 * j)), 0x1p-53);
    times[j] = weight == 0 ? kNever : __ddiv_rn(-rounded_log(u), weight);
  }
  auto* best = shared_memory_as<int64_t>();
  for (int64_t s = 0; s < draw.samples; s++) {
    __syncthreads();
    int64_t first = -1;
    for (int64_t j = threadIdx.x; j < n; j += kThreads)
      if (times[j] != kNever && (first < 0 || times[j] < times[first])) first = j;
    best[threadIdx.x] = first;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (int(threadIdx.x) < half) {
        int64_t a = best[threadIdx.x], b = best[threadIdx.x + half];
        if (a < 0 || (b >= 0 && (times[b] < times[a] || (times[b] == times[a] && b < a)))) best[threadIdx.x] = b;
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) ids[row * draw.samples + s] = best[0], times[best[0]] = kNever;
  }
}

}  // namespace

size_t multinomial_cuda_workspace(Views in, Views, const void* attrs, const DeviceLimits&) {
  bool replacement = static_cast<const MultinomialAttrs*>(attrs)->replacement;
  return replacement ? 0 : size_t(in[0].size()) * sizeof(double);
}

void multinomial(const CudaCall& call, const MultinomialAttrs& attrs) {
  const View &p = call.in[0], &ids = call.out[0];
  if (attrs.numSamples < 1)
    call.fail("FOVEA_ARGUMENT", "numSamples is %lld; expected at least 1", static_cast<long long>(attrs.numSamples));
  Fault* fault = call.may_fail("FOVEA_ARGUMENT",
                               "row %lld of probs has %lld numbers above 0; expected at least %lld, and finite numbers "
                               ">= 0 alone");
  Draw draw{{uint64_t(attrs.seed), uint64_t(attrs.offset)}, p.dim(1), p.strides[0], attrs.numSamples, 1};
  if (!attrs.replacement) draw.wanted = attrs.numSamples;
  Config config{{unsigned(p.dim(0))}, {kThreads}, kThreads * sizeof(int64_t)};
  dispatch_float(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (attrs.replacement) call.launch(draw_with_replacement<T>, config, p.as<T>(), ids.as<int64_t>(), draw, fault);
    else
      call.launch(draw_without_replacement<T>, config, p.as<T>(), ids.as<int64_t>(), call.scratch<double>(), draw,
                  fault);
  });
}

}  // namespace fovea::cuda
