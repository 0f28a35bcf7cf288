// The kernels of one instruction set: compiled once per set with -DFOVEA_ISA=isa_<name>. A set that adds instructions
// for a few families (those of FOVEA_OWN_FAMILIES) takes the others from the set FOVEA_BASE_ISA, which is built beside
// it: the first kernel of a name counts.
#include "core/kernel.h"
#include "ops/families.h"

#define FOVEA_DECLARE_TABLE(family) extern const KernelEntry family##_kernels[];

#if defined(__AMX_TILE__)
#define FOVEA_OWN_FAMILIES FOVEA_AMX_FAMILIES
#define FOVEA_BASE_ISA isa_avx512bf16
namespace fovea::FOVEA_BASE_ISA {
FOVEA_FAMILIES(FOVEA_DECLARE_TABLE)
}
#define FOVEA_BASE_TABLE(family) FOVEA_BASE_ISA::family##_kernels,
#else
#define FOVEA_OWN_FAMILIES FOVEA_FAMILIES
#endif

namespace fovea::FOVEA_ISA {

FOVEA_OWN_FAMILIES(FOVEA_DECLARE_TABLE)

extern const KernelEntry* const families[];
#define FOVEA_TABLE(family) family##_kernels,
const KernelEntry* const families[] = {FOVEA_OWN_FAMILIES(FOVEA_TABLE)
#if defined(FOVEA_BASE_ISA)
                                           FOVEA_FAMILIES(FOVEA_BASE_TABLE)
#endif
                                               nullptr};

}  // namespace fovea::FOVEA_ISA
