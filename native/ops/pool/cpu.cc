// Pooling on the CPU: a line of windows after the other; the gradient of means a plane after the other, so that threads
// share no sums. Means are summed in float32 or float64 and rounded once.
#include "cpu/rows.h"
#include "ops/pool/windows.h"

namespace fovea::FOVEA_ISA {
namespace {

FOVEA_INLINE float wide(float x) { return x; }
FOVEA_INLINE double wide(double x) { return x; }
FOVEA_INLINE float wide(Half x) { return to_float(x); }
FOVEA_INLINE float wide(Bfloat16 x) { return to_float(x); }

// body(plane, window of y) for all lines of windows.
template <class Body>
void for_lines(Call& call, const PoolAxis& y, const PoolAxis& x, Body body) {
  const View& out = call.out[0];
  const int64_t work = x.adaptive ? y.size * x.size / max_of(1, y.windows) : x.windows * y.kernel * x.kernel;
  call.parallel.for_range(out.shape[0] * out.shape[1] * y.windows, row_grain(work), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; line++) body(line / y.windows, line % y.windows);
  });
}

void max_pool(Call& call, const PoolAttrs& attrs) {
  const View &image = call.in[0], &out = call.out[0];
  if (out.size() == 0) return;
  const PoolAxis y = pool_rows(image, out, attrs), x = pool_columns(image, out, attrs);
  check_pool(call, y), check_pool(call, x);
  dispatch_float(image.dtype, [&]<class S>() {
    for_lines(call, y, x, [&](int64_t plane, int64_t line) {
      using A = Compute<S>;
      const S* from = image.as<S>() + plane * y.size * x.size;
      const PoolTaps rows = y.at(line);
      for (int64_t window = 0; window < x.windows; window++) {
        const PoolTaps columns = x.at(window);
        A best = A(-__builtin_inf());
        int64_t place = rows.begin * x.size + columns.begin;
        for (int64_t i = rows.begin; i < rows.end; i += rows.step)
          for (int64_t j = columns.begin; j < columns.end; j += columns.step) {
            const A value = wide(from[i * x.size + j]);
            if ((value > best) | (value != value)) best = value, place = i * x.size + j;
          }
        const int64_t at = (plane * y.windows + line) * x.windows + window;
        out.as<S>()[at] = from[place];
        call.out[1].as<int64_t>()[at] = place;
      }
    });
  });
}

void avg_pool(Call& call, const PoolAttrs& attrs) {
  const View &image = call.in[0], &out = call.out[0];
  if (out.size() == 0) return;
  const PoolAxis y = pool_rows(image, out, attrs), x = pool_columns(image, out, attrs);
  check_pool(call, y), check_pool(call, x);
  dispatch_float(image.dtype, [&]<class S>() {
    const Target<Compute<S>> target(out);
    for_lines(call, y, x, [&](int64_t plane, int64_t line) {
      using A = Compute<S>;
      const S* from = image.as<S>() + plane * y.size * x.size;
      const PoolTaps rows = y.at(line);
      for (int64_t window = 0; window < x.windows; window++) {
        const PoolTaps columns = x.at(window);
        A sum = 0;
        for (int64_t i = rows.begin; i < rows.end; i++)
          for (int64_t j = columns.begin; j < columns.end; j++) sum += wide(from[i * x.size + j]);
        sum /= A(y.count(line)) * A(x.count(window));
        target.put(&sum, (plane * y.windows + line) * x.windows + window, 1);
      }
    });
  });
}

// forward: y = sum over a window of x, divided by its elements
template <class S>
void spread_plane(const S* dy, const PoolAxis& y, const PoolAxis& x, Compute<S>* dx) {
  using A = Compute<S>;
  for (int64_t line = 0; line < y.windows; line++) {
    const PoolTaps rows = y.at(line);
    for (int64_t window = 0; window < x.windows; window++) {
      const PoolTaps columns = x.at(window);
      const A share = wide(dy[line * x.windows + window]) / (A(y.count(line)) * A(x.count(window)));
      for (int64_t i = rows.begin; i < rows.end; i++)
        for (int64_t j = columns.begin; j < columns.end; j++) dx[i * x.size + j] += share;
    }
  }
}
void avg_pool_backward(Call& call, const PoolAttrs& attrs) {
  const View &windows = call.in[0], &image = call.out[0];
  if (image.size() == 0) return;
  const PoolAxis y = pool_rows(image, windows, attrs), x = pool_columns(image, windows, attrs);
  check_pool(call, y), check_pool(call, x);
  const int64_t size = y.size * x.size, planes = image.shape[0] * image.shape[1], grain = row_grain(size);
  dispatch_float(image.dtype, [&]<class S>() {
    using A = Compute<S>;
    const Target<A> target(image);
    call.parallel.for_each(ceil_div(planes, grain), [&](int64_t task, int thread) {
      A* sums = call.scratch<A>() + thread * size;
      for (int64_t plane = task * grain; plane < min_of(planes, (task + 1) * grain); plane++) {
        __builtin_memset(sums, 0, size_t(size) * sizeof(A));
        spread_plane(windows.as<S>() + plane * y.windows * x.windows, y, x, sums);
        target.put(sums, plane * size, size);
      }
    });
  });
}

}  // namespace

FOVEA_KERNELS(pool, FOVEA_KERNEL("maxPool", max_pool, PoolAttrs), FOVEA_KERNEL("avgPool", avg_pool, PoolAttrs),
              FOVEA_KERNEL("avgPoolBackward", avg_pool_backward, PoolAttrs))

}  // namespace fovea::FOVEA_ISA
