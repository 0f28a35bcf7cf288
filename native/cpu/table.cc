// The kernels of one instruction set: compiled once per set with -DFOVEA_ISA=isa_<name>.
#include "core/kernel.h"
#include "ops/families.h"

namespace fovea::FOVEA_ISA {

#define FOVEA_DECLARE_TABLE(family) extern const KernelEntry family##_kernels[];
FOVEA_FAMILIES(FOVEA_DECLARE_TABLE)
#undef FOVEA_DECLARE_TABLE

extern const KernelEntry* const families[];
#define FOVEA_TABLE(family) family##_kernels,
const KernelEntry* const families[] = {FOVEA_FAMILIES(FOVEA_TABLE) nullptr};
#undef FOVEA_TABLE

}  // namespace fovea::FOVEA_ISA
