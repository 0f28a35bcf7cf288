// Pooling on the device, an element of the result to a thread; the gradient of means adds up the windows that an
// element is in, in order.
#include <math.h>

#include "cuda/convert.h"
#include "cuda/index.h"
#include "ops/pool/windows.h"

namespace fovea::cuda {
namespace {

constexpr int kPoolThreads = 256;

// Axes of a call, and how many planes there are.
struct PoolShape {
  PoolAxis y, x;
  int64_t planes;
};
PoolShape shape_of(const CudaCall& call, const View& image, const View& windows, const PoolAttrs& attrs) {
  const PoolShape shape{pool_rows(image, windows, attrs), pool_columns(image, windows, attrs),
                        image.shape[0] * image.shape[1]};
  check_pool(call, shape.y), check_pool(call, shape.x);
  return shape;
}
Config config_of(const CudaCall& call, const View& out) {
  return {dim3(blocks_for(out.size(), kPoolThreads, call.device)), dim3(kPoolThreads)};
}

template <class T>
__global__ void __launch_bounds__(kPoolThreads) max_of_windows(PoolShape s, const T* x, T* y, int64_t* indices) {
  const int64_t items = s.planes * s.y.windows * s.x.windows;
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t plane = item / s.x.windows / s.y.windows;
    const T* from = x + plane * s.y.size * s.x.size;
    const PoolTaps rows = s.y.at(item / s.x.windows % s.y.windows), columns = s.x.at(item % s.x.windows);
    Compute<T> best = Compute<T>(-INFINITY);
    int64_t place = rows.begin * s.x.size + columns.begin;
    for (int64_t i = rows.begin; i < rows.end; i += rows.step)
      for (int64_t j = columns.begin; j < columns.end; j += columns.step) {
        const Compute<T> value = widen(from[i * s.x.size + j]);
        if (value > best || value != value) best = value, place = i * s.x.size + j;
      }
    y[item] = from[place], indices[item] = place;
  }
}
void max_pool(const CudaCall& call, const PoolAttrs& attrs) {
  const View &x = call.in[0], &y = call.out[0];
  if (y.size() == 0) return;
  const PoolShape shape = shape_of(call, x, y, attrs);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(max_of_windows<T>, config_of(call, y), shape, x.as<T>(), y.as<T>(), call.out[1].as<int64_t>());
  });
}

template <class T>
__global__ void __launch_bounds__(kPoolThreads) mean_of_windows(PoolShape s, const T* x, T* y) {
  const int64_t items = s.planes * s.y.windows * s.x.windows;
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t line = item / s.x.windows % s.y.windows, window = item % s.x.windows;
    const T* from = x + item / s.x.windows / s.y.windows * s.y.size * s.x.size;
    const PoolTaps rows = s.y.at(line), columns = s.x.at(window);
    Accumulator<T> sum = 0;
    for (int64_t i = rows.begin; i < rows.end; i++)
      for (int64_t j = columns.begin; j < columns.end; j++) sum += widen(from[i * s.x.size + j]);
    y[item] = narrow<T>(sum / (Accumulator<T>(s.y.count(line)) * Accumulator<T>(s.x.count(window))));
  }
}
void avg_pool(const CudaCall& call, const PoolAttrs& attrs) {
  const View &x = call.in[0], &y = call.out[0];
  if (y.size() == 0) return;
  const PoolShape shape = shape_of(call, x, y, attrs);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(mean_of_windows<T>, config_of(call, y), shape, x.as<T>(), y.as<T>());
  });
}

// forward: y = sum over a window of x, divided by its elements
template <class T>
__global__ void __launch_bounds__(kPoolThreads) spread_means(PoolShape s, const T* dy, T* dx) {
  const int64_t items = s.planes * s.y.size * s.x.size;
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t i = item / s.x.size % s.y.size, j = item % s.x.size;
    const T* from = dy + item / s.x.size / s.y.size * s.y.windows * s.x.windows;
    Accumulator<T> sum = 0;
    for (int64_t line = s.y.first_with(i); line <= s.y.last_with(i); line++)
      for (int64_t window = s.x.first_with(j); window <= s.x.last_with(j); window++)
        sum += widen(from[line * s.x.windows + window]) /
               (Accumulator<T>(s.y.count(line)) * Accumulator<T>(s.x.count(window)));
    dx[item] = narrow<T>(sum);
  }
}
void avg_pool_backward(const CudaCall& call, const PoolAttrs& attrs) {
  const View &dy = call.in[0], &dx = call.out[0];
  if (dx.size() == 0) return;
  const PoolShape shape = shape_of(call, dx, dy, attrs);
  dispatch_float(dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(spread_means<T>, config_of(call, dx), shape, dy.as<T>(), dx.as<T>());
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(pool, FOVEA_CUDA_KERNEL("maxPool", max_pool, PoolAttrs),
                   FOVEA_CUDA_KERNEL("avgPool", avg_pool, PoolAttrs),
                   FOVEA_CUDA_KERNEL("avgPoolBackward", avg_pool_backward, PoolAttrs))

}  // namespace fovea::cuda
