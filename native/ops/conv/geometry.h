// Convolution along one axis, as products without gaps. Tap t of window w is at image index i = w s + t d - p (stride
// s, dilation d, padding p). With g = gcd(s, d), phase u has the taps t = u + m s/g, and
//
//   i = v s + u d - p   where v = w + m d/g
//
// cuts the image into planes, one for each phase, on which a tap is a shift by m d/g: a convolution of stride 1,
// whatever s and d are. The other way round, place v of phase u is reached from windows v - m d/g: a transposed
// convolution writes every phase as a convolution of stride 1, too. No zeros are multiplied that strides would put
// between elements.
#pragma once
#include "core/arithmetic.h"
#include "core/kernel.h"
#include "ops/conv/attrs.h"

namespace fovea {

FOVEA_INLINE int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }  // b > 0
FOVEA_INLINE int64_t greatest_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

// Places v of [0, count) that stand for indices v step + start, as far as those lie in [0, size).
struct Reach {
  int64_t size, step, start, count;
  FOVEA_INLINE int64_t index(int64_t v) const { return v * step + start; }
  FOVEA_INLINE int64_t begin() const { return start >= 0 ? 0 : min_of(count, first_at_least(-start)); }
  FOVEA_INLINE int64_t end() const { return max_of(begin(), min_of(count, first_at_least(size - start))); }

 private:
  FOVEA_INLINE int64_t first_at_least(int64_t distance) const {
    return step == 1 || distance <= 0 ? distance : ceil_div(distance, step);
  }
};
// The same for several phases, which begin `phase_step` indices apart.
struct PhasedAxis {
  int64_t size, step, start, count, phase_step = 0, phases = 1;
  FOVEA_INLINE Reach at(int64_t phase) const { return {size, step, start + phase * phase_step, count}; }
};

// Neighbouring phases that have equally many taps.
struct PhaseGroup {
  int64_t first, count, steps;
};

struct ConvAxis {
  int64_t image, windows, taps, stride, dilation, padding;
  int64_t period, jump;  // s/g and d/g

  FOVEA_INLINE int64_t phases() const { return min_of(taps, period); }
  FOVEA_INLINE int64_t most_steps() const { return ceil_div(taps, period); }
  FOVEA_INLINE int64_t reach() const { return (most_steps() - 1) * jump; }
  // The phases in at most two groups. Returns how many.
  FOVEA_INLINE int groups(PhaseGroup (&group)[2]) const {
    const int64_t more = taps % period;
    if (taps <= period || more == 0) {
      group[0] = {0, phases(), most_steps()};
      return 1;
    }
    group[0] = {0, more, most_steps()}, group[1] = {more, period - more, most_steps() - 1};
    return 2;
  }
  // Where in the planes tap t looks, and in which.
  FOVEA_INLINE int64_t phase_of(int64_t tap) const { return tap % period; }
  FOVEA_INLINE int64_t shift_of(int64_t tap) const { return tap / period * jump; }

  // Places v that some phase has inside of the image.
  FOVEA_INLINE int64_t first() const { return -floor_div((phases() - 1) * dilation - padding, stride); }
  FOVEA_INLINE int64_t places() const { return max_of(0, floor_div(image - 1 + padding, stride) - first() + 1); }

  // Planes of the image, of the windows as a transposed convolution reads them, and of the windows with the pitch of
  // the image's planes.
  FOVEA_INLINE PhasedAxis image_planes() const {
    return {image, stride, -padding, windows + reach(), dilation, phases()};
  }
  FOVEA_INLINE PhasedAxis window_planes() const { return {windows, 1, first() - reach(), places() + reach()}; }
  FOVEA_INLINE PhasedAxis gradient_planes() const { return {windows, 1, 0, windows + reach()}; }
  // What a product writes: windows, or the phases of a group in the image.
  FOVEA_INLINE PhasedAxis written_windows() const { return {windows, 1, 0, windows}; }
  FOVEA_INLINE PhasedAxis written_image(const PhaseGroup& group) const {
    return {image, stride, first() * stride - padding + group.first * dilation, places(), dilation, group.count};
  }
};

FOVEA_INLINE ConvAxis conv_axis(int64_t image, int64_t windows, int64_t taps, int64_t stride, int64_t dilation,
                                int64_t padding) {
  const int64_t g = greatest_divisor(stride, dilation);
  return {image, windows, taps, stride, dilation, padding, stride / g, dilation / g};
}

// A convolution from images [b, groups channels, h, w] to windows [b, groups outs, p, q], by weights
// [groups outs, channels, i, j].
struct ConvShape {
  int64_t images, groups, channels, outs;
  ConvAxis y, x;
  int64_t bytes;  // of one element in the type that is computed in

  FOVEA_INLINE int64_t taps() const { return y.taps * x.taps; }
  FOVEA_INLINE int64_t units() const { return images * groups; }
};
FOVEA_INLINE ConvShape conv_shape(const View& image, const View& windows, const View& weight, const ConvAttrs& a) {
  return {image.shape[0],
          a.groups,
          weight.shape[1],
          weight.shape[0] / a.groups,
          conv_axis(image.shape[2], windows.shape[2], weight.shape[2], a.strideY, a.dilationY, a.paddingY),
          conv_axis(image.shape[3], windows.shape[3], weight.shape[3], a.strideX, a.dilationX, a.paddingX),
          image.dtype == Dtype::f64 ? 8 : 4};
}

// Whether planes of all kinds (plan.h) are of sizes that can be counted: a bound of their bytes for all threads, in
// numbers that do not overflow. Dilation and padding are all that makes a plane much larger than what is there already.
FOVEA_INLINE double most_places(const ConvAxis& a) {
  const double beyond = double(a.taps) * double(a.dilation) + double(a.padding < 0 ? -a.padding : a.padding);
  return double(a.image) + double(a.windows) + 2 * beyond + 64;
}
FOVEA_INLINE bool planes_fit(const ConvShape& s) {
  constexpr double kMostElements = double(int64_t(1) << 48);
  const double planes = double(s.channels + s.outs + 1) * double(s.taps());
  return planes * most_places(s.y) * most_places(s.x) < kMostElements;
}

// Whether strides, dilations and groups are positive, and channels of the image and the weight fit the groups.
FOVEA_INLINE bool steps_fit(const ConvAttrs& a) {
  return a.strideY >= 1 && a.strideX >= 1 && a.dilationY >= 1 && a.dilationX >= 1;
}
FOVEA_INLINE bool groups_fit(const View& image, const View& weight, const ConvAttrs& a) {
  return a.groups >= 1 && image.shape[1] == a.groups * weight.shape[1] && weight.shape[0] % a.groups == 0 &&
         weight.shape[2] >= 1 && weight.shape[3] >= 1;
}
template <class AnyCall>
FOVEA_HOST_INLINE void check_steps(const AnyCall& call, const ConvAttrs& a) {
  if (!steps_fit(a))
    call.fail("FOVEA_ARGUMENT",
              "expected strides and dilations of at least 1, got strides %lld, %lld and dilations %lld, %lld",
              static_cast<long long>(a.strideY), static_cast<long long>(a.strideX), static_cast<long long>(a.dilationY),
              static_cast<long long>(a.dilationX));
}
// The shape of a call whose sizes fit each other.
template <class AnyCall>
FOVEA_HOST_INLINE ConvShape check_conv(const AnyCall& call, const View& image, const View& windows, const View& weight,
                                       const ConvAttrs& a) {
  check_steps(call, a);
  if (!groups_fit(image, weight, a))
    call.fail("FOVEA_SHAPE",
              "expected a weight [outs,channels / groups,i,j], got [%lld,%lld,%lld,%lld] for %lld channels in %lld "
              "groups; outs and channels must be multiples of groups",
              static_cast<long long>(weight.shape[0]), static_cast<long long>(weight.shape[1]),
              static_cast<long long>(weight.shape[2]), static_cast<long long>(weight.shape[3]),
              static_cast<long long>(image.shape[1]), static_cast<long long>(a.groups));
  const ConvShape shape = conv_shape(image, windows, weight, a);
  if (!planes_fit(shape))
    call.fail(
        "FOVEA_ARGUMENT",
        "expected a convolution of which planes can be addressed, got dilations %lld, %lld and paddings %lld, %lld",
        static_cast<long long>(a.dilationY), static_cast<long long>(a.dilationX), static_cast<long long>(a.paddingY),
        static_cast<long long>(a.paddingX));
  return shape;
}

}  // namespace fovea
