// What all CUDA kernels of attention share: the problem as a kernel gets it, which keys a query sees, what becomes of a
// raw score, and dropout. See op.cc for what is computed.
//
// Scores are kept in units of log2, s2 = log2(e) (scale q k^T + bias), so that softmax takes 2^x and not e^x.
#pragma once
#include "core/random.h"
#include "cuda/convert.h"
#include "ops/attention/attrs.h"

namespace fovea::cuda {

constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453;
template <class A>
constexpr A kInfinity = A(__builtin_inf());

// The rows of every head of one operand; the elements of a row are neighbours. Strides in elements.
struct Heads {
  const void* data = nullptr;  // nullptr: an optional operand that was not given
  int64_t batch = 0, head = 0, row = 0;

  Heads() = default;
  explicit Heads(const View& x) {
    if (!x.present()) return;
    auto stride = [&](int axis) { return x.shape[axis] == 1 ? 0 : x.strides[axis]; };  // which may be anything then
    data = x.data, batch = stride(0), head = stride(1), row = stride(2);
  }
  template <class T>
  __device__ const T* at(int64_t bi, int64_t hi, int64_t i = 0) const {
    return static_cast<const T*>(data) + bi * batch + hi * head + i * row;
  }
  // Every row starts at a multiple of `bytes`.
  bool aligned(size_t bytes, size_t element_bytes) const {
    auto fits = [&](int64_t stride) { return uint64_t(stride) * element_bytes % bytes == 0; };
    return reinterpret_cast<uintptr_t>(data) % bytes == 0 && fits(batch) && fits(head) && fits(row);
  }
};

struct AttentionProblem {
  int64_t b, h, g, n, m, d, e;
  int64_t group;     // query heads that share a key head
  int64_t last_key;  // query i sees keys [0, i + last_key], if causal
  bool causal;
  double scale;
  Heads q, k, v, bias, mask;
  int64_t bias_column, mask_column;  // strides from key to key
  uint64_t seed, offset;
  uint32_t threshold;  // a score is kept iff 24 random bits reach it; 0: no dropout
  double factor;       // of what is kept

  AttentionProblem(Views in, const AttentionAttrs& attrs)
      : b(in[0].shape[0]),
        h(in[0].shape[1]),
        g(in[1].shape[1]),
        n(in[0].shape[2]),
        m(in[1].shape[2]),
        d(in[0].shape[3]),
        e(in[2].shape[3]),
        group(g > 0 ? h / g : 0),
        last_key(attrs.causal == 2 ? m - n : 0),
        causal(attrs.causal != 0),
        scale(attrs.scale),
        q(in[0]),
        k(in[1]),
        v(in[2]),
        bias(in[3]),
        mask(in[4]),
        bias_column(in[3].present() ? in[3].strides[3] : 0),
        mask_column(in[4].present() ? in[4].strides[3] : 0),
        seed(uint64_t(attrs.seed)),
        offset(uint64_t(attrs.offset)),
        threshold(uint32_t(__builtin_ceil(attrs.dropoutP * 0x1p24))),
        factor(attrs.dropoutP < 1 ? 1 / (1 - attrs.dropoutP) : 0) {}

  FOVEA_INLINE int64_t visible_keys(int64_t i) const { return causal ? clamp_to(i + last_key + 1, 0, m) : m; }
  FOVEA_INLINE int64_t first_query(int64_t j) const { return causal ? clamp_to(j - last_key, 0, n) : 0; }
  // Some key may be hidden from some query.
  FOVEA_INLINE bool hides() const { return causal || bias.data || mask.data; }
  FOVEA_INLINE bool edits_scores() const { return bias.data || mask.data || threshold; }
  // The number of score (i, j) for dropout.
  FOVEA_INLINE uint64_t element(int64_t bi, int64_t hi, int64_t i, int64_t j) const {
    return (uint64_t(bi * h + hi) * uint64_t(n) + uint64_t(i)) * uint64_t(m) + uint64_t(j);
  }
};

// Score (i, j), which exists, with its bias; -inf if it is masked. Causality is the caller's concern.
template <class T, class A>
__device__ A edited(const AttentionProblem& p, int64_t bi, int64_t hi, int64_t i, int64_t j, A score) {
  if (p.bias.data) score += A(kLog2e) * A(widen(p.bias.at<T>(bi, hi, i)[j * p.bias_column]));
  if (p.mask.data && !widen(p.mask.at<Bool>(bi, hi, i)[j * p.mask_column])) return -kInfinity<A>;
  return score;
}

// What dropout multiplies kCount consecutive scores by, from number `first` on.
template <int kCount, class A>
__device__ void dropout_factors(const AttentionProblem& p, uint64_t first, A (&factors)[kCount]) {
  constexpr int kBlocks = (kCount + 6) / 4;
  const int skip = int(first % 4);
  uint32_t words[kBlocks * 4];
#pragma unroll
  for (int i = 0; i < kBlocks; i++) {
    PhiloxBlock block = {};
    if (i * 4 < skip + kCount) block = philox(p.seed, p.offset + first / 4 + uint64_t(i));
#pragma unroll
    for (int w = 0; w < 4; w++) words[i * 4 + w] = block.word[w];
  }
  // Moves them down by `skip` without an index that is only known at run time.
#pragma unroll
  for (int step = 2; step > 0; step /= 2)
#pragma unroll
    for (int w = 0; w + step < kBlocks * 4; w++) words[w] = skip & step ? words[w + step] : words[w];
#pragma unroll
  for (int t = 0; t < kCount; t++) factors[t] = (words[t] >> 8) >= p.threshold ? A(p.factor) : A(0);
}

__device__ inline float exp2_of(float x) { return exp2f(x); }
__device__ inline double exp2_of(double x) { return exp2(x); }
// ln sum e^s, of sum 2^(s2 - top)
__device__ inline float log_total(float top, float total) {
  return total == 0 ? -kInfinity<float> : float(kLn2) * top + logf(total);
}
__device__ inline double log_total(double top, double total) {
  return total == 0 ? -kInfinity<double> : kLn2 * top + log(total);
}

// ---- gradients

struct BackwardProblem : AttentionProblem {
  Heads o, lse, d_o;
  void* row_lse;    // [b, h, n], log2(e) lse; +inf where a row sees nothing, so that 2^(s2 - inf) = 0
  void* row_delta;  // [b, h, n], dO . o

  BackwardProblem(const CudaCall& call, const AttentionAttrs& attrs)
      : AttentionProblem(call.in, attrs), o(call.in[5]), lse(call.in[6]), d_o(call.in[7]) {
    row_lse = call.workspace;
    row_delta = call.workspace + size_t(b * h * n) * kDtypeBytes[int(accumulator_of(call.in[0].dtype))];
  }
};

}  // namespace fovea::cuda
