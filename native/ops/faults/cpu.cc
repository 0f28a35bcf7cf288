// Kernels that misbehave on purpose, for the tests of failures, ordering, cancellation and sanitizers.
#include <time.h>

#include "core/kernel.h"
#include "ops/faults/attrs.h"

namespace fovea::FOVEA_ISA {
namespace {

// Fails before any work, or in some of 64 chunks.
void throws(Call& call, const ThrowAttrs& attrs) {
  if (!attrs.inChunk) call.fail("FOVEA_KERNEL_FAILED", "thrown by the kernel");
  call.parallel.for_each(64, [&](int64_t chunk, int) {
    if (chunk % 7 == 3) call.fail("FOVEA_KERNEL_FAILED", "thrown by a chunk");
  });
}

double milliseconds_now() {
  timespec now;
  timespec_get(&now, TIME_UTC);
  return double(now.tv_sec) * 1e3 + double(now.tv_nsec) * 1e-6;
}
// Copies x after spinning for a while, unless the environment goes away first.
void busy(Call& call, const BusyAttrs& attrs) {
  double until = milliseconds_now() + attrs.milliseconds;
  while (milliseconds_now() < until && !call.parallel.cancelled()) {}
  int64_t width = int64_t(bytes_of(call.out[0].dtype)), size = call.out[0].size();
  const std::byte* from = call.in[0].data;
  std::byte* to = call.out[0].data;
  for (int64_t i = 0; i < size * width; i++) to[i] = from[i];
  if (attrs.overrun) {
    for (int64_t i = 0; i < width; i++) to[size * width + i] = std::byte{0};
  }
}

}  // namespace

FOVEA_KERNELS(faults, FOVEA_KERNEL("throws", throws, ThrowAttrs), FOVEA_KERNEL("busy", busy, BusyAttrs))

}  // namespace fovea::FOVEA_ISA
