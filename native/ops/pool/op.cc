// Pooling over windows of each channel: the largest element and where it is (y w + x, the last NaN where there are
// some), or the mean. avgPool and avgPoolBackward are linear, and each is the other's gradient.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/pool/attrs.h"
#include "ops/pool/workspace.h"

namespace fovea {

// A plane for each thread.
size_t avg_pool_backward_workspace(Views, Views out, const void*, int threads) {
  const View& image = out[0];
  return size_t(threads) * size_t(image.dim(2) * image.dim(3)) * bytes_of(accumulator_of(image.dtype));
}

void declare_pool(Registry& r) {
  r.add<PoolAttrs>("maxPool", "x:b c h w -> y:b c @height @width, indices:b c @height @width",
                   "T -> T int64 | T: float")
      .with(Layout::dense);
  r.add<PoolAttrs>("avgPool", "x:b c h w -> y:b c @height @width", "T -> T | T: float").with(Layout::dense);
  r.add<PoolAttrs>("avgPoolBackward", "dy:b c p q -> dx:b c @height @width", "T -> T | T: float")
      .with(Layout::dense)
      .with(avg_pool_backward_workspace);
}

}  // namespace fovea
