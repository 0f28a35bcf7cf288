// Convolutions, unfold and fold by their definition: every tap of every window that is inside of the image, once.
// Shared by the tests of the CPU and of emulated devices.
#pragma once
#include "ops/conv/attrs.h"
#include "test/harness.h"

namespace fovea::test {

// Channels and outs of all groups.
struct ConvCase {
  int64_t images, channels, outs, height, width, kernel_y, kernel_x;
  ConvAttrs a;

  int64_t windows(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding) const {
    return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
  }
  int64_t rows() const { return windows(height, kernel_y, a.strideY, a.dilationY, a.paddingY); }
  int64_t columns() const { return windows(width, kernel_x, a.strideX, a.dilationX, a.paddingX); }
  int64_t each() const { return channels / a.groups; }
  std::vector<int64_t> image() const { return {images, channels, height, width}; }
  std::vector<int64_t> result() const { return {images, outs, rows(), columns()}; }
  std::vector<int64_t> weight() const { return {outs, each(), kernel_y, kernel_x}; }
  std::vector<int64_t> unfolded() const { return {images, channels, kernel_y, kernel_x, rows(), columns()}; }
  std::string name() const {
    std::string text;
    for (int64_t n : {images, channels, height, width, outs, kernel_y, kernel_x, a.groups, a.strideY, a.strideX,
                      a.dilationY, a.dilationX, a.paddingY, a.paddingX})
      text += std::to_string(n) + " ";
    return text;
  }
};
inline ConvAttrs steps(int64_t groups, int64_t stride_y, int64_t stride_x, int64_t padding_y, int64_t padding_x,
                       int64_t dilation_y = 1, int64_t dilation_x = 1) {
  return {groups, stride_y, stride_x, dilation_y, dilation_x, padding_y, padding_x};
}

// Odd sizes, strides with and without taps for every phase, dilations with and without a common divisor with them,
// paddings as wide as the kernel, depthwise, several groups, one line, one place.
inline std::vector<ConvCase> conv_cases() {
  return {
      {1, 1, 1, 1, 1, 1, 1, steps(1, 1, 1, 0, 0)},         {2, 3, 5, 7, 9, 3, 3, steps(1, 1, 1, 1, 1)},
      {1, 4, 6, 8, 11, 3, 2, steps(2, 2, 3, 1, 0)},        {2, 6, 6, 9, 10, 3, 3, steps(6, 1, 1, 1, 1)},
      {1, 6, 12, 13, 9, 5, 3, steps(6, 2, 2, 2, 1)},       {3, 2, 17, 1, 50, 1, 3, steps(1, 1, 2, 0, 1)},
      {1, 3, 8, 16, 16, 4, 4, steps(1, 4, 4, 0, 0)},       {1, 2, 3, 12, 12, 1, 1, steps(1, 2, 2, 0, 0)},
      {1, 2, 4, 14, 15, 3, 3, steps(1, 1, 1, 2, 3, 2, 3)}, {1, 2, 2, 15, 14, 3, 4, steps(1, 2, 4, 2, 1, 2, 2)},
      {1, 2, 3, 11, 13, 5, 4, steps(1, 3, 2, 2, 1, 2, 3)}, {1, 2, 2, 5, 5, 5, 5, steps(1, 1, 1, 4, 4)},
      {5, 2, 3, 4, 3, 2, 2, steps(1, 1, 1, 0, 0)},         {1, 1, 40, 6, 6, 2, 2, steps(1, 1, 1, 0, 0)},
      {2, 33, 29, 5, 7, 3, 3, steps(1, 1, 1, 1, 1)},       {1, 2, 2, 7, 8, 2, 3, steps(1, 3, 5, 1, 2)},
  };
}

// body(place in the image, in the result, in the weight, in the columns) for every tap inside of the image.
template <class Body>
void each_tap(const ConvCase& c, Body&& body) {
  const int64_t rows = c.rows(), columns = c.columns(), outs = c.outs / c.a.groups, each = c.each();
  for (int64_t n = 0; n < c.images; n++)
    for (int64_t channel = 0; channel < c.channels; channel++)
      for (int64_t i = 0; i < c.kernel_y; i++)
        for (int64_t j = 0; j < c.kernel_x; j++)
          for (int64_t y = 0; y < rows; y++)
            for (int64_t x = 0; x < columns; x++) {
              const int64_t line = y * c.a.strideY + i * c.a.dilationY - c.a.paddingY,
                            place = x * c.a.strideX + j * c.a.dilationX - c.a.paddingX;
              if (line < 0 || line >= c.height || place < 0 || place >= c.width) continue;
              const int64_t plane = n * c.channels + channel, group = channel / each;
              const int64_t image = (plane * c.height + line) * c.width + place,
                            tap = ((plane * c.kernel_y + i) * c.kernel_x + j) * rows * columns + y * columns + x;
              for (int64_t out = group * outs; out < (group + 1) * outs; out++)
                body(image, ((n * c.outs + out) * rows + y) * columns + x,
                     ((out * each + channel % each) * c.kernel_y + i) * c.kernel_x + j, tap);
            }
}

// What a result must be, and the sum of the magnitudes that it was summed from.
struct Sums {
  std::vector<double> values, magnitudes;
  std::vector<int64_t> terms;
  explicit Sums(int64_t n) : values(size_t(n)), magnitudes(size_t(n)), terms(size_t(n)) {}
  void add(int64_t at, double value) {
    values[size_t(at)] += value, magnitudes[size_t(at)] += std::fabs(value), terms[size_t(at)]++;
  }
};
inline void check_sums(const Tensor& actual, const Sums& sums, const std::string& what) {
  const Dtype dtype = actual.dtype();
  const double unit = epsilon(dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32);
  for (int64_t i = 0; i < actual.size(); i++) {
    const double value = sums.values[size_t(i)];
    const double tolerance = 2 * std::sqrt(double(sums.terms[size_t(i)] + 1)) * unit * sums.magnitudes[size_t(i)] +
                             (dtype == Dtype::f16 || dtype == Dtype::bf16 ? 0.5000001 * ulp(dtype, value) : 0);
    if (close(actual.at(i), value, tolerance)) continue;
    FOVEA_CHECK(false, "%s %s: %.9g at %lld, expected %.9g", name_of(dtype), what.c_str(), actual.at(i),
                static_cast<long long>(i), value);
    return;
  }
}

template <class Run>
void check_unfold(const Run& run, const ConvCase& c, Dtype dtype) {
  Tensor x = Tensor::random(dtype, c.image(), 1), columns(dtype, c.unfolded()), sums(dtype, c.image());
  ConvAttrs a = c.a;
  a.kernelY = c.kernel_y, a.kernelX = c.kernel_x, a.height = c.rows(), a.width = c.columns();
  run("unfold", a, {&x}, {&columns});
  Sums expected(columns.size()), folded(x.size());
  ConvCase one = c;
  one.outs = one.a.groups = c.channels;  // each tap once
  each_tap(one, [&](int64_t image, int64_t, int64_t, int64_t tap) { expected.values[size_t(tap)] = x.at(image); });
  check_sums(columns, expected, "unfold " + c.name());
  columns.fill_random(2);
  a.height = c.height, a.width = c.width;
  run("fold", a, {&columns}, {&sums});
  each_tap(one, [&](int64_t image, int64_t, int64_t, int64_t tap) { folded.add(image, columns.at(tap)); });
  check_sums(sums, folded, "fold " + c.name());
}

}  // namespace fovea::test
