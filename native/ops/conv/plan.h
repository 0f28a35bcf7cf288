// How a convolution is cut, and what memory it works in, from shapes alone: used by op.cc to size the workspace and by
// cpu.cc to run. Widths of vectors differ between instruction sets, so sizes are upper bounds over all of them. How
// many threads there are decides who computes what, never in which order anything is summed.
//
// The planes of a unit (an image and a group; for a weight's gradient, a group) are laid out by one thread for itself
// where units are many and planes small, else by all threads together, who then share the product, too.
#pragma once
#include "ops/conv/geometry.h"

namespace fovea {

constexpr int64_t kConvSlack = 128;              // elements behind planes, which whole vectors read
constexpr int64_t kStripPadding = 16;            // behind a packed strip of weights, which packing overwrites
constexpr int64_t kConvDepth = 768;              // of a sum in one run, so that a strip of weights stays near
constexpr int64_t kBlockRows = 224;              // of weights and
constexpr int64_t kBlockColumns = 256;           // of places that are multiplied together
constexpr int64_t kMostTileRows = 14;            // of any instruction set
constexpr int64_t kOwnBytes = int64_t(1) << 20;  // of planes that a thread lays out for itself: about L2
constexpr int64_t kConvTask = int64_t(1) << 19;  // multiplications that are worth waking a thread for
constexpr int64_t kDotRun = 4096;                // places that a sum of a weight's gradient takes in one run

FOVEA_INLINE int64_t places_of(const PhasedAxis& y, const PhasedAxis& x) { return y.count * x.count; }
// Elements from one plane to the next: an odd number of cache lines, since planes a power of two apart would share
// sets.
FOVEA_INLINE int64_t plane_step(const PhasedAxis& y, const PhasedAxis& x) {
  constexpr int64_t kLine = 16;
  return (ceil_div(places_of(y, x), kLine) | 1) * kLine;
}
FOVEA_INLINE int64_t planes_of(const PhasedAxis& y, const PhasedAxis& x) { return y.phases * x.phases; }

// body(rows, depth, phases of y, phases of x) for every product of weights [rows][depth] with planes.
template <class Body>
FOVEA_INLINE void each_product(const ConvShape& s, bool transposed, Body&& body) {
  if (!transposed) return body(s.outs, s.channels * s.taps(), PhaseGroup{}, PhaseGroup{});
  PhaseGroup ys[2], xs[2];
  const int y_groups = s.y.groups(ys), x_groups = s.x.groups(xs);
  for (int i = 0; i < y_groups; i++)
    for (int j = 0; j < x_groups; j++)
      body(s.channels * ys[i].count * xs[j].count, s.outs * ys[i].steps * xs[j].steps, ys[i], xs[j]);
}
FOVEA_INLINE int64_t packed_weights(int64_t rows, int64_t depth) { return rows * (depth + kStripPadding); }

// Whether each thread lays out planes of its own: only where that keeps all threads busy.
FOVEA_INLINE bool owns_planes(int64_t units, int64_t bytes, int threads) {
  return threads == 1 || (units >= 2 * threads && bytes <= kOwnBytes);
}

// [offsets][packed weights][planes, of all threads or of each][unfinished sums of each thread]
struct ConvMemory {
  int64_t weights_at = 0, planes_at = 0, plane_bytes = 0, sums_at = 0, sum_bytes = 0, total = 0;
  bool own = false;
};
FOVEA_INLINE ConvMemory conv_memory(const ConvShape& s, bool transposed, int threads) {
  ConvMemory m;
  int64_t offsets = 0, weights = 0, deepest = 0;
  each_product(s, transposed, [&](int64_t rows, int64_t depth, const PhaseGroup&, const PhaseGroup&) {
    offsets += depth, weights += s.groups * packed_weights(rows, depth), deepest = max_of(deepest, depth);
  });
  const PhasedAxis y = transposed ? s.y.window_planes() : s.y.image_planes(),
                   x = transposed ? s.x.window_planes() : s.x.image_planes();
  const int64_t channels = transposed ? s.outs : s.channels * planes_of(y, x);
  m.plane_bytes = round_up((channels * plane_step(y, x) + kConvSlack) * s.bytes, 64);
  m.own = owns_planes(s.units(), m.plane_bytes, threads);
  m.weights_at = round_up(offsets * int64_t(sizeof(int64_t)), 64);
  m.planes_at = m.weights_at + round_up(weights * s.bytes, 64);
  m.sums_at = m.planes_at + m.plane_bytes * (m.own ? threads : 1);
  m.sum_bytes = deepest > kConvDepth ? (kBlockRows + kMostTileRows) * kBlockColumns * s.bytes : 0;
  m.total = m.sums_at + m.sum_bytes * threads;
  return m;
}

// The gradient of weights: images side by side in each plane, some at a time, so that sums are long. `step`: from one
// image to the next, in whole vectors of any instruction set; `pitch`: from one plane to the next.
// [offsets][which places count] and, of all threads or of each, [planes of the image][planes of the windows][sums]
struct DotMemory {
  int64_t images = 1, step = 0, pitch = 0, counts_at = 0, sets_at = 0, total = 0;
  int64_t windows_at = 0, sums_at = 0, set_bytes = 0;  // within a set
  bool own = false;
};
FOVEA_INLINE DotMemory dot_memory(const ConvShape& s, int threads) {
  constexpr int64_t kMostLanes = 16;
  DotMemory m;
  const PhasedAxis y = s.y.image_planes(), x = s.x.image_planes();
  const int64_t depth = s.channels * s.taps();
  m.step = round_up(places_of(y, x), kMostLanes);
  m.images = clamp_to(ceil_div(kDotRun, max_of(m.step, 1)), 1, max_of(s.images, 1));
  m.pitch = m.images * m.step;
  m.counts_at = round_up(depth * int64_t(sizeof(int64_t)), 64);
  m.sets_at = m.counts_at + round_up(m.pitch * s.bytes, 64);
  m.windows_at = round_up((s.channels * planes_of(y, x) * m.pitch + kConvSlack) * s.bytes, 64);
  m.sums_at = m.windows_at + round_up(s.outs * m.pitch * s.bytes, 64);
  m.set_bytes = m.sums_at + round_up(s.outs * depth * s.bytes, 64);
  m.own = owns_planes(s.groups, m.set_bytes, threads);
  m.total = m.sets_at + m.set_bytes * (m.own ? threads : 1);
  return m;
}

}  // namespace fovea
