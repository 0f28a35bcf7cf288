// Which instruction set the CPU kernels of this process use. Kernels are compiled once per set (cpu/table.cc); the best
// one that was compiled in and that both processor and operating system support is taken, unless the environment
// variable FOVEA_ISA names another.
#pragma once
#include <span>
#include <string_view>

#include "core/kernel.h"

namespace fovea {

struct Isa {
  const char* name;                    // "avx2", as FOVEA_ISA takes it
  const KernelEntry* const* families;  // the kernel tables, one per family, up to a nullptr

  Kernel find(std::string_view op) const;  // nullptr: no kernel of that name
};

// Whether processor and operating system can run code for this instruction set. For amx this asks Linux for the tile
// registers, which every process has to do that uses them.
bool machine_supports(std::string_view isa);

// All that were compiled in, from the plainest to the best.
std::span<const Isa> compiled_isas();

// The one in use. Throws FOVEA_ARGUMENT if FOVEA_ISA names one that is unknown or not supported here.
const Isa& current_isa();

inline const char* isa_name() { return current_isa().name; }
inline Kernel find_cpu_kernel(std::string_view op) { return current_isa().find(op); }

}  // namespace fovea
