// What the kernels of recurrent cells on both devices share: how the gates lie beside each other.
#pragma once
#include "core/kernel.h"

namespace fovea {

// The rows and the width n of a state; fails unless the gates of `x`, side by side, are `gates` times as wide.
struct CellRows {
  int64_t rows, n;
  template <class AnyCall>
  FOVEA_HOST_INLINE CellRows(const AnyCall& call, const View& x, const View& state, int64_t gates) : n(state.dim(-1)) {
    if (x.dim(-1) != gates * n)
      call.fail("FOVEA_SHAPE", "x has %lld columns, but a state of %lld needs %lld: %lld gates side by side",
                static_cast<long long>(x.dim(-1)), static_cast<long long>(n), static_cast<long long>(gates * n),
                static_cast<long long>(gates));
    rows = n > 0 ? state.size() / n : 0;
  }
};

}  // namespace fovea
