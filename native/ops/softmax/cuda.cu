// Softmax and log-softmax over the last axis, m = max x, s = sum exp(x - m):
//
//   softmax     y = exp(x - m) / s        dx = y (dy - sum y dy)
//   logSoftmax  y = x - m - log s         dx = dy - exp(y) sum dy
//
// A row of which all elements are -inf, or one is +inf or NaN, is NaN throughout.
#include "core/attrs.h"
#include "cuda/block.h"

namespace fovea::cuda {
namespace {

template <class T, int K, bool kLog>
__global__ void __launch_bounds__(kMostRowThreads, 2)
    softmax_rows(const T* x, Layout<1> axes, T* y, int64_t rows, int64_t n) {
  using A = Accumulator<T>;
  const GroupRow group(rows);
  const Row<T, K> row(x + row_offset(axes, group.row), n);
  ExpSum<T> total;
  row.each([&](int64_t, const Pack<T, K>& pack) {
    A values[K];
    widen_pack(pack, values);
    total.add(values);
  });
  total.merge_group();
  if (!group.live) return;
  const A maximum = total.largest, sum = isinf(maximum) ? A(NAN) : total.sum, last = kLog ? log(sum) : 1 / sum;
  Pack<T, K>* to = reinterpret_cast<Pack<T, K>*>(y + group.row * n);
  row.each([&](int64_t at, const Pack<T, K>& pack) {
    A x[K];
    widen_pack(pack, x);
#pragma unroll
    for (int k = 0; k < K; k++) x[k] = kLog ? x[k] - maximum - last : exp_for<T>(x[k] - maximum) * last;
    to[at] = narrow_pack<T>(x);
  });
}

template <bool kLog>
void forward(const CudaCall& call, const NoAttrs&) {
  const View &x = call.in[0], &y = call.out[0];
  const int64_t rows = rows_of(x), n = x.dim(-1);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_packs<T>(packs_fit(x) && packs_fit(y), [&](auto size) {
      constexpr int K = decltype(size)::value;
      call.launch(softmax_rows<T, K, kLog>, config_for_rows(rows, n / K), x.as<T>(), row_axes(x), y.as<T>(), rows, n);
    });
  });
}

constexpr int kBackwardThreads = 256;  // at most: they keep two rows

struct BackwardAxes {
  Layout<1> y, dy;
};

// forward: y = exp(x - m) / s, or y = x - m - log s
template <class T, int K, bool kLog>
__global__ void __launch_bounds__(kBackwardThreads, 3)
    softmax_backward_rows(const T* y, const T* dy, BackwardAxes axes, T* dx, int64_t rows, int64_t n) {
  using A = Accumulator<T>;
  const GroupRow group(rows);
  const Row<T, K> y_row(y + row_offset(axes.y, group.row), n), dy_row(dy + row_offset(axes.dy, group.row), n);
  A sum = 0;
  y_row.each_with(dy_row, [&](int64_t, const Pack<T, K>& of_y, const Pack<T, K>& of_dy) {
    A value[K], gradient[K];
    widen_pack(of_y, value), widen_pack(of_dy, gradient);
    for (int k = 0; k < K; k++) sum += kLog ? gradient[k] : value[k] * gradient[k];
  });
  sum = reduce_group(sum, Add());
  if (!group.live) return;
  Pack<T, K>* to = reinterpret_cast<Pack<T, K>*>(dx + group.row * n);
  y_row.each_with(dy_row, [&](int64_t at, const Pack<T, K>& of_y, const Pack<T, K>& of_dy) {
    A value[K], gradient[K];
    widen_pack(of_y, value), widen_pack(of_dy, gradient);
#pragma unroll
    for (int k = 0; k < K; k++)
      gradient[k] = kLog ? gradient[k] - exp_for<T>(value[k]) * sum : value[k] * (gradient[k] - sum);
    to[at] = narrow_pack<T>(gradient);
  });
}

template <bool kLog>
void backward(const CudaCall& call, const NoAttrs&) {
  const View &y = call.in[0], &dy = call.in[1], &dx = call.out[0];
  const int64_t rows = rows_of(y), n = y.dim(-1);
  dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_packs<T>(packs_fit(y) && packs_fit(dy) && packs_fit(dx), [&](auto size) {
      constexpr int K = decltype(size)::value;
      call.launch(softmax_backward_rows<T, K, kLog>, config_for_rows(rows, n / K, kBackwardThreads), y.as<T>(),
                  dy.as<T>(), BackwardAxes{row_axes(y), row_axes(dy)}, dx.as<T>(), rows, n);
    });
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(softmax, FOVEA_CUDA_KERNEL("softmax", forward<false>, NoAttrs),
                   FOVEA_CUDA_KERNEL("logSoftmax", forward<true>, NoAttrs),
                   FOVEA_CUDA_KERNEL("softmaxBackward", backward<false>, NoAttrs),
                   FOVEA_CUDA_KERNEL("logSoftmaxBackward", backward<true>, NoAttrs))

}  // namespace fovea::cuda
