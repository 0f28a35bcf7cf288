// Optimiser steps over all parameters in one command (formulas in op.cc). call.in holds tuples of views one after the
// other; a launch takes some dozens of tuples, which travel as kernel parameters, and gives every piece of kPiece
// elements of every tensor to a block.
//
// Parameters and gradients of 16 bits are converted; states are float32 (float64 for float64 parameters), and of the
// ops for compact states in 16 or 8 bits (compact.h), computed in float32 or float64 all the same.
#include <cmath>

#include "cuda/block.h"
#include "ops/optim/attrs.h"
#include "ops/optim/compact.h"
#include "ops/optim/cuda_adafactor.h"
#include "ops/optim/steps.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256, kTogether = 4;
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
// Those of one launch, as kernel parameters have 4 KB.
template <int kPointers>
constexpr int kMost = sizeof(Tuple<kPointers>) > 72 ? 3600 / sizeof(Tuple<kPointers>) : 48;
template <int kPointers>
struct Tuples {
  int count;
  Tuple<kPointers> tuple[kMost<kPointers>];

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
    for (last = first; last < count && last - first < kMost<kPointers>; last++) {
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

// ---- steps

// Absent states are 0, and stay so.
template <class T, template <class> class Step>
__global__ void __launch_bounds__(kThreads)
    step_all(Tuples<2 + Step<float>::kStates> tuples, Step<Accumulator<T>> step) {
  using A = Accumulator<T>;
  constexpr int kStates = Step<float>::kStates;
  const Tuple<2 + kStates>& t = tuples.mine();
  for_elements(t, [&](int64_t i, auto size) {
    constexpr int K = decltype(size)::value;
    Pack<T, K> p = load<K>(t.template at<T>(0) + i);
    const Pack<T, K> g = load<K>(t.template at<T>(1) + i);
    Pack<A, K> states[3] = {};
#pragma unroll
    for (int s = 0; s < kStates; s++)
      if (t.data[2 + s]) states[s] = load<K>(t.template at<A>(2 + s) + i);
    for (int k = 0; k < K; k++)
      p.value[k] = narrow<T>(
          step(widen(p.value[k]), widen(g.value[k]), states[0].value[k], states[1].value[k], states[2].value[k]));
    store<K>(t.template at<T>(0) + i, p);
#pragma unroll
    for (int s = 0; s < kStates; s++)
      if (t.data[2 + s]) store<K>(t.template at<A>(2 + s) + i, states[s]);
  });
}
template <template <class> class Step, class Attrs>
void launch_steps(const CudaCall& call, const Attrs& attrs) {
  constexpr int kViews = 2 + Step<float>::kStates;
  check_states(call, attrs);
  for_tuples<kViews>(call, [&](const Tuples<kViews>& tuples, const Config& config, auto zero) {
    using T = decltype(zero);
    call.launch(step_all<T, Step>, config, tuples, Step<Accumulator<T>>(attrs));
  });
}

// ---- compact states

static_assert(kThreads == kStateRun && kPiece % kStateRun == 0, "a block works on a run at a time");

// State number `number` of a tuple: bfloat16, or bytes and their scales. Number 0 has a sign, the others have none.
struct CompactState {
  std::byte* data;
  float* scales;
  int number;
  __device__ float load(int64_t i) const {
    if (!data) return 0;
    if (!scales) return to_float(reinterpret_cast<const Bfloat16*>(data)[i]);
    const uint32_t code = reinterpret_cast<const uint8_t*>(data)[i];
    return (number == 0 ? decode_signed(code) : decode_positive(code)) * scales[i / kStateRun];
  }
  // By all threads of the block, of which some are past the end.
  __device__ void store(float x, int64_t i, bool here, int64_t step) const {
    if (!data) return;
    const uint32_t dither = dither_of(i, step, number);
    if (!scales) {
      if (here) reinterpret_cast<Bfloat16*>(data)[i] = to_bfloat16_dithered(x, dither);
      return;
    }
    const auto most = [](int32_t a, int32_t b) { return a > b ? a : b; };
    const float largest = float_of(uint32_t(reduce_group(here ? magnitude_bits(x) : 0, most)));
    if (!here) return;
    if (threadIdx.x == 0) scales[i / kStateRun] = largest;
    reinterpret_cast<uint8_t*>(data)[i] =
        number == 0 ? encode_signed(x, largest, dither) : encode_positive(x, largest, dither);
  }
};

// The steps again, an element to a thread.
template <class T, template <class> class Step>
__global__ void __launch_bounds__(kThreads)
    compact_step_all(Tuples<2 + 2 * Step<float>::kStates> tuples, Step<Accumulator<T>> step, int64_t number) {
  using A = Accumulator<T>;
  constexpr int kStates = Step<float>::kStates;
  const Tuple<2 + 2 * kStates>& t = tuples.mine();
  const int64_t begin = (blockIdx.x - t.first_block) * kPiece, end = min_of(begin + kPiece, t.n);
  for (int64_t run = begin; run < end; run += kThreads) {
    const int64_t i = run + threadIdx.x;
    const bool here = i < end;
    A wide[3] = {};
    T* const p = t.template at<T>(0);
    CompactState states[kStates];
#pragma unroll
    for (int k = 0; k < kStates; k++) {
      states[k] = {t.data[2 + k], t.template at<float>(2 + kStates + k), k};
      if (here) wide[k] = A(states[k].load(i));
    }
    if (here) p[i] = narrow<T>(step(widen(p[i]), widen(t.template at<T>(1)[i]), wide[0], wide[1], wide[2]));
#pragma unroll
    for (int k = 0; k < kStates; k++) states[k].store(float(wide[k]), i, here, number);
  }
}
template <template <class> class Step, class Attrs>
void launch_compact_steps(const CudaCall& call, const Attrs& attrs) {
  constexpr int kViews = 2 + 2 * Step<float>::kStates;
  check_compact_states(call, attrs);
  for_tuples<kViews>(call, [&](const Tuples<kViews>& tuples, const Config& config, auto zero) {
    using T = decltype(zero);
    call.launch(compact_step_all<T, Step>, config, tuples, Step<Accumulator<T>>(attrs), attrs.step);
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

FOVEA_CUDA_KERNELS(optim, FOVEA_CUDA_KERNEL("adamw_", launch_steps<AdamwStep>, AdamwAttrs),
                   FOVEA_CUDA_KERNEL("radam_", launch_steps<RadamStep>, RadamAttrs),
                   FOVEA_CUDA_KERNEL("nadam_", launch_steps<NadamStep>, NadamAttrs),
                   FOVEA_CUDA_KERNEL("adagrad_", launch_steps<AdagradStep>, AdagradAttrs),
                   FOVEA_CUDA_KERNEL("rmsprop_", launch_steps<RmspropStep>, RmspropAttrs),
                   FOVEA_CUDA_KERNEL("lion_", launch_steps<LionStep>, LionAttrs),
                   FOVEA_CUDA_KERNEL("sgd_", launch_steps<SgdStep>, SgdAttrs),
                   FOVEA_CUDA_KERNEL("sophia_", launch_steps<SophiaStep>, SophiaAttrs),
                   FOVEA_CUDA_KERNEL("adamwCompact_", launch_compact_steps<AdamwStep>, AdamwAttrs),
                   FOVEA_CUDA_KERNEL("lionCompact_", launch_compact_steps<LionStep>, LionAttrs),
                   FOVEA_CUDA_KERNEL_WITH("adafactor_", adafactor, AdafactorAttrs, adafactor_bytes),
                   FOVEA_CUDA_KERNEL_WITH("gradNorm", grad_norm, NoAttrs, norm_workspace),
                   FOVEA_CUDA_KERNEL("clip_", clip, ClipAttrs))

}  // namespace fovea::cuda
