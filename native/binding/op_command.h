// The command that runs an op: how it lies in the ring, and what a failure does to what the op writes.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/gpu.h"
#include "core/registry.h"
#include "core/stream.h"

namespace fovea {

struct OpCommand;

struct OpCall {
  const Op& op;
  std::span<const View> inputs, outputs;
  const void* attrs;
  std::byte* workspace;
  GpuKernel kernel;  // nullptr: on the CPU
};

// Queues the op and gives the position behind it.
uint64_t queue_op(Stream& stream, const OpCall& call);
// Queues that the block's former contents, which may have failed, do not matter any more; gives the position behind it.
uint64_t queue_clear(Stream& stream, Block* block);

// Commands as they lie in the ring, kept so that they can be queued again, in the same order, as often as one likes,
// while the blocks that they name live.
class CommandList {
 public:
  CommandList() = default;
  ~CommandList();
  CommandList(const CommandList&) = delete;
  CommandList& operator=(const CommandList&) = delete;

  void add_op(Stream& stream, const OpCall& call);
  void add_clear(Stream& stream, Block* block);
  // Makes attributes of the newest op of that name numbers that set_numbers() gives, in the order of these calls.
  void vary(const std::string& op, std::span<const std::string> attributes);
  size_t numbers() const { return numbers_.size(); }
  void set_numbers(std::span<const double> values);
  // Finds the ops whose attributes `seed` and `offset` are those of a draw, given as seed, offset, seed, offset, ...
  void connect(std::span<const double> draws);
  // Gives the ops that connect() found the counters of draws in the same order, in which queue() then queues them.
  void redraw(std::span<const double> draws);
  void queue() const;

 private:
  struct alignas(64) Line {  // of the ring; a trivial type, so that growing moves every byte
    std::byte bytes[64];
  };
  struct Entry {
    Stream* stream;
    size_t line;
    uint32_t bytes;
    bool op;
  };
  struct Random {
    size_t entry, draw;
  };
  struct Number {
    size_t entry;
    const AttrField* field;
  };
  OpCommand& op_at(size_t entry);
  void* room(size_t bytes);
  void add(Stream& stream, size_t line, size_t bytes, bool op);

  std::vector<Line> lines_;
  std::vector<Entry> entries_;
  std::vector<Random> random_;
  std::vector<Number> numbers_;
};

// Whether the view has no elements.
bool empty_view(const View& view);
// Whether the op has nothing to write, so that its kernel is not called.
bool writes_nothing(const Op& op, std::span<const View> inputs, std::span<const View> outputs);

}  // namespace fovea
