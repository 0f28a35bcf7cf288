// How the command of an op lies in the ring: header, attributes, packed views (of an op over many tensors: a pointer to
// the views). Known to those who write and run commands alone.
#pragma once
#include <cstddef>
#include <cstring>
#include <vector>

#include "binding/op_command.h"
#include "core/allocator.h"

namespace fovea {

// A view in the ring, with as many axes as it has: a full View of eight would move ten cache lines per op between the
// two cores, and that, not the work, is what queueing a small op costs.
constexpr size_t kViewHead = offsetof(View, shape);  // data, block, rank, dtype, window
inline size_t packed_bytes(const View& v) { return kViewHead + 16 * size_t(v.rank); }
inline std::byte* pack(const View& v, std::byte* to) {
  size_t axes = 8 * size_t(v.rank);
  std::memcpy(to, &v, kViewHead);
  std::memcpy(to + kViewHead, v.shape, axes);
  std::memcpy(to + kViewHead + axes, v.strides, axes);
  return to + packed_bytes(v);
}
inline const std::byte* unpack(const std::byte* from, View& v) {
  std::memcpy(static_cast<void*>(&v), from, kViewHead);
  size_t axes = 8 * size_t(v.rank);
  std::memcpy(v.shape, from + kViewHead, axes);
  std::memcpy(v.strides, from + kViewHead + axes, axes);
  return from + packed_bytes(v);
}

inline size_t attr_room(const Op& op) { return (op.attr_bytes + 7) / 8 * 8; }

struct OpCommand : Command {
  const Op* op;
  std::byte* workspace;
  std::vector<View>* many;
  uint32_t inputs, outputs;
  bool idle;   // there is nothing to write
  bool mends;  // replaces all of the tensors that it writes
  // On a GPU, between launch and retirement.
  GpuKernel kernel;
  const KernelFailure* refused;            // owned: the launch did not succeed
  const char *fault_code, *fault_message;  // of what the kernel may raise
  std::byte* attrs() { return reinterpret_cast<std::byte*>(this + 1); }
  std::byte* views() { return attrs() + attr_room(*op); }
};

// The views of a command, unpacked from the ring or on the heap.
class CommandViews {
 public:
  explicit CommandViews(OpCommand& c) : inputs_(int32_t(c.inputs)), outputs_(int32_t(c.outputs)) {
    if (c.many) {
      first_ = c.many->data();
      return;
    }
    const std::byte* at = c.views();
    for (uint32_t i = 0; i < c.inputs + c.outputs; i++) at = unpack(at, few_[i]);
    first_ = few_;
  }
  Views in() const { return {first_, inputs_}; }
  Views out() const { return {first_ + inputs_, outputs_}; }

 private:
  View few_[Registry::kMaxInputs + Registry::kMaxOutputs];
  const View* first_;
  int32_t inputs_, outputs_;
};

// What the command of a call takes, and the command itself in as many bytes.
size_t record_bytes(const OpCall& call);
void write_record(OpCommand& c, const OpCall& call);
void discard_op(Command& command);

struct ClearCommand : Command {
  Block* block;
};
void write_clear(ClearCommand& c, Block* block);

}  // namespace fovea
