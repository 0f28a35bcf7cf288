// unfold: columns[c, i, j, y, x] = image[c, y strideY + i dilationY - paddingY, ...], 0 outside of it; fold adds
// columns up where they came from, line after line of the image, so that it does not matter which thread does it.
#include "cpu/rows.h"
#include "ops/conv/geometry.h"
#include "ops/conv/kernels.h"

namespace fovea::FOVEA_ISA {
namespace {

// Windows of which tap t is inside of the image, and where it is.
FOVEA_INLINE Reach reach_of(int64_t image, int64_t windows, int64_t tap, int64_t stride, int64_t dilation,
                            int64_t padding) {
  return {image, stride, tap * dilation - padding, windows};
}

// S: any type of the width of the elements.
template <class S>
void unfold_plane(const S* image, const Reach& y, const Reach& x, S* to) {
  const int64_t first = x.begin(), last = x.end();
  for (int64_t v = 0; v < y.count; v++, to += x.count) {
    const int64_t line = y.index(v);
    if (line < 0 || line >= y.size) {
      __builtin_memset(to, 0, size_t(x.count) * sizeof(S));
      continue;
    }
    const S* from = image + line * x.size + x.index(first);
    for (int64_t i = 0; i < first; i++) to[i] = S{};
    if (x.step == 1) __builtin_memcpy(to + first, from, size_t(last - first) * sizeof(S));
    else
      for (int64_t i = first; i < last; i++) to[i] = from[(i - first) * x.step];
    for (int64_t i = last; i < x.count; i++) to[i] = S{};
  }
}

template <class S>
void unfold_all(Call& call, const ConvAttrs& a) {
  const View &x = call.in[0], &out = call.out[0];
  const int64_t taps_x = out.shape[3], taps = out.shape[2] * taps_x, area = out.shape[4] * out.shape[5],
                size = x.shape[2] * x.shape[3];
  call.parallel.for_range(x.shape[0] * x.shape[1] * taps, row_grain(area), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t tap = row % taps;
      unfold_plane(x.as<S>() + row / taps * size,
                   reach_of(x.shape[2], out.shape[4], tap / taps_x, a.strideY, a.dilationY, a.paddingY),
                   reach_of(x.shape[3], out.shape[5], tap % taps_x, a.strideX, a.dilationX, a.paddingX),
                   out.as<S>() + row * area);
    }
  });
}

// Adds to one line of the image what the taps in line i of all windows hold.
template <class S>
void fold_line(const S* columns, const View& in, int64_t size, const ConvAttrs& a, Compute<S>* line) {
  const int64_t taps = in.shape[3], area = in.shape[4] * in.shape[5];
  for (int64_t j = 0; j < taps; j++) {
    const Reach x = reach_of(size, in.shape[5], j, a.strideX, a.dilationX, a.paddingX);
    for (int64_t v = x.begin(); v < x.end(); v++) {
      Compute<S> value;
      convert_row(columns + j * area + v, &value, 1);
      line[x.index(v)] += value;
    }
  }
}
template <class S>
void fold_all(Call& call, const ConvAttrs& a) {
  using A = Compute<S>;
  const View &in = call.in[0], &image = call.out[0];
  const int64_t height = image.shape[2], width = image.shape[3], lines = image.shape[0] * image.shape[1] * height,
                taps = in.shape[2], area = in.shape[4] * in.shape[5], channel = taps * in.shape[3] * area;
  const int64_t grain = row_grain(width * taps * in.shape[3]);
  const Target<A> target(image);
  call.parallel.for_each(ceil_div(lines, grain), [&](int64_t task, int thread) {
    A* line = call.scratch<A>() + thread * width;
    for (int64_t at = task * grain; at < min_of(lines, (task + 1) * grain); at++) {
      __builtin_memset(line, 0, size_t(width) * sizeof(A));
      for (int64_t i = 0; i < taps; i++) {
        const int64_t distance = at % height + a.paddingY - i * a.dilationY, window = distance / a.strideY;
        if (distance < 0 || distance % a.strideY != 0 || window >= in.shape[4]) continue;
        fold_line(in.as<S>() + at / height * channel + i * in.shape[3] * area + window * in.shape[5], in, width, a,
                  line);
      }
      target.put(line, at * width, width);
    }
  });
}

}  // namespace

void unfold(Call& call, const ConvAttrs& attrs) {
  check_steps(call, attrs);
  if (call.out[0].size() == 0) return;
  switch (bytes_of(call.in[0].dtype)) {
    case 2: return unfold_all<uint16_t>(call, attrs);
    case 4: return unfold_all<uint32_t>(call, attrs);
    default: return unfold_all<uint64_t>(call, attrs);
  }
}
void fold(Call& call, const ConvAttrs& attrs) {
  check_steps(call, attrs);
  if (call.out[0].size() == 0) return;
  dispatch_float(call.in[0].dtype, [&]<class S>() { fold_all<S>(call, attrs); });
}

}  // namespace fovea::FOVEA_ISA
