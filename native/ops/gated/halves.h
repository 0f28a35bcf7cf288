// What the gated kernels of both devices share: where gate and up are.
#pragma once
#include "core/kernel.h"

namespace fovea {

// The first half of the last axis of v, or the second.
FOVEA_HOST_INLINE View half_of(View v, bool second) {
  const int64_t n = v.shape[v.rank - 1] / 2;
  v.shape[v.rank - 1] = n;
  if (second) v.data += n * v.strides[v.rank - 1] * int64_t(bytes_of(v.dtype));
  return v;
}

// Two views of one shape; `x` holds both, side by side, where `other` is absent or empty.
struct Halves {
  View gate, up;
  FOVEA_HOST_INLINE Halves(const View& x, const View& other, bool apart)
      : gate(apart ? x : half_of(x, false)), up(apart ? other : half_of(x, true)) {}
};

// Fails unless `width` is that of the result.
template <class AnyCall>
FOVEA_HOST_INLINE void check_width(const AnyCall& call, int64_t width, bool apart) {
  const int64_t d = call.in[0].dim(-1);
  if (apart ? width != d : 2 * width != d)
    call.fail("FOVEA_SHAPE", "width is %lld, but gate has %lld columns%s", static_cast<long long>(width),
              static_cast<long long>(d), apart ? "" : "; expected half of them without up");
}

}  // namespace fovea
