// Laying out planes (geometry.h): lines of an image, every `step`-th element of each, in the type that is computed in,
// with zeros where a plane reaches beyond the image.
#pragma once
#include "cpu/rows.h"
#include "ops/conv/plan.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class A>
FOVEA_INLINE void clear(A* to, int64_t count) {
  if (count > 0) __builtin_memset(to, 0, size_t(count) * sizeof(A));
}

// One plane [y.count][x.count] of an image with lines of x.size elements, the first at offset `at`.
template <class A>
void lay_plane(const Source<A>& image, int64_t at, const Reach& y, const Reach& x, A* to) {
  const int64_t first = x.begin(), count = x.end() - first, top = y.begin(), bottom = y.end();
  if (count < x.count || bottom - top < y.count) clear(to, y.count * x.count);
  if (count <= 0) return;
  for (int64_t v = top; v < bottom; v++) {
    A* line = to + v * x.count + first;
    const A* from = image.block(at + y.index(v) * x.size + x.index(first), x.step, count, line);
    if (from != line)
      for_vectors<A>(count,
                     [&](int64_t i, int64_t lanes) FOVEA_FLAT { store(line + i, load(from + i, lanes), lanes); });
  }
}

// All phases of one channel, `apart` elements from each other.
template <class A>
void lay_channel(const Source<A>& image, int64_t at, const PhasedAxis& y, const PhasedAxis& x, A* to, int64_t apart) {
  for (int64_t i = 0; i < y.phases; i++)
    for (int64_t j = 0; j < x.phases; j++) lay_plane(image, at, y.at(i), x.at(j), to + (i * x.phases + j) * apart);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
