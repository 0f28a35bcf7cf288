// The kernels of this family that have files of their own.
#pragma once
#include "core/kernel.h"
#include "ops/conv/attrs.h"

namespace fovea::FOVEA_ISA {

void conv_weight(Call& call, const ConvAttrs& attrs);  // cpu_weight.cc
void unfold(Call& call, const ConvAttrs& attrs);       // cpu_unfold.cc
void fold(Call& call, const ConvAttrs& attrs);

}  // namespace fovea::FOVEA_ISA
