// unfold and fold on the device, an element to a thread: of columns, or of the image, which then adds up in one order
// whoever runs first. The convolutions have no kernel here: their references are products of columns.
#include "cuda/convert.h"
#include "cuda/index.h"
#include "ops/conv/geometry.h"

namespace fovea::cuda {
namespace {

constexpr int kConvThreads = 256;

// Images [planes, height, width] and columns [planes, taps_y, taps_x, windows_y, windows_x].
struct Columns {
  int64_t planes, height, width, taps_y, taps_x, windows_y, windows_x;
  ConvAttrs a;
};
Columns columns_of(const View& image, const View& columns, const ConvAttrs& attrs) {
  return {image.shape[0] * image.shape[1],
          image.shape[2],
          image.shape[3],
          columns.shape[2],
          columns.shape[3],
          columns.shape[4],
          columns.shape[5],
          attrs};
}
Config config_of(const CudaCall& call, const View& out) {
  return {dim3(blocks_for(out.size(), kConvThreads, call.device)), dim3(kConvThreads)};
}

template <class T>
__global__ void __launch_bounds__(kConvThreads) unfold_elements(Columns c, const T* image, T* columns) {
  const int64_t size = c.planes * c.taps_y * c.taps_x * c.windows_y * c.windows_x;
  for (int64_t item = first_item(); item < size; item += item_step()) {
    int64_t rest = item;
    auto next = [&](int64_t n) {
      const int64_t at = rest % n;
      rest /= n;
      return at;
    };
    const int64_t x = next(c.windows_x), y = next(c.windows_y), j = next(c.taps_x), i = next(c.taps_y);
    const int64_t line = y * c.a.strideY + i * c.a.dilationY - c.a.paddingY,
                  column = x * c.a.strideX + j * c.a.dilationX - c.a.paddingX;
    const bool inside = line >= 0 && line < c.height && column >= 0 && column < c.width;
    columns[item] = inside ? image[(rest * c.height + line) * c.width + column] : T{};
  }
}
void unfold(const CudaCall& call, const ConvAttrs& attrs) {
  check_steps(call, attrs);
  const View &x = call.in[0], &out = call.out[0];
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(unfold_elements<T>, config_of(call, out), columns_of(x, out, attrs), x.as<T>(), out.as<T>());
  });
}

// The window of which a tap is `distance` from the start of the padding, or -1.
__device__ inline int64_t window_at(int64_t distance, int64_t stride, int64_t windows) {
  if (distance < 0 || distance % stride != 0) return -1;
  const int64_t window = distance / stride;
  return window < windows ? window : -1;
}
template <class T>
__global__ void __launch_bounds__(kConvThreads) fold_elements(Columns c, const T* columns, T* image) {
  const int64_t size = c.planes * c.height * c.width, area = c.windows_y * c.windows_x;
  for (int64_t item = first_item(); item < size; item += item_step()) {
    const int64_t column = item % c.width, line = item / c.width % c.height, plane = item / c.width / c.height;
    Accumulator<T> sum = 0;
    for (int64_t i = 0; i < c.taps_y; i++) {
      const int64_t y = window_at(line + c.a.paddingY - i * c.a.dilationY, c.a.strideY, c.windows_y);
      if (y < 0) continue;
      const T* from = columns + (plane * c.taps_y + i) * c.taps_x * area + y * c.windows_x;
      for (int64_t j = 0; j < c.taps_x; j++) {
        const int64_t x = window_at(column + c.a.paddingX - j * c.a.dilationX, c.a.strideX, c.windows_x);
        if (x >= 0) sum += widen(from[j * area + x]);
      }
    }
    image[item] = narrow<T>(sum);
  }
}
void fold(const CudaCall& call, const ConvAttrs& attrs) {
  check_steps(call, attrs);
  const View &columns = call.in[0], &x = call.out[0];
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(fold_elements<T>, config_of(call, x), columns_of(x, columns, attrs), columns.as<T>(), x.as<T>());
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(conv, FOVEA_CUDA_KERNEL("unfold", unfold, ConvAttrs), FOVEA_CUDA_KERNEL("fold", fold, ConvAttrs))

}  // namespace fovea::cuda
