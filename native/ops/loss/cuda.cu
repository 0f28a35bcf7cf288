// Cross entropy of class logits against class numbers, one row at a time, s = labelSmoothing:
//
//   lse = m + log sum exp(x - m)          loss = lse - (1 - s) x[target] - s mean(x)
//   dlogits = dloss (exp(x - lse) - (1 - s) [class = target] - s / c)
//
// Rows whose target is ignoreIndex have loss 0 and gradient 0.
#include "cuda/block.h"
#include "ops/loss/attrs.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256, kTogether = 4;  // packs that a thread asks for together

template <class T>
struct Rows {
  const T* logits;
  const int64_t* target;
  int64_t logits_stride, target_stride, rows, classes, ignored;
  Accumulator<T> smoothing;
  Fault* fault;

  // Whether the row counts; one whose target is wrong does not.
  __device__ bool counts(int64_t row, int64_t label) const {
    if (label == ignored) return false;
    if (label >= 0 && label < classes) return true;
    if (threadIdx.x == 0) raise(fault, row, label, classes);
    return false;
  }
};
template <class T>
Rows<T> rows_of_call(const CudaCall& call, const CrossEntropyAttrs& attrs) {
  const View &x = call.in[0], &target = call.in[1];
  Fault* fault = call.may_fail(
      "FOVEA_INDEX", "target[%lld] is %lld, but there are %lld classes; use ignoreIndex for rows that do not count");
  return {x.as<T>(),
          target.as<int64_t>(),
          x.stride(0),
          target.stride(0),
          x.dim(0),
          x.dim(1),
          attrs.ignoreIndex,
          Accumulator<T>(attrs.labelSmoothing),
          fault};
}

template <class T, int K>
__global__ void __launch_bounds__(kThreads, 3)
    cross_entropy_rows(Rows<T> p, Accumulator<T>* loss_of, Accumulator<T>* lse_of) {
  using A = Accumulator<T>;
  using P = Pack<T, K>;
  const GroupRow group(p.rows);
  const T* x = p.logits + group.row * p.logits_stride;
  ExpSum<T> exps;
  A total = 0;
  auto add = [&](int64_t at, auto count) {
    constexpr int kPacks = decltype(count)::value;
    P packs[kPacks];
    A values[kPacks * K], added = 0;
#pragma unroll
    for (int j = 0; j < kPacks; j++) packs[j] = reinterpret_cast<const P*>(x)[at + j * int64_t(blockDim.x)];
#pragma unroll
    for (int j = 0; j < kPacks; j++) widen_pack(packs[j], reinterpret_cast<A(&)[K]>(values[j * K]));
#pragma unroll
    for (int i = 0; i < kPacks * K; i++) added += values[i];
    exps.add(values), total += added;
  };
  const int64_t packs = p.classes / K;
  int64_t at = threadIdx.x;
  for (; at + (kTogether - 1) * int64_t(blockDim.x) < packs; at += kTogether * int64_t(blockDim.x))
    add(at, PackSize<kTogether>{});
  for (; at < packs; at += blockDim.x) add(at, PackSize<1>{});
  exps.merge_group();
  if (p.smoothing != 0) total = reduce_group(total, Add());
  if (!group.live || threadIdx.x > 0) return;
  const A lse = exps.shift(exps.largest) + log(exps.sum);
  const int64_t label = p.target[group.row * p.target_stride];
  A loss = 0;
  if (p.counts(group.row, label)) {
    loss = lse - (1 - p.smoothing) * widen(x[label]);
    // Not multiplied by zero, since the mean may be infinite.
    if (p.smoothing != 0) loss -= p.smoothing * (total / A(p.classes));
  }
  lse_of[group.row] = lse, loss_of[group.row] = loss;
}

void cross_entropy(const CudaCall& call, const CrossEntropyAttrs& attrs) {
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Rows<T> p = rows_of_call<T>(call, attrs);
    dispatch_packs<T>(packs_fit(call.in[0]), [&](auto size) {
      constexpr int K = decltype(size)::value;
      call.launch(cross_entropy_rows<T, K>, config_for_rows(p.rows, p.classes / K, kThreads), p, call.out[0].as<A>(),
                  call.out[1].as<A>());
    });
  });
}

// forward: loss = lse - (1 - s) x[target] - s mean(x). `dlogits` may be the logits: each thread writes what it read.
template <class T, int K>
__global__ void __launch_bounds__(kThreads, 4)
    gradient_rows(Rows<T> p, const Accumulator<T>* lse_of, const Accumulator<T>* dloss_of, T* dlogits) {
  using A = Accumulator<T>;
  using P = Pack<T, K>;
  const GroupRow group(p.rows);
  if (!group.live) return;
  const int64_t label = p.target[group.row * p.target_stride];
  const bool counts = p.counts(group.row, label);
  const A lse = lse_of[group.row], dloss = dloss_of[group.row], even = p.smoothing / A(p.classes);
  const P* from = reinterpret_cast<const P*>(p.logits + group.row * p.logits_stride);
  P* to = reinterpret_cast<P*>(dlogits + group.row * p.classes);
#pragma unroll 4
  for (int64_t at = threadIdx.x; at < p.classes / K; at += blockDim.x) {
    A dx[K] = {};
    if (counts) {
      A x[K];
      widen_pack(from[at], x);
      const int hit = at == label / K ? int(label % K) : -1;
#pragma unroll
      for (int k = 0; k < K; k++) {
        const A probability = exp_for<T>(x[k] - lse);
        // The difference first, as a probability is often near 1 and the product would lose what is left of it.
        const A others = k == hit ? probability - (1 - p.smoothing) - even : probability - even;
        dx[k] = others * dloss;
      }
    }
    to[at] = narrow_pack<T>(dx);
  }
}

void cross_entropy_backward(const CudaCall& call, const CrossEntropyAttrs& attrs) {
  const View& dlogits = call.out.size() ? call.out[0] : call.in[0];
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Rows<T> p = rows_of_call<T>(call, attrs);
    dispatch_packs<T>(packs_fit(call.in[0]) && packs_fit(dlogits), [&](auto size) {
      constexpr int K = decltype(size)::value;
      call.launch(gradient_rows<T, K>, config_for_rows(p.rows, p.classes / K, kThreads), p, call.in[2].as<A>(),
                  call.in[3].as<A>(), dlogits.as<T>());
    });
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(loss, FOVEA_CUDA_KERNEL("crossEntropy", cross_entropy, CrossEntropyAttrs),
                   FOVEA_CUDA_KERNEL("crossEntropyBackward", cross_entropy_backward, CrossEntropyAttrs),
                   FOVEA_CUDA_KERNEL("crossEntropyBackward_", cross_entropy_backward, CrossEntropyAttrs))

}  // namespace fovea::cuda
