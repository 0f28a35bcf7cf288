// layerNorm (Ba et al. 2016, https://arxiv.org/abs/1607.06450) and rmsNorm (Zhang & Sennrich 2019,
// https://arxiv.org/abs/1910.07467) over the last axis; addLayerNorm and addRmsNorm are those of x + residual, which is
// what a transformer's block needs after each sublayer. channelNorm is what batch and group normalisation share.
#include "core/registry.h"
#include "ops/families.h"
#include "ops/norm/attrs.h"
#include "ops/norm/workspace.h"

namespace fovea {

size_t norm_backward_workspace(Views in, Views out, const void*, int) {
  size_t sums = size_t(out.size()) - 1;  // dweight, and dbias for layerNorm
  return size_t(kNormParts) * sums * size_t(in[0].dim(-1)) * bytes_of(accumulator_of(in[0].dtype));
}

size_t channel_norm_workspace(Views in, Views, const void*, int) {
  const View& x = in[0];
  return 4 * size_t((x.dim(0) ? x.dim(0) : 1) * x.dim(1)) * bytes_of(accumulator_of(x.dtype));
}

void declare_norm(Registry& r) {
  r.add<LayerNormAttrs>("layerNorm", "x:... d, weight?:d, bias?:d -> y:... d, mean:..., rstd:...",
                        "T T T -> T acc acc | T: float")
      .with(Layout::dense_rows);
  r.add<LayerNormAttrs>("rmsNorm", "x:... d, weight?:d -> y:... d, rstd:...", "T T -> T acc | T: float")
      .with(Layout::dense_rows);
  r.add<LayerNormAttrs>("addLayerNorm",
                        "x:... d, residual:... d, weight?:d, bias?:d -> sum:... d, y:... d, mean:..., rstd:...",
                        "T T T T -> T T acc acc | T: float")
      .with(Layout::dense_rows);
  r.add<LayerNormAttrs>("addRmsNorm", "x:... d, residual:... d, weight?:d -> sum:... d, y:... d, rstd:...",
                        "T T T -> T T acc | T: float")
      .with(Layout::dense_rows);
  r.add("layerNormBackward", "x:... d, weight?:d, mean:..., rstd:..., dy:... d -> dx:... d, dweight:d, dbias:d",
        "T T acc acc T -> T T T | T: float")
      .with(Layout::dense)
      .with(norm_backward_workspace);
  r.add("rmsNormBackward", "x:... d, weight?:d, rstd:..., dy:... d -> dx:... d, dweight:d",
        "T T acc T -> T T | T: float")
      .with(Layout::dense)
      .with(norm_backward_workspace);
  // dsum: the gradient of the sum itself; dx is that of x and of the residual
  r.add("addLayerNormBackward",
        "sum:... d, weight?:d, mean:..., rstd:..., dy:... d, dsum:... d -> dx:... d, dweight:d, dbias:d",
        "T T acc acc T T -> T T T | T: float")
      .with(Layout::dense)
      .with(norm_backward_workspace);
  r.add("addRmsNormBackward", "sum:... d, weight?:d, rstd:..., dy:... d, dsum:... d -> dx:... d, dweight:d",
        "T T acc T T -> T T | T: float")
      .with(Layout::dense)
      .with(norm_backward_workspace);
  r.add<ChannelNormAttrs>("channelNorm", "x:n c s, weight?:c, bias?:c -> y:n c s, mean:@rows, variance:@rows",
                          "T acc acc -> T acc acc | T: float")
      .with(Layout::dense)
      .with(channel_norm_workspace);
  r.add<ChannelNormAttrs>("channelNormBackward",
                          "x:n c s, weight?:c, mean:r, variance:r, dy:n c s -> dx:n c s, dweight:c, dbias:c",
                          "T acc acc acc T -> T acc acc | T: float")
      .with(Layout::dense)
      .with(channel_norm_workspace);
}

}  // namespace fovea
