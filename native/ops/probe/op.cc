// The machine's limits, measured through the same threads and instruction set as every kernel, so that a benchmark can
// put its figures beside them in one run. Not reachable from the public API.
//   fmaProbe: y[c] depends on rounds * kProbeFlops multiply-adds in registers, for each of `chunks` chunks
//   bf16Probe: the same for products of bfloat16, by the instructions that the set has for them, else by converting
//   int8Probe: the same with products of bytes, summed in int32
//   copyProbe: y = x with stores that bypass the cache
//   readProbe: y[c] = the sum of a chunk of x, which is read in one place or in several in turn
#include "core/registry.h"
#include "ops/families.h"
#include "ops/probe/attrs.h"

namespace fovea {

void declare_probe(Registry& r) {
  r.add<ProbeAttrs>("fmaProbe", "x: -> y:@chunks", "float32 -> float32");
  r.add("fmaProbeFlops", "x: -> y:", "float32 -> float32");  // floating-point operations of one round of one chunk
  r.add<ProbeAttrs>("bf16Probe", "x: -> y:@chunks", "float32 -> float32");
  r.add("bf16ProbeFlops", "x: -> y:", "float32 -> float32");
  r.add<ProbeAttrs>("int8Probe", "x: -> y:@chunks", "float32 -> float32");
  r.add("int8ProbeFlops", "x: -> y:", "float32 -> float32");  // multiplications and additions, likewise
  r.add("copyProbe", "x:n -> y:n", "float32 -> float32").with(Layout::dense);
  r.add<ReadProbeAttrs>("readProbe", "x:n -> y:@chunks", "float32 -> float32").with(Layout::dense);
}

}  // namespace fovea
