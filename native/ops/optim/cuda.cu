// Optimiser steps over all parameters in one command (formulas in op.cc). call.in holds tuples of views one after the
// other; a launch takes some dozens of tuples, which travel as kernel parameters, and gives every piece of kPiece
// elements of every tensor to a block.
//
// Parameters and gradients of 16 bits are converted; moments and momentum are float32 (float64 for float64 parameters).
#include <cmath>

#include "cuda/block.h"
#include "ops/optim/attrs.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256, kTogether = 4;
constexpr int kMost = 48;  // tuples of one launch, as kernel parameters have 4 KB
constexpr int64_t kPiece = 8192;

// Up to kPointers tensors of n elements each. `packed`: all of them begin at 32 bytes.
template <int kPointers>
struct Tuple {
  std::byte* data[kPointers];
  int64_t n, first_block;
  bool packed;
  template <class T>
  __device__ T* at(int i) const {
    return reinterpret_cast<T*>(data[i]);
  }
};
template <int kPointers>
struct Tuples {
  int count;
  Tuple<kPointers> tuple[kMost];

  // The one of this block: the last that begins at or before it.
  __device__ const Tuple<kPointers>& mine() const {
    int at = 0;
    for (int step = 32; step > 0; step /= 2)
      if (at + step < count && tuple[at + step].first_block <= blockIdx.x) at += step;
    return tuple[at];
  }
};

// launch(tuples, configuration, zero of the dtype) for runs of tuples with one dtype. The first `elementwise` views of
// a tuple have one shape.
template <int kPointers, class Launch>
void for_tuples(const CudaCall& call, Launch launch, int elementwise = kPointers) {
  const int count = int(call.in.size()) / kPointers;
  for (int first = 0, last; first < count; first = last) {
    const Dtype dtype = call.in[first * kPointers].dtype;
    Tuples<kPointers> tuples{};
    int64_t blocks = 0;
    for (last = first; last < count && last - first < kMost; last++) {
      const View* views = &call.in[last * kPointers];
      if (views->dtype != dtype) break;
      Tuple<kPointers>& tuple = tuples.tuple[tuples.count++];
      tuple.n = views->size(), tuple.first_block = blocks, tuple.packed = true;
      blocks += ceil_div(tuple.n, kPiece);
      for (int i = 0; i < kPointers; i++) {
        tuple.data[i] = views[i].present() ? views[i].data : nullptr;
        tuple.packed &= i >= elementwise || reinterpret_cast<uintptr_t>(tuple.data[i]) % 32 == 0;
      }
    }
    const Config config{dim3(unsigned(blocks)), dim3(kThreads), kReduceBytes};
    dispatch_float(dtype, [&](auto zero) { launch(tuples, config, zero); });
  }
}

// This thread's share of the block's piece: body(i, PackSize<K>) for K elements from i on.
template <int kPointers, class Body>
__device__ void for_elements(const Tuple<kPointers>& tuple, Body&& body) {
  const int64_t begin = (blockIdx.x - tuple.first_block) * kPiece, end = min_of(begin + kPiece, tuple.n);
  const int64_t packed = tuple.packed ? begin + (end - begin) / kTogether * kTogether : begin;
  for (int64_t i = begin + int64_t(threadIdx.x) * kTogether; i < packed; i += kThreads * kTogether)
    body(i, PackSize<kTogether>{});
  for (int64_t i = packed + threadIdx.x; i < end; i += kThreads) body(i, PackSize<1>{});
}
template <int K, class T>
__device__ Pack<T, K> load(const T* from) {
  return *reinterpret_cast<const Pack<T, K>*>(from);
}
template <int K, class T>
__device__ void store(T* to, const Pack<T, K>& pack) {
  *reinterpret_cast<Pack<T, K>*>(to) = pack;
}

// ---- adamw_

// Everything that does not depend on the element, rounded from float64 once.
template <class A>
struct AdamwStep {
  A decay, weight_decay, rest1, beta2, rest2, step_size, root_correction, eps;
  explicit AdamwStep(const AdamwAttrs& a)
      : decay(A(a.decoupled ? 1 - a.lr * a.weightDecay : 1)),
        weight_decay(A(a.decoupled ? 0 : a.weightDecay)),
        rest1(A(1 - a.beta1)),
        beta2(A(a.beta2)),
        rest2(A(1 - a.beta2)),
        step_size(A(a.lr / (1 - std::pow(a.beta1, double(a.step))))),
        root_correction(A(std::sqrt(1 - std::pow(a.beta2, double(a.step))))),
        eps(A(a.eps)) {}

  __device__ A operator()(A p, A gradient, A& m, A& v) const {
    const A g = weight_decay != 0 ? gradient + weight_decay * p : gradient;
    m += (g - m) * rest1;
    v = v * beta2 + rest2 * g * g;
    return p * decay - step_size * m / (sqrt(v) / root_correction + eps);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) adamw_step(Tuples<4> tuples, AdamwStep<Accumulator<T>> step) {
  using A = Accumulator<T>;
  const Tuple<4>& t = tuples.mine();
  for_elements(t, [&](int64_t i, auto size) {
    constexpr int K = decltype(size)::value;
    Pack<T, K> p = load<K>(t.template at<T>(0) + i);
    const Pack<T, K> g = load<K>(t.template at<T>(1) + i);
    Pack<A, K> m = load<K>(t.template at<A>(2) + i), v = load<K>(t.template at<A>(3) + i);
    for (int k = 0; k < K; k++)
      p.value[k] = narrow<T>(step(widen(p.value[k]), widen(g.value[k]), m.value[k], v.value[k]));
    store<K>(t.template at<T>(0) + i, p);
    store<K>(t.template at<A>(2) + i, m), store<K>(t.template at<A>(3) + i, v);
  });
}

void adamw(const CudaCall& call, const AdamwAttrs& attrs) {
  for_tuples<4>(call, [&](const Tuples<4>& tuples, const Config& config, auto zero) {
    using T = decltype(zero);
    call.launch(adamw_step<T>, config, tuples, AdamwStep<Accumulator<T>>(attrs));
  });
}

// ---- sgd_

template <class A>
struct SgdStep {
  A lr, momentum, damping, weight_decay;
  bool nesterov, first;
  explicit SgdStep(const SgdAttrs& a)
      : lr(A(a.lr)),
        momentum(A(a.momentum)),
        damping(A(1 - a.dampening)),
        weight_decay(A(a.weightDecay)),
        nesterov(a.nesterov),
        first(a.first) {}

  __device__ A decayed(A p, A gradient) const { return weight_decay != 0 ? gradient + weight_decay * p : gradient; }
  __device__ A without_momentum(A p, A gradient) const { return p - lr * decayed(p, gradient); }
  __device__ A with_momentum(A p, A gradient, A& u) const {
    const A g = decayed(p, gradient);
    u = first ? g : momentum * u + damping * g;
    return p - lr * (nesterov ? g + momentum * u : u);
  }
};

template <class T, bool kMomentum>
__global__ void __launch_bounds__(kThreads) sgd_step(Tuples<3> tuples, SgdStep<Accumulator<T>> step) {
  using A = Accumulator<T>;
  const Tuple<3>& t = tuples.mine();
  for_elements(t, [&](int64_t i, auto size) {
    constexpr int K = decltype(size)::value;
    Pack<T, K> p = load<K>(t.template at<T>(0) + i);
    const Pack<T, K> g = load<K>(t.template at<T>(1) + i);
    if constexpr (kMomentum) {
      Pack<A, K> u{};
      if (!step.first) u = load<K>(t.template at<A>(2) + i);
      for (int k = 0; k < K; k++)
        p.value[k] = narrow<T>(step.with_momentum(widen(p.value[k]), widen(g.value[k]), u.value[k]));
      store<K>(t.template at<A>(2) + i, u);
    } else {
      for (int k = 0; k < K; k++) p.value[k] = narrow<T>(step.without_momentum(widen(p.value[k]), widen(g.value[k])));
    }
    store<K>(t.template at<T>(0) + i, p);
  });
}

void sgd(const CudaCall& call, const SgdAttrs& attrs) {
  const bool momentum = attrs.momentum != 0;
  for (int i = 0; i < int(call.in.size()); i += 3)
    if (momentum && !call.in[i + 2].present())
      call.fail("FOVEA_ARGUMENT",
                "parameter %lld has no momentum buffer u, but momentum is %g; give one or set momentum to 0",
                static_cast<long long>(i / 3), attrs.momentum);
  for_tuples<3>(call, [&](const Tuples<3>& tuples, const Config& config, auto zero) {
    using T = decltype(zero);
    const SgdStep<Accumulator<T>> step(attrs);
    if (momentum) call.launch(sgd_step<T, true>, config, tuples, step);
    else call.launch(sgd_step<T, false>, config, tuples, step);
  });
}

// ---- gradNorm

// In float64, where no square of a float32 overflows and sums of many are still exact to float32.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_squares(Tuples<1> tuples, double* partial) {
  const Tuple<1>& t = tuples.mine();
  double sum = 0;
  for_elements(t, [&](int64_t i, auto size) {
    constexpr int K = decltype(size)::value;
    const Pack<T, K> g = load<K>(t.template at<T>(0) + i);
    for (int k = 0; k < K; k++) sum += double(widen(g.value[k])) * double(widen(g.value[k]));
  });
  sum = reduce_group(sum, Add());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
__global__ void __launch_bounds__(kThreads) add_squares(const double* partial, int64_t count, float* norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partial[i];
  sum = reduce_group(sum, Add());
  if (threadIdx.x == 0) *norm = float(sqrt(sum));
}

size_t norm_workspace(Views in, Views, const void*, const DeviceLimits&) {
  size_t pieces = 0;
  for (const View& v : in) pieces += size_t(ceil_div(v.size(), kPiece));
  return pieces * sizeof(double);
}
void grad_norm(const CudaCall& call, const NoAttrs&) {
  int64_t count = 0;
  for_tuples<1>(call, [&](const Tuples<1>& tuples, const Config& config, auto zero) {
    call.launch(sum_squares<decltype(zero)>, config, tuples, call.scratch<double>() + count);
    count += config.grid.x;
  });
  call.launch(add_squares, Config{dim3(1), dim3(kThreads), kReduceBytes}, call.scratch<double>(), count,
              call.out[0].as<float>());
}

// ---- clip_

template <class T>
__global__ void __launch_bounds__(kThreads) scale_down(Tuples<2> tuples, double most) {
  using A = Accumulator<T>;
  const Tuple<2>& t = tuples.mine();
  const A scale = A(most / (double(*t.template at<float>(1)) + 1e-6));
  if (scale >= 1) return;  // a NaN is neither, and makes all gradients NaN
  for_elements(t, [&](int64_t i, auto size) {
    constexpr int K = decltype(size)::value;
    Pack<T, K> g = load<K>(t.template at<T>(0) + i);
    for (int k = 0; k < K; k++) g.value[k] = narrow<T>(widen(g.value[k]) * scale);
    store<K>(t.template at<T>(0) + i, g);
  });
}
void clip(const CudaCall& call, const ClipAttrs& attrs) {
  for_tuples<2>(
      call,
      [&](const Tuples<2>& tuples, const Config& config, auto zero) {
        call.launch(scale_down<decltype(zero)>, config, tuples, attrs.maxNorm);
      },
      1);
}

}  // namespace

FOVEA_CUDA_KERNELS(optim, FOVEA_CUDA_KERNEL("adamw_", adamw, AdamwAttrs), FOVEA_CUDA_KERNEL("sgd_", sgd, SgdAttrs),
                   FOVEA_CUDA_KERNEL_WITH("gradNorm", grad_norm, NoAttrs, norm_workspace),
                   FOVEA_CUDA_KERNEL("clip_", clip, ClipAttrs))

}  // namespace fovea::cuda
