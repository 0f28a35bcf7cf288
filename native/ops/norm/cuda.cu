// layerNorm and rmsNorm over the last axis of d elements:
//
//   layerNorm  x' = (x - mean) rstd, rstd = 1 / sqrt(mean (x - mean)^2 + eps)     y = weight x' + bias
//   rmsNorm    x' = x rstd,          rstd = 1 / sqrt(mean x^2 + eps)              y = weight x'
//
// addLayerNorm and addRmsNorm are these of sum = x + residual, which they return too. Gradients are in
// cuda_backward.cu.
#include "cuda/block.h"
#include "ops/norm/attrs.h"
#include "ops/norm/cuda_backward.h"

namespace fovea::cuda {
namespace {

template <class T>
struct Forward {
  const T *x, *residual, *weight, *bias;  // weight and bias: nullptr where absent
  T *sum, *y;
  Accumulator<T>*mean, *rstd, eps;
  int64_t rows, d;
  Layout<1> axes, residual_axes;
};

// Adds the residual to this group's row. Every thread adds what it will read, and reads what it has written.
template <int K, class T>
__device__ const T* add_row(const Forward<T>& p, const GroupRow& group) {
  using P = Pack<T, K>;
  const T* x = p.x + row_offset(p.axes, group.row);
  if (!group.live) return x;
  const T* residual = p.residual + row_offset(p.residual_axes, group.row);
  T* sum = p.sum + group.row * p.d;
  for (int64_t at = threadIdx.x; at < p.d / K; at += blockDim.x) {
    Accumulator<T> a[K], b[K];
    widen_pack(reinterpret_cast<const P*>(x)[at], a), widen_pack(reinterpret_cast<const P*>(residual)[at], b);
    for (int k = 0; k < K; k++) a[k] += b[k];
    reinterpret_cast<P*>(sum)[at] = narrow_pack<T>(a);
  }
  return sum;
}

// mean (0 of rmsNorm) and rstd of this group's row; each(body) calls body with every pack that the thread has of it.
template <class T, int K, bool kCentred, class Each>
__device__ void moments_of(const Forward<T>& p, Each&& each, Accumulator<T>& mean, Accumulator<T>& rstd) {
  using A = Accumulator<T>;
  using P = Pack<T, K>;
  A squares = 0;
  mean = 0;
  if (kCentred) {
    each([&](const P& pack) {
      A x[K];
      widen_pack(pack, x);
      for (int k = 0; k < K; k++) mean += x[k];
    });
    mean = reduce_group(mean, Add()) / A(p.d);
  }
  each([&](const P& pack) {
    A x[K];
    widen_pack(pack, x);
    for (int k = 0; k < K; k++) squares += (x[k] - mean) * (x[k] - mean);
  });
  rstd = 1 / sqrt(reduce_group(squares, Add()) / A(p.d) + p.eps);
}

template <class T, int K, bool kCentred, bool kAdds>
__global__ void __launch_bounds__(kMostRowThreads, 2) norm_rows(Forward<T> p) {
  using A = Accumulator<T>;
  using P = Pack<T, K>;
  const GroupRow group(p.rows);
  const T* from;
  if constexpr (kAdds) from = add_row<K>(p, group);
  else from = p.x + row_offset(p.axes, group.row);
  const Row<T, K> row(from, p.d);
  A mean, rstd;
  moments_of<T, K, kCentred>(
      p, [&](auto&& body) { row.each([&](int64_t, const P& pack) { body(pack); }); }, mean, rstd);
  if (!group.live) return;
  if (threadIdx.x == 0) {
    if (kCentred) p.mean[group.row] = mean;
    p.rstd[group.row] = rstd;
  }
  P* to = reinterpret_cast<P*>(p.y + group.row * p.d);
  row.each([&](int64_t at, const P& pack) {
    A y[K], other[K];
    widen_pack(pack, y);
    for (int k = 0; k < K; k++) y[k] = (y[k] - mean) * rstd;
    if (p.weight) {
      widen_pack(reinterpret_cast<const P*>(p.weight)[at], other);
      for (int k = 0; k < K; k++) y[k] *= other[k];
    }
    if (kCentred && p.bias) {
      widen_pack(reinterpret_cast<const P*>(p.bias)[at], other);
      for (int k = 0; k < K; k++) y[k] += other[k];
    }
    to[at] = narrow_pack<T>(y);
  });
}

// layerNorm of many rows that their threads can keep whole. A group takes row after row and keeps weights and biases in
// registers, which would otherwise cost twice as many reads as the row itself; meanwhile the next row is on its way.
constexpr int kKeepingThreads = 256, kKeepingBlocks = 2;  // of a multiprocessor at a time, or as many smaller ones

template <class T, int K>
__global__ void __launch_bounds__(kKeepingThreads, kKeepingBlocks) layer_norm_keeping_weights(Forward<T> p) {
  using A = Accumulator<T>;
  using P = Pack<T, K>;
  const int packs = int(p.d / K);
  auto each_pack = [&](auto&& body) {
#pragma unroll
    for (int j = 0; j < kHeld; j++)
      if (const int at = int(threadIdx.x + unsigned(j) * blockDim.x); at < packs) body(j, at);
  };
  auto ask = [&](P(&held)[kHeld], const T* from) {
    each_pack([&](int j, int at) { held[j] = reinterpret_cast<const P*>(from)[at]; });
  };
  auto row_of = [&](int64_t row) { return p.x + row_offset(p.axes, min_of(row, p.rows - 1)); };
  const int64_t step = int64_t(gridDim.x) * blockDim.y;
  int64_t first = int64_t(blockIdx.x) * blockDim.y;  // that the block takes now
  P x[kHeld], next[kHeld], weight[kHeld], bias[kHeld];
  ask(next, row_of(first + threadIdx.y));
#pragma unroll
  for (int k = 0; k < kHeld * K; k++)
    weight[k / K].value[k % K] = narrow<T>(1), bias[k / K].value[k % K] = narrow<T>(0);
  if (p.weight) ask(weight, p.weight);
  if (p.bias) ask(bias, p.bias);
  for (; first < p.rows; first += step) {
    const int64_t row = first + threadIdx.y;
#pragma unroll
    for (int j = 0; j < kHeld; j++) x[j] = next[j];
    ask(next, row_of(row + step));
    A mean, rstd;
    moments_of<T, K, true>(
        p, [&](auto&& body) { each_pack([&](int j, int) { body(x[j]); }); }, mean, rstd);
    if (row >= p.rows) continue;
    if (threadIdx.x == 0) p.mean[row] = mean, p.rstd[row] = rstd;
    P* to = reinterpret_cast<P*>(p.y + row * p.d);
    each_pack([&](int j, int at) {
      A y[K], w[K], b[K];
      widen_pack(x[j], y), widen_pack(weight[j], w), widen_pack(bias[j], b);
      for (int k = 0; k < K; k++) y[k] = (y[k] - mean) * rstd * w[k] + b[k];
      to[at] = narrow_pack<T>(y);
    });
  }
}

// Whether they serve; `config` becomes theirs then.
bool keeps_weights(const CudaCall& call, int64_t packs, Config& config) {
  const unsigned threads = config.block.x * config.block.y;
  if (threads > kKeepingThreads || packs > kHeld * int64_t(config.block.x)) return false;
  const unsigned at_once = unsigned(call.device.multiprocessors) * (kKeepingBlocks * kKeepingThreads / threads);
  if (config.grid.x <= at_once) return false;
  config.grid.x = at_once;
  return true;
}

template <bool kCentred, bool kAdds>
void forward(const CudaCall& call, const LayerNormAttrs& attrs) {
  const View &x = call.in[0], &residual = kAdds ? call.in[1] : x, &weight = call.in[kAdds ? 2 : 1],
             bias = kCentred ? call.in[kAdds ? 3 : 2] : View{}, &y = call.out[kAdds];
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Forward<T> p{x.as<T>(),
                       residual.as<T>(),
                       weight.present() ? weight.as<T>() : nullptr,
                       bias.present() ? bias.as<T>() : nullptr,
                       kAdds ? call.out[0].as<T>() : nullptr,
                       y.as<T>(),
                       kCentred ? call.out[kAdds + 1].as<A>() : nullptr,
                       call.out[kAdds + (kCentred ? 2 : 1)].as<A>(),
                       A(attrs.eps),
                       rows_of(x),
                       x.dim(-1),
                       row_axes(x),
                       row_axes(residual)};
    const bool packs = packs_fit(x) && packs_fit(residual) && packs_fit(weight) && packs_fit(bias) && packs_fit(y) &&
                       packs_fit(call.out[0]);
    dispatch_packs<T>(packs, [&](auto size) {
      constexpr int K = decltype(size)::value;
      Config config = config_for_rows(p.rows, p.d / K);
      if constexpr (kCentred && !kAdds && K > 1)
        if (keeps_weights(call, p.d / K, config)) return call.launch(layer_norm_keeping_weights<T, K>, config, p);
      call.launch(norm_rows<T, K, kCentred, kAdds>, config, p);
    });
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(
    norm, FOVEA_CUDA_KERNEL("layerNorm", (forward<true, false>), LayerNormAttrs),
    FOVEA_CUDA_KERNEL("rmsNorm", (forward<false, false>), LayerNormAttrs),
    FOVEA_CUDA_KERNEL("addLayerNorm", (forward<true, true>), LayerNormAttrs),
    FOVEA_CUDA_KERNEL("addRmsNorm", (forward<false, true>), LayerNormAttrs),
    FOVEA_CUDA_KERNEL_WITH("layerNormBackward", (norm_backward<true, false>), NoAttrs, norm_backward_workspace),
    FOVEA_CUDA_KERNEL_WITH("rmsNormBackward", (norm_backward<false, false>), NoAttrs, norm_backward_workspace),
    FOVEA_CUDA_KERNEL_WITH("addLayerNormBackward", (norm_backward<true, true>), NoAttrs, norm_backward_workspace),
    FOVEA_CUDA_KERNEL_WITH("addRmsNormBackward", (norm_backward<false, true>), NoAttrs, norm_backward_workspace))

}  // namespace fovea::cuda
