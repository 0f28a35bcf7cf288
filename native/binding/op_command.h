// The command that runs an op: how it lies in the ring, and what a failure does to what the op writes.
#pragma once
#include <span>
#include <vector>

#include "core/gpu.h"
#include "core/registry.h"
#include "core/stream.h"

namespace fovea {

struct OpCall {
  const Op& op;
  std::span<const View> inputs, outputs;
  const void* attrs;
  std::byte* workspace;
  GpuKernel kernel;  // nullptr: on the CPU
};

// Queues the op and gives the position behind it.
uint64_t queue_op(Stream& stream, const OpCall& call);

// Whether the view has no elements.
bool empty_view(const View& view);
// Whether the op has nothing to write, so that its kernel is not called.
bool writes_nothing(const Op& op, std::span<const View> inputs, std::span<const View> outputs);

}  // namespace fovea
