// The kernels of cpu_channels.cc.
#pragma once
#include "core/kernel.h"
#include "ops/norm/attrs.h"

namespace fovea::FOVEA_ISA {

void channel_norm(Call& call, const ChannelNormAttrs& attrs);
void channel_norm_backward(Call& call, const ChannelNormAttrs& attrs);

}  // namespace fovea::FOVEA_ISA
