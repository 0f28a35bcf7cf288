// The choice of instruction set, made once per process. The build defines FOVEA_HAVE_<name> for what it compiled.
#include <cstdlib>
#include <string>

#include "core/check.h"
#include "cpu/isa.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fovea {

#ifdef FOVEA_HAVE_baseline
namespace isa_baseline {
extern const KernelEntry* const families[];
}
#endif
#ifdef FOVEA_HAVE_avx2
namespace isa_avx2 {
extern const KernelEntry* const families[];
}
#endif
#ifdef FOVEA_HAVE_avx512
namespace isa_avx512 {
extern const KernelEntry* const families[];
}
#endif
#ifdef FOVEA_HAVE_avx512bf16
namespace isa_avx512bf16 {
extern const KernelEntry* const families[];
}
#endif
#ifdef FOVEA_HAVE_amx
namespace isa_amx {
extern const KernelEntry* const families[];
}
#endif
#ifdef FOVEA_HAVE_neon
namespace isa_neon {
extern const KernelEntry* const families[];
}
#endif
#ifdef FOVEA_HAVE_neonbf16
namespace isa_neonbf16 {
extern const KernelEntry* const families[];
}
#endif

namespace {

// The processor has it and the operating system saves its registers.
#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt") &&
         __builtin_cpu_supports("movbe");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
bool has_amx() {
#if defined(__linux__)
  if (!has_avx512_bf16() || !__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16") ||
      !__builtin_cpu_supports("amx-int8"))
    return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, Documentation/x86/xstate.rst
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}
#elif defined(__aarch64__)
// Dot products, half precision arithmetic and bfloat16 matrix instructions.
bool has_neon_bf16() {
#if defined(__linux__)
  constexpr unsigned long kAsimdHalf = 1ul << 10,
                          kAsimdDot = 1ul << 20;  // AT_HWCAP, arch/arm64/include/uapi/asm/hwcap.h
  constexpr unsigned long kBf16 = 1ul << 14;      // AT_HWCAP2
  unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  return (first & kAsimdHalf) && (first & kAsimdDot) && (second & kBf16);
#elif defined(__APPLE__)
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &value, &size, nullptr, 0) == 0 && value;
#else
  return false;
#endif
}
#endif

std::string supported_names() {
  std::string names;
  for (const Isa& isa : compiled_isas())
    if (machine_supports(isa.name)) names += (names.empty() ? "" : ", ") + std::string(isa.name);
  return names;
}

// Whether a set is worth taking of itself. Intel's vdpbf16ps multiplies pairs at half the speed at which their values
// are multiplied as float32 (measured: 120 GFLOP/s a core, where float32 has 245); AMX makes up for
// it, and AMD's is as fast as one would expect.
bool pays_off(std::string_view isa) {
#if defined(__x86_64__)
  return isa != "avx512bf16" || !__builtin_cpu_is("intel");
#else
  return !isa.empty();
#endif
}

const Isa& choose() {
  const Isa* best = nullptr;
  const char* wanted = std::getenv("FOVEA_ISA");
  if (wanted && !*wanted) wanted = nullptr;
  for (const Isa& isa : compiled_isas())
    if (machine_supports(isa.name) && (wanted ? std::string_view(wanted) == isa.name : pays_off(isa.name))) best = &isa;
  if (!best)
    fail("FOVEA_ARGUMENT", "FOVEA_ISA is \"", wanted ? wanted : "", "\"; expected one of ", supported_names(),
         ", or unset it to use the best");
  return *best;
}

}  // namespace

std::span<const Isa> compiled_isas() {
  static const Isa isas[] = {
#ifdef FOVEA_HAVE_baseline
      {"baseline", isa_baseline::families},
#endif
#ifdef FOVEA_HAVE_avx2
      {"avx2", isa_avx2::families},
#endif
#ifdef FOVEA_HAVE_avx512
      {"avx512", isa_avx512::families},
#endif
#ifdef FOVEA_HAVE_avx512bf16
      {"avx512bf16", isa_avx512bf16::families},
#endif
#ifdef FOVEA_HAVE_amx
      {"amx", isa_amx::families},
#endif
#ifdef FOVEA_HAVE_neon
      {"neon", isa_neon::families},
#endif
#ifdef FOVEA_HAVE_neonbf16
      {"neonbf16", isa_neonbf16::families},
#endif
      {nullptr, nullptr},
  };
  return {isas, sizeof isas / sizeof *isas - 1};
}

bool machine_supports(std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "avx2") return has_avx2();
  if (isa == "avx512") return has_avx512();
  if (isa == "avx512bf16") return has_avx512_bf16();
  if (isa == "amx") return has_amx();
  return isa == "baseline";
#elif defined(__aarch64__)
  return isa == "neonbf16" ? has_neon_bf16() : isa == "neon";
#else
  return false;
#endif
}

const Isa& current_isa() {
  static const Isa& chosen = choose();
  return chosen;
}

Kernel Isa::find(std::string_view op) const {
  for (const KernelEntry* const* family = families; *family; family++)
    for (const KernelEntry* entry = *family; entry->name; entry++)
      if (op == entry->name) return entry->kernel;
  return nullptr;
}

}  // namespace fovea
