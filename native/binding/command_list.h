// Commands as they lie in the ring, kept so that they can be queued again, in the same order, as often as one likes,
// while the blocks that they name live. What differs from one time to the next:
//   numbers    attributes of ops, and windows (windows.h), in the order in which they were asked for
//   counters   of random numbers
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "binding/op_command.h"
#include "binding/windows.h"

namespace fovea {

struct OpCommand;

class CommandList {
 public:
  CommandList() = default;
  ~CommandList();
  CommandList(const CommandList&) = delete;
  CommandList& operator=(const CommandList&) = delete;

  void add_op(Stream& stream, const OpCall& call);
  void add_clear(Stream& stream, Block* block);

  // Makes attributes of the newest op of that name numbers.
  void vary(const std::string& op, std::span<const std::string> attributes);
  // Makes the view a window, whose place or length is a number.
  void add_window(View& view, int axis, const Window& window);
  const Windows& windows() const { return windows_; }
  size_t numbers() const { return numbers_.size(); }
  // Throws FOVEA_ARGUMENT for a number that its attribute or window cannot take.
  void set_numbers(std::span<const double> values);

  // Finds the ops whose attributes `seed` and `offset` are those of a draw, given as seed, offset, seed, offset, ...
  void connect(std::span<const double> draws);
  // Gives the ops that connect() found the counters of draws in the same order.
  void redraw(std::span<const double> draws);

  // Ops whose inputs grow may need a larger workspace: `larger` gets the bytes that one has and gives another, or
  // nullptr.
  using Larger = std::function<Block*(const Op& op, Views in, Views out, const void* attrs, size_t bytes)>;
  void fit_workspaces(const Larger& larger);

  // `queued`, if there is one, gets each op behind its command; `begin` is when that began (clock_ns).
  using Queued = std::function<void(const Stream& stream, const OpCall& call, int64_t begin, uint64_t position)>;
  void queue(const Queued& queued = nullptr);

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
    size_t entry;            // of an attribute's op
    const AttrField* field;  // nullptr: of a window
    uint16_t window;
  };
  // A view of an op that is a window.
  struct Placed {
    size_t entry, at;  // where it lies, in bytes from the start of the command
    View view;         // as it was recorded
  };
  struct Grown {
    size_t entry, bytes;  // of its workspace
  };
  OpCommand& op_at(size_t entry);
  void* room(size_t bytes);
  void add(Stream& stream, size_t line, size_t bytes, bool op);
  void note_windows(const OpCall& call);
  void place_windows();
  void tell(const Queued& queued, size_t entry, int64_t begin, uint64_t position);

  std::vector<Line> lines_;
  std::vector<Entry> entries_;
  std::vector<Random> random_;
  std::vector<Number> numbers_;
  Windows windows_;
  std::vector<Placed> placed_;
  std::vector<Grown> grown_;
};

}  // namespace fovea
