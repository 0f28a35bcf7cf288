// conv and convTranspose as products of weights with planes: those of the image, of which windows are made, or of
// windows, of which each phase of an image is made.
#pragma once
#include "ops/conv/planes.h"
#include "ops/conv/product.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class S>
struct Convolution {
  using A = Compute<S>;
  const ConvShape& shape;
  const bool transposed;
  const ConvMemory memory;
  const PhasedAxis y, x;         // of the planes
  const int64_t channels, outs;  // of a group that are read and written
  WeightedPlanes<A> product[4];
  PhasedAxis to_y[4], to_x[4];  // what each product writes
  int products = 0;

  Convolution(const Call& call, const ConvShape& shape, bool transposed)
      : shape(shape),
        transposed(transposed),
        memory(conv_memory(shape, transposed, call.parallel.threads())),
        y(transposed ? shape.y.window_planes() : shape.y.image_planes()),
        x(transposed ? shape.x.window_planes() : shape.x.image_planes()),
        channels(transposed ? shape.outs : shape.channels),
        outs(transposed ? shape.channels : shape.outs) {
    int64_t* offsets = call.scratch<int64_t>();
    A* weights = call.scratch<A>(size_t(memory.weights_at));
    each_product(shape, transposed, [&](int64_t rows, int64_t depth, const PhaseGroup& ys, const PhaseGroup& xs) {
      const PhasedAxis ty = transposed ? shape.y.written_image(ys) : shape.y.written_windows(),
                       tx = transposed ? shape.x.written_image(xs) : shape.x.written_windows();
      const int64_t columns = ty.count == 0 || tx.count == 0 ? 0 : (ty.count - 1) * x.count + tx.count;
      to_y[products] = ty, to_x[products] = tx;
      product[products++] = {rows, depth, columns, x.count, offsets, weights, ys, xs};
      write_offsets(offsets, ys, xs);
      offsets += depth, weights += shape.groups * packed_weights(rows, depth);
    });
  }
  int64_t work() const {
    int64_t n = 0;
    for (int i = 0; i < products; i++) n += product[i].rows * product[i].depth * product[i].columns;
    return n;
  }

 private:
  void write_offsets(int64_t* to, const PhaseGroup& ys, const PhaseGroup& xs) const {
    const ConvAxis &ay = shape.y, &ax = shape.x;
    const int64_t step = plane_step(y, x), taps_y = transposed ? ys.steps : ay.taps,
                  taps_x = transposed ? xs.steps : ax.taps;
    for (int64_t c = 0; c < channels; c++)
      for (int64_t i = 0; i < taps_y; i++)
        for (int64_t j = 0; j < taps_x; j++)
          *to++ = transposed ? c * step + (ay.reach() - i * ay.jump) * x.count + ax.reach() - j * ax.jump
                             : ((c * y.phases + ay.phase_of(i)) * x.phases + ax.phase_of(j)) * step +
                                   ay.shift_of(i) * x.count + ax.shift_of(j);
  }
};

// Rows of conv are runs of its weight. Those of convTranspose are (channel, phase of y, phase of x), and its depth is
// (out, step of y, step of x): where an element lies is the sum of a part of the row's and a part of the step's.
template <class S>
void pack_strip(const Convolution<S>& c, const WeightedPlanes<Compute<S>>& p, const S* weight, int64_t group,
                int64_t strip) {
  const ConvShape& shape = c.shape;
  const int64_t first = p.begin(strip), height = p.height(strip), taps = shape.taps(), each = shape.channels * taps;
  Compute<S>* to = p.strip_of(group, strip);
  weight += group * shape.outs * each;
  if (!c.transposed) return pack_panel(weight + first * p.depth, p.depth, 1, height, p.depth, to, height);
  const int64_t phases_x = p.x_phases.count, phases = p.y_phases.count * phases_x;
  int64_t of_row[kTileRows];
  for (int64_t i = 0; i < height; i++) {
    const int64_t row = first + i, phase = row % phases;
    of_row[i] = row / phases * taps + (p.y_phases.first + phase / phases_x) * shape.x.taps + p.x_phases.first +
                phase % phases_x;
  }
  for (int64_t out = 0; out < shape.outs; out++)
    for (int64_t m = 0; m < p.y_phases.steps; m++)
      for (int64_t n = 0; n < p.x_phases.steps; n++) {
        const S* from = weight + out * each + m * shape.y.period * shape.x.taps + n * shape.x.period;
        for (int64_t i = 0; i < height; i++) *to++ = to_compute(from[of_row[i]]);
      }
}
template <class S>
void pack_weights(Parallel& parallel, const Convolution<S>& c, const S* weight) {
  for (int i = 0; i < c.products; i++) {
    const WeightedPlanes<Compute<S>>& p = c.product[i];
    const int64_t strips = p.strips();
    parallel.for_range(c.shape.groups * strips, row_grain(kTileRows * p.depth), [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at++) pack_strip(c, p, weight, at / strips, at % strips);
    });
  }
}

// How a product is cut into blocks: into at least `wanted`, if it is large enough.
struct Blocks {
  int64_t strips, columns, down, across;
  template <class A>
  FOVEA_INLINE Blocks(const WeightedPlanes<A>& p, int64_t wanted)
      : strips(kBlockRows / kTileRows), columns(p.rows == 1 ? 16 * kBlockColumns : kBlockColumns) {
    for (count(p); down * across < wanted; count(p))
      if (columns / 2 >= p.panel()) columns /= 2;
      else if (strips > 1) strips = ceil_div(strips, 2);
      else break;
  }
  template <class A>
  FOVEA_INLINE void count(const WeightedPlanes<A>& p) {
    down = ceil_div(p.strips(), strips), across = ceil_div(p.columns, columns);
  }
};

template <class S>
struct Units {
  using A = Compute<S>;
  const Convolution<S>& c;
  const Source<A> source;
  const S* bias;
  S* to;

  // The planes of some of a unit's channels.
  void lay(int64_t unit, int64_t first, int64_t end, A* planes) const {
    const int64_t step = plane_step(c.y, c.x), size = c.y.size * c.x.size, phases = planes_of(c.y, c.x);
    for (int64_t k = first; k < end; k++)
      lay_channel(source, (unit * c.channels + k) * size, c.y, c.x, planes + k * phases * step, step);
  }
  void multiply(int64_t unit, int i, const Blocks& blocks, int64_t block, const A* planes, A* sums) const {
    const WeightedPlanes<A>& p = c.product[i];
    const int64_t group = unit % c.shape.groups, strip = block % blocks.down * blocks.strips,
                  column = block / blocks.down * blocks.columns;
    const Written<S> written{to + unit * c.outs * c.to_y[i].size * c.to_x[i].size,
                             bias ? bias + group * c.outs : nullptr, c.to_y[i], c.to_x[i]};
    multiply_block(p, group, planes, written, {strip, min_of(strip + blocks.strips, p.strips())},
                   {column, min_of(column + blocks.columns, p.columns)}, sums);
  }
};

// Each thread has whole units.
template <class S>
void run_apart(Call& call, const Units<S>& units) {
  using A = Compute<S>;
  const Convolution<S>& c = units.c;
  const int64_t n = c.shape.units(), grain = max_of(1, kConvTask / max_of(1, c.work()));
  call.parallel.for_each(ceil_div(n, grain), [&](int64_t task, int thread) {
    A *planes = call.scratch<A>(size_t(c.memory.planes_at + thread * c.memory.plane_bytes)),
      *sums = call.scratch<A>(size_t(c.memory.sums_at + thread * c.memory.sum_bytes));
    for (int64_t unit = task * grain; unit < min_of(n, (task + 1) * grain); unit++) {
      units.lay(unit, 0, c.channels, planes);
      for (int i = 0; i < c.products; i++) {
        const Blocks blocks(c.product[i], 1);
        for (int64_t b = 0; b < blocks.down * blocks.across && !call.parallel.cancelled(); b++)
          units.multiply(unit, i, blocks, b, planes, sums);
      }
    }
  });
}
// One unit after the other, by all threads.
template <class S>
void run_together(Call& call, const Units<S>& units) {
  using A = Compute<S>;
  const Convolution<S>& c = units.c;
  A* planes = call.scratch<A>(size_t(c.memory.planes_at));
  const int64_t wanted = min_of(4 * call.parallel.threads(), c.work() / kConvTask);
  for (int64_t unit = 0; unit < c.shape.units(); unit++) {
    call.parallel.for_range(c.channels, row_grain(places_of(c.y, c.x) * planes_of(c.y, c.x)),
                            [&](int64_t first, int64_t end) { units.lay(unit, first, end, planes); });
    for (int i = 0; i < c.products; i++) {
      const Blocks blocks(c.product[i], wanted);
      call.parallel.for_each(blocks.down * blocks.across, [&](int64_t block, int thread) {
        A* sums = call.scratch<A>(size_t(c.memory.sums_at + thread * c.memory.sum_bytes));
        units.multiply(unit, i, blocks, block, planes, sums);
      });
    }
  }
}

// Where strides leave phases without taps, no window reaches parts of the image.
template <class S>
void fill_with_bias(Call& call, const View& y, const S* bias) {
  const int64_t channels = y.shape[1], size = y.shape[2] * y.shape[3];
  call.parallel.for_range(y.shape[0] * channels, row_grain(size), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const S value = bias ? bias[i % channels] : S{};
      for (int64_t j = 0; j < size; j++) y.as<S>()[i * size + j] = value;
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
