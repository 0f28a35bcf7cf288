// convWeight: the gradient of weights, as dots of planes of windows and of images (dots.h).
#include "ops/conv/dots.h"
#include "ops/conv/kernels.h"
#include "ops/conv/planes.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class S>
struct WeightGradient {
  using A = Compute<S>;
  const ConvShape& shape;
  const DotMemory memory;
  const PhasedAxis y, x;    // of planes of the image
  const PhasedAxis wy, wx;  // of windows
  const Source<A> image, windows;
  int64_t* const offsets;
  Count<A>* const counts;

  WeightGradient(const Call& call, const ConvShape& shape)
      : shape(shape),
        memory(dot_memory(shape, call.parallel.threads())),
        y(shape.y.image_planes()),
        x(shape.x.image_planes()),
        wy(shape.y.gradient_planes()),
        wx(shape.x.gradient_planes()),
        image(call.in[0]),
        windows(call.in[1]),
        offsets(call.scratch<int64_t>()),
        counts(call.scratch<Count<A>>(size_t(memory.counts_at))) {
    int64_t* to = offsets;
    for (int64_t c = 0; c < shape.channels; c++)
      for (int64_t i = 0; i < shape.y.taps; i++)
        for (int64_t j = 0; j < shape.x.taps; j++)
          *to++ = ((c * y.phases + shape.y.phase_of(i)) * x.phases + shape.x.phase_of(j)) * memory.pitch +
                  shape.y.shift_of(i) * x.count + shape.x.shift_of(j);
    clear(counts, memory.pitch);
    for (int64_t n = 0; n < memory.images; n++)
      for (int64_t i = 0; i < wy.size; i++)
        for (int64_t j = 0; j < wx.size; j++) counts[n * memory.step + i * x.count + j] = -1;
  }
  int64_t depth() const { return shape.channels * shape.taps(); }
  // The set of memory of a thread, or of all.
  std::byte* set_of(const Call& call, int thread) const {
    return call.workspace + memory.sets_at + thread * memory.set_bytes;
  }
  A* sums(std::byte* set) const { return reinterpret_cast<A*>(set + memory.sums_at); }
  DotPlanes<A> planes(std::byte* set, int64_t images) const {
    return {.places = images * memory.step,
            .pitch = memory.pitch,
            .rows = shape.outs,
            .depth = depth(),
            .windows = reinterpret_cast<A*>(set + memory.windows_at),
            .planes = reinterpret_cast<A*>(set),
            .offsets = offsets,
            .counts = counts,
            .sums = sums(set)};
  }

  // Of a group, channel `k` of the image, or behind them its outs, of images [from, from + count).
  void lay(int64_t group, int64_t from, int64_t count, int64_t k, std::byte* set) const {
    const int64_t area = places_of(y, x), out = k - shape.channels;
    for (int64_t n = 0; n < count; n++) {
      const int64_t unit = (from + n) * shape.groups + group;
      if (out < 0) {
        A* to = reinterpret_cast<A*>(set) + k * planes_of(y, x) * memory.pitch + n * memory.step;
        lay_channel(image, (unit * shape.channels + k) * y.size * x.size, y, x, to, memory.pitch);
      } else {
        A* to = reinterpret_cast<A*>(set + memory.windows_at) + out * memory.pitch + n * memory.step;
        lay_channel(windows, (unit * shape.outs + out) * wy.size * wx.size, wy, wx, to, 0);
        clear(to + area, memory.step - area);
      }
    }
  }
};

template <class S>
void store_sums(const Call& call, const WeightGradient<S>& w, int64_t group, const Compute<S>* sums) {
  const int64_t n = w.shape.outs * w.depth();
  Target<Compute<S>>(call.out[0]).put(sums, group * n, n);
}

// Each thread has whole groups.
template <class S>
void run_apart(Call& call, const WeightGradient<S>& w) {
  const ConvShape& s = w.shape;
  call.parallel.for_each(s.groups, [&](int64_t group, int thread) {
    std::byte* set = w.set_of(call, thread);
    clear(w.sums(set), s.outs * w.depth());
    for (int64_t from = 0; from < s.images && !call.parallel.cancelled(); from += w.memory.images) {
      const int64_t count = min_of(w.memory.images, s.images - from);
      for (int64_t k = 0; k < s.channels + s.outs; k++) w.lay(group, from, count, k, set);
      add_dots(w.planes(set, count), 0, w.depth());
    }
    store_sums(call, w, group, w.sums(set));
  });
}
// One group after the other, by all threads, which share its weights.
template <class S>
void run_together(Call& call, const WeightGradient<S>& w) {
  constexpr int64_t kOffsetsOfTask = 4 * kDotOffsets;
  const ConvShape& s = w.shape;
  std::byte* set = w.set_of(call, 0);
  for (int64_t group = 0; group < s.groups; group++) {
    clear(w.sums(set), s.outs * w.depth());
    for (int64_t from = 0; from < s.images; from += w.memory.images) {
      const int64_t count = min_of(w.memory.images, s.images - from);
      call.parallel.for_range(s.channels + s.outs, row_grain(w.memory.pitch), [&](int64_t first, int64_t end) {
        for (int64_t k = first; k < end; k++) w.lay(group, from, count, k, set);
      });
      const DotPlanes<Compute<S>> planes = w.planes(set, count);
      const int64_t task = max_of(kOffsetsOfTask, kConvTask / max_of(1, planes.places * s.outs));
      call.parallel.for_range(w.depth(), round_up(task, kDotOffsets),
                              [&](int64_t first, int64_t end) { add_dots(planes, first, end); });
    }
    store_sums(call, w, group, w.sums(set));
  }
}

}  // namespace

void conv_weight(Call& call, const ConvAttrs& attrs) {
  const View &image = call.in[0], &weight = call.out[0];
  const ConvShape shape = check_conv(call, image, call.in[1], weight, attrs);
  if (weight.size() == 0) return;
  dispatch_float(image.dtype, [&]<class S>() {
    const WeightGradient<S> w(call, shape);
    if (w.memory.own) run_apart(call, w);
    else run_together(call, w);
  });
}

}  // namespace fovea::FOVEA_ISA
