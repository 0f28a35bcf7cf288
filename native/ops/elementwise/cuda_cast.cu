// Conversions of every dtype to every other, by the rules of cuda_convert.h.
#include "ops/elementwise/cuda_move.h"

namespace fovea::cuda {

void convert(const CudaCall& call, const View& to, const View& from) {
  dispatch(from.dtype, [&](auto source) {
    dispatch(to.dtype, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      if constexpr (!kSame<From, To>) map<To>(call, to, Same{}, input<From>(from));
    });
  });
}

}  // namespace fovea::cuda
