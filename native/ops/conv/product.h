// Products of packed weights with planes:
//
//   c[row][q] = sum over k of weights[row][k] planes[offsets[k] + q]
//
// where q counts the places of a plane, line by line. A tap is a shift, so that every k is a run of memory, and nothing
// is packed but the weights. What falls behind the last place of a line is computed and not stored.
#pragma once
#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "ops/conv/plan.h"

namespace fovea::FOVEA_ISA {
namespace {

// What multiply_columns of cpu/gemm.h reads.
template <class A>
struct OffsetColumns {
  const A* planes;
  const int64_t* offsets;
  template <int Vectors, class Column>
  FOVEA_INLINE void next(Column (&column)[Vectors]) {
    const A* from = planes + *offsets++;
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) column[j] = load(from + j * kLanes<A>);
  }
};

template <class A>
using OffsetKernel = void (*)(int64_t depth, const A* weights, const A* planes, const int64_t* offsets, const A* before,
                              A* c);
template <class A, int Rows>
void offset_kernel(int64_t depth, const A* weights, const A* planes, const int64_t* offsets, const A* before, A* c) {
  multiply_columns<A, Rows, kTileVectors>(depth, weights, OffsetColumns<A>{planes, offsets}, before, c, kTileColumns<A>,
                                          AheadOfBoth{});
}
template <class A>
struct OffsetKernelTable {
  OffsetKernel<A> of[kTileRows];
};
template <class A, int... I>
constexpr OffsetKernelTable<A> all_offset_kernels(std::integer_sequence<int, I...>) {
  return {{offset_kernel<A, I + 1>...}};
}
template <class A>
constexpr OffsetKernelTable<A> kOffsetKernels = all_offset_kernels<A>(std::make_integer_sequence<int, kTileRows>{});

// One row, as of depthwise convolutions: more places at a time, or every sum would wait for the one before.
constexpr int kWideVectors = 8;
template <class A>
void wide_kernel(int64_t depth, const A* weights, const A* planes, const int64_t* offsets, A* c) {
  Vec<A> sum[kWideVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kWideVectors; j++) sum[j] = Vec<A>{};
  for (int64_t k = 0; k < depth; k++) {
    const Vec<A> weight = splat(weights[k]);
    const A* from = planes + offsets[k];
#pragma GCC unroll 8
    for (int j = 0; j < kWideVectors; j++) sum[j] += weight * load(from + j * kLanes<A>);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kWideVectors; j++) store(c + j * kLanes<A>, sum[j]);
}

// One product for every group: rows in strips of nearly equal height.
template <class A>
struct WeightedPlanes {
  int64_t rows, depth, columns, pitch;  // columns: places from the first to behind the last that counts
  const int64_t* offsets;
  A* weights;  // [group][strip][depth][row]
  PhaseGroup y_phases{}, x_phases{};

  FOVEA_INLINE int64_t strips() const { return ceil_div(rows, kTileRows); }
  FOVEA_INLINE int64_t begin(int64_t strip) const { return rows * strip / strips(); }
  FOVEA_INLINE int64_t height(int64_t strip) const { return begin(strip + 1) - begin(strip); }
  FOVEA_INLINE A* strip_of(int64_t group, int64_t strip) const {
    return weights + group * packed_weights(rows, depth) + begin(strip) * depth + strip * kStripPadding;
  }
  FOVEA_INLINE int64_t panel() const { return rows == 1 ? kWideVectors * kLanes<A> : int64_t(kTileColumns<A>); }
  // The depth is cut into runs of this many steps.
  FOVEA_INLINE int64_t run() const {
    return rows == 1 || depth <= kConvDepth ? max_of(depth, 1) : ceil_div(depth, ceil_div(depth, kConvDepth));
  }
};

// ---- where results go

// A run of places in one line of a plane, `at` elements from the start of a tile's row.
struct Piece {
  int64_t y, x, at, count;
};
constexpr int64_t kMostPanel = kWideVectors * kLanes<float>;
struct Pieces {
  Piece list[kMostPanel];
  int count = 0;
  FOVEA_INLINE Pieces(int64_t from, int64_t end, int64_t pitch) {
    int64_t y = from / pitch, x = from % pitch;
    for (int64_t q = from; q < end; y++, x = 0) {
      const int64_t length = min_of(pitch - x, end - q);
      list[count++] = {y, x, q - from, length};
      q += length;
    }
  }
};

// The results of one image and group: rows are [channel][phase of y][phase of x].
template <class S>
struct Written {
  S* data;
  const S* bias;  // of each channel; nullptr: there is none
  PhasedAxis y, x;

  // One row of a tile, which may be written over.
  FOVEA_INLINE void store_row(int64_t row, Compute<S>* tile, int64_t width, const Pieces& pieces) const {
    const int64_t phases = planes_of(y, x), channel = phases == 1 ? row : row / phases, phase = row - channel * phases;
    const Reach lines = y.at(phases == 1 ? 0 : phase / x.phases), places = x.at(phases == 1 ? 0 : phase % x.phases);
    const int64_t top = lines.begin(), bottom = lines.end(), left = places.begin(), right = places.end();
    if (bias) add_to_all(tile, width, to_compute(bias[channel]));
    S* to = data + channel * y.size * x.size;
    for (int i = 0; i < pieces.count; i++) {
      const Piece& piece = pieces.list[i];
      const int64_t from = max_of(left, piece.x), end = min_of(right, piece.x + piece.count);
      if (piece.y < top || piece.y >= bottom || from >= end) continue;
      put(tile + piece.at + from - piece.x, end - from, to + lines.index(piece.y) * x.size + places.index(from),
          x.step);
    }
  }

 private:
  FOVEA_INLINE static void add_to_all(Compute<S>* tile, int64_t width, Compute<S> value) {
    const auto added = splat<Compute<S>>(value);
    for (int64_t j = 0; j < width; j += kLanes<Compute<S>>) store(tile + j, load<Compute<S>>(tile + j) + added);
  }
  FOVEA_INLINE static void put(const Compute<S>* from, int64_t count, S* to, int64_t step) {
    if (step > 1) {
      for (int64_t i = 0; i < count; i++) convert_row(from + i, to + i * step, 1);
    } else if constexpr (kIs16Bit<S>) {
      convert_row(from, to, count);
    } else {
      for_vectors<S>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT { store(to + i, load(from + i, lanes), lanes); });
    }
  }
};

// ---- blocks of strips and columns

struct Span {
  int64_t begin, end;
};
// `sums`: room for the unfinished tiles of a block, if the depth is cut into runs.
template <class S>
void multiply_block(const WeightedPlanes<Compute<S>>& p, int64_t group, const Compute<S>* planes, const Written<S>& to,
                    Span strips, Span columns, Compute<S>* sums) {
  using A = Compute<S>;
  constexpr int64_t kTile = kTileRows * kTileColumns<A>;
  static_assert(kTile >= kWideVectors * kLanes<A> && kTileRows <= kMostTileRows, "a row of a wide tile has no room");
  alignas(64) A tile[kTile];
  const int64_t run = p.run(), panel = p.panel();
  int64_t k = 0;
  do {
    const int64_t depth = min_of(run, p.depth - k);
    const bool last = k + depth == p.depth;
    A* unfinished = sums;
    for (int64_t q = columns.begin; q < columns.end; q += panel) {
      const Pieces pieces(q, last ? min_of(q + panel, columns.end) : q, p.pitch);
      for (int64_t s = strips.begin; s < strips.end; s++, unfinished += kTile) {
        const int64_t height = p.height(s);
        const A* weights = p.strip_of(group, s) + k * height;
        A* c = last ? tile : unfinished;
        if (p.rows == 1) wide_kernel(depth, weights, planes + q, p.offsets + k, c);
        else kOffsetKernels<A>.of[height - 1](depth, weights, planes + q, p.offsets + k, k ? unfinished : nullptr, c);
        if (!last) continue;
        for (int64_t i = 0; i < height; i++) to.store_row(p.begin(s) + i, tile + i * kTileColumns<A>, panel, pieces);
      }
    }
    k += depth;
  } while (k < p.depth);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
