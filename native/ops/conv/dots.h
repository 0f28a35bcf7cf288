// The gradient of weights: sums over places of products of two planes,
//
//   sums[row][k] += sum over q of windows[row][q] planes[offsets[k] + q],   q where counts[q] is set
//
// Both run along q, so that nothing is packed; a tile of sums is held in vectors, whose lanes are added up at the end.
// What does not count is masked in the planes, since 0 in `windows` would not silence an infinity there.
#pragma once
#include <type_traits>
#include <utility>

#include "cpu/rows.h"
#include "ops/conv/plan.h"

namespace fovea::FOVEA_ISA {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kDotRows = 4, kDotOffsets = 6;  // 24 sums + 4 rows + 1 plane + 1 mask of 32 registers
#else
constexpr int kDotRows = 2, kDotOffsets = 4;  // 8 + 2 + 1 + 1 of 16
#endif
template <class A>
using Count = std::conditional_t<kSame<A, float>, int32_t, int64_t>;  // of a Mask<A>

template <class A>
using DotKernel = void (*)(int64_t places, const A* windows, int64_t pitch, const A* planes, const int64_t* offsets,
                           const Count<A>* counts, A* sums, int64_t sum_pitch);
template <class A, int Rows, int Offsets>
void dot_kernel(int64_t places, const A* windows, int64_t pitch, const A* planes, const int64_t* offsets,
                const Count<A>* counts, A* sums, int64_t sum_pitch) {
  Vec<A> sum[Rows][Offsets];
#pragma GCC unroll 4
  for (int i = 0; i < Rows; i++)
#pragma GCC unroll 6
    for (int j = 0; j < Offsets; j++) sum[i][j] = Vec<A>{};
  const A* from[Offsets];
  for (int j = 0; j < Offsets; j++) from[j] = planes + offsets[j];
  for (int64_t q = 0; q < places; q += kLanes<A>) {
    const Mask<A> mask = load(counts + q);
    Vec<A> row[Rows];
#pragma GCC unroll 4
    for (int i = 0; i < Rows; i++) row[i] = load(windows + i * pitch + q);
#pragma GCC unroll 6
    for (int j = 0; j < Offsets; j++) {
      const Vec<A> x = (Vec<A>)((Mask<A>)load(from[j] + q) & mask);
#pragma GCC unroll 4
      for (int i = 0; i < Rows; i++) sum[i][j] += row[i] * x;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < Rows; i++)
#pragma GCC unroll 6
    for (int j = 0; j < Offsets; j++) sums[i * sum_pitch + j] += sum_lanes<A>(sum[i][j]);
}

template <class A>
struct DotKernelTable {
  DotKernel<A> of[kDotRows][kDotOffsets];
};
template <class A, int Rows, int... J>
constexpr void fill_offsets(DotKernelTable<A>& table, std::integer_sequence<int, J...>) {
  ((table.of[Rows - 1][J] = dot_kernel<A, Rows, J + 1>), ...);
}
template <class A, int... I>
constexpr DotKernelTable<A> all_dot_kernels(std::integer_sequence<int, I...>) {
  DotKernelTable<A> table{};
  (fill_offsets<A, I + 1>(table, std::make_integer_sequence<int, kDotOffsets>{}), ...);
  return table;
}
template <class A>
constexpr DotKernelTable<A> kDotKernels = all_dot_kernels<A>(std::make_integer_sequence<int, kDotRows>{});

// Planes and windows of a few images of one group.
template <class A>
struct DotPlanes {
  int64_t places, pitch, rows, depth;
  const A *windows, *planes;
  const int64_t* offsets;
  const Count<A>* counts;
  A* sums;  // [rows][depth]
};

// Part `part` of `parts` nearly equal ones of n begins here.
FOVEA_INLINE int64_t part_of(int64_t n, int64_t part, int64_t parts) { return n * part / parts; }

// Tiles of nearly equal size. Places are cut into runs, so that the rows of a tile stay in cache.
template <class A>
void add_dots(const DotPlanes<A>& d, int64_t first, int64_t end) {
  const int64_t rows = ceil_div(d.rows, kDotRows), tiles = ceil_div(end - first, kDotOffsets);
  for (int64_t q = 0; q < d.places; q += kDotRun) {
    const int64_t places = min_of(kDotRun, d.places - q);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t row = part_of(d.rows, r, rows), height = part_of(d.rows, r + 1, rows) - row;
      for (int64_t t = 0; t < tiles; t++) {
        const int64_t k = first + part_of(end - first, t, tiles),
                      width = first + part_of(end - first, t + 1, tiles) - k;
        kDotKernels<A>.of[height - 1][width - 1](places, d.windows + row * d.pitch + q, d.pitch, d.planes + q,
                                                 d.offsets + k, d.counts + q, d.sums + row * d.depth + k, d.depth);
      }
    }
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
