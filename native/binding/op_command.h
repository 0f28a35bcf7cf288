// The command that runs an op: how it lies in the ring, and what a failure does to what the op writes.
#pragma once
#include <span>

#include "core/gpu.h"
#include "core/registry.h"
#include "core/stream.h"

namespace fovea {

struct OpCall {
  const Op& op;
  std::span<const View> inputs, outputs;
  const void* attrs;
  Block* workspace;  // or nullptr
  GpuKernel kernel;  // nullptr: on the CPU
};

// Queues the op and gives the position behind it.
uint64_t queue_op(Stream& stream, const OpCall& call);
// Queues that the block's former contents, which may have failed, do not matter any more; gives the position behind it.
uint64_t queue_clear(Stream& stream, Block* block);

// Whether the view has no elements.
bool empty_view(const View& view);
// Whether the op has nothing to write, so that its kernel is not called.
bool writes_nothing(const Op& op, std::span<const View> inputs, std::span<const View> outputs);

}  // namespace fovea
