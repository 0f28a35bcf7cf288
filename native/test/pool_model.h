// Pooling by its definition, for the tests of the CPU and of emulated devices.
#pragma once
#include "ops/pool/attrs.h"
#include "test/harness.h"

namespace fovea::test {

struct PoolCase {
  int64_t planes, height, width, rows, columns;  // rows and columns: of windows
  PoolAttrs a;
};
inline PoolAttrs pool_attrs(int64_t kernel_y, int64_t kernel_x, int64_t stride_y, int64_t stride_x,
                            int64_t padding_y = 0, int64_t padding_x = 0, int64_t dilation_y = 1,
                            int64_t dilation_x = 1) {
  return {kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x, padding_y, padding_x};
}
inline PoolAttrs adaptive_attrs() {
  PoolAttrs a;
  a.adaptive = true;
  return a;
}
// Windows side by side, overlapping, apart, in padding, with a last one beyond it (ceilMode), one line, and adaptive
// ones.
inline std::vector<PoolCase> pool_cases() {
  return {
      {3, 6, 8, 3, 4, pool_attrs(2, 2, 2, 2)},   {2, 7, 9, 4, 5, pool_attrs(3, 3, 2, 2, 1, 1)},
      {2, 7, 10, 2, 3, pool_attrs(2, 3, 4, 4)},  {2, 7, 7, 4, 4, pool_attrs(2, 2, 2, 2)},
      {1, 1, 37, 1, 35, pool_attrs(1, 3, 1, 1)}, {2, 5, 5, 3, 3, pool_attrs(3, 3, 2, 2, 1, 1)},
      {2, 5, 7, 2, 3, adaptive_attrs()},         {1, 3, 2, 5, 4, adaptive_attrs()},
      {1, 1, 1, 1, 1, pool_attrs(1, 1, 1, 1)},   {40, 30, 31, 15, 16, pool_attrs(3, 3, 2, 2, 1, 1)},
      {3, 8, 8, 1, 1, adaptive_attrs()},
  };
}
inline std::vector<PoolCase> dilated_pool_cases() {
  return {{2, 9, 11, 5, 3, pool_attrs(3, 3, 1, 2, 0, 0, 2, 3)}, {1, 8, 8, 8, 4, pool_attrs(3, 2, 1, 2, 2, 1, 2, 2)}};
}

struct PoolSpan {
  int64_t begin, end, step, count;
};
inline PoolSpan pool_span(const PoolCase& c, bool y, int64_t window) {
  const int64_t size = y ? c.height : c.width, windows = y ? c.rows : c.columns;
  if (c.a.adaptive) {
    const int64_t begin = window * size / windows, end = ((window + 1) * size + windows - 1) / windows;
    return {begin, end, 1, end - begin};
  }
  const int64_t kernel = y ? c.a.kernelY : c.a.kernelX, stride = y ? c.a.strideY : c.a.strideX,
                padding = y ? c.a.paddingY : c.a.paddingX, step = y ? c.a.dilationY : c.a.dilationX;
  const int64_t from = window * stride - padding;
  int64_t count = 0;
  for (int64_t t = 0; t < kernel; t++)
    if (from + t >= -padding && from + t < size + (c.a.countsPadding ? padding : 0))
      count += c.a.countsPadding || from + t >= 0;
  return {from, from + (kernel - 1) * step + 1, step, count};
}
// body(image place, window place, elements that a mean is divided by) for every element of every window.
template <class Body>
void each_element(const PoolCase& c, Body&& body) {
  for (int64_t plane = 0; plane < c.planes; plane++)
    for (int64_t row = 0; row < c.rows; row++)
      for (int64_t column = 0; column < c.columns; column++) {
        const PoolSpan y = pool_span(c, true, row), x = pool_span(c, false, column);
        for (int64_t i = y.begin; i < y.end; i += y.step)
          for (int64_t j = x.begin; j < x.end; j += x.step)
            if (i >= 0 && i < c.height && j >= 0 && j < c.width)
              body((plane * c.height + i) * c.width + j, (plane * c.rows + row) * c.columns + column,
                   y.count * x.count);
      }
}

template <class Run>
void check_max_pool(const Run& run, const PoolCase& c, Dtype dtype) {
  Tensor x = Tensor::random(dtype, {1, c.planes, c.height, c.width}, 1), y(dtype, {1, c.planes, c.rows, c.columns}),
         indices(Dtype::i64, {1, c.planes, c.rows, c.columns});
  x.set(x.size() / 2, NAN);
  for (int64_t j = 0; j < c.width; j++) x.set(j, -INFINITY);
  PoolAttrs a = c.a;
  a.height = c.rows, a.width = c.columns;
  run("maxPool", a, {&x}, {&y, &indices});
  std::vector<double> best(size_t(y.size()), -INFINITY), at(size_t(y.size()), -1);
  each_element(c, [&](int64_t image, int64_t window, int64_t) {
    double &most = best[size_t(window)], &place = at[size_t(window)];
    const double value = x.at(image);
    if (place < 0 || value > most || std::isnan(value)) most = value, place = double(image % (c.height * c.width));
  });
  for (int64_t i = 0; i < y.size(); i++) {
    FOVEA_CHECK_CLOSE(y.at(i), best[size_t(i)], 0);
    FOVEA_CHECK_CLOSE(indices.at(i), at[size_t(i)], 0);
  }
}
template <class Run>
void check_avg_pool(const Run& run, const PoolCase& c, Dtype dtype) {
  Tensor x = Tensor::random(dtype, {1, c.planes, c.height, c.width}, 1), y(dtype, {1, c.planes, c.rows, c.columns}),
         dy = Tensor::random(dtype, {1, c.planes, c.rows, c.columns}, 2), dx(dtype, {1, c.planes, c.height, c.width});
  for (bool counts : {true, false}) {
    PoolCase counted = c;
    PoolAttrs& a = counted.a;
    a.countsPadding = counts, a.height = c.rows, a.width = c.columns;
    run("avgPool", a, {&x}, {&y});
    a.height = c.height, a.width = c.width;
    run("avgPoolBackward", a, {&dy}, {&dx});
    std::vector<double> means(size_t(y.size())), spread(size_t(x.size()));
    each_element(counted, [&](int64_t image, int64_t window, int64_t count) {
      means[size_t(window)] += x.at(image) / double(count);
      spread[size_t(image)] += dy.at(window) / double(count);
    });
    const bool half = dtype == Dtype::f16 || dtype == Dtype::bf16;
    const double unit = dtype == Dtype::f64 ? 1e-15 : 1e-6;
    auto tolerance = [&](double value) { return 4 * unit + (half ? ulp(dtype, value) : 0); };
    for (int64_t i = 0; i < y.size(); i++) FOVEA_CHECK_CLOSE(y.at(i), means[size_t(i)], tolerance(means[size_t(i)]));
    for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(dx.at(i), spread[size_t(i)], tolerance(spread[size_t(i)]));
  }
}
// A window that lies between the taps of which the padding keeps one on either side.
template <class Run>
void check_pool_refuses(const Run& run) {
  Tensor x = Tensor::random(Dtype::f32, {1, 1, 1, 1}, 1), y(Dtype::f32, {1, 1, 1, 1}),
         indices(Dtype::i64, {1, 1, 1, 1});
  PoolAttrs a = pool_attrs(1, 2, 1, 1, 0, 2, 1, 3);
  a.height = a.width = 1;
  FOVEA_CHECK(code_of([&] { run("maxPool", a, {&x}, {&y, &indices}); }) == "FOVEA_SHAPE", "a window without elements");
  a = pool_attrs(1, 1, 0, 1), a.height = a.width = 1;
  FOVEA_CHECK(code_of([&] { run("avgPool", a, {&x}, {&y}); }) == "FOVEA_ARGUMENT", "a stride of 0");
}

}  // namespace fovea::test
