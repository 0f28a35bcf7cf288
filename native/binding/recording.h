// The commands of one step, kept while JavaScript queues them for the first time, and queued again by replay().
//
// A recording holds every block that its commands name:
//   its inputs    copies of the caller's tensors, into which a replay copies the next ones
//   own blocks    allocated while it was made. What the step lets go meanwhile serves its further ops, never anybody
//                 else: a replay writes all of these blocks again, in the same order
//   taken ones    parameters and whatever else came from outside, or was made while the recording paused. Where nothing
//                 but recordings holds one any more, its tensor was disposed, and the recording says that it is stale
#pragma once
#include <node_api.h>

#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "binding/command_list.h"
#include "core/allocator.h"

namespace fovea {

class Recording {
 public:
  Recording(uint32_t id, std::vector<View> inputs);

  // ---- while it is made
  void add_op(Stream& stream, const OpCall& call);
  void add_clear(Stream& stream, Block* block);
  void own(Block* block) { uses_.emplace(block, Use{true, false, false}); }
  bool owns(const Block* block) const;
  // The step has let go of a block of its own; take() gives it out again. nullptr: none of about that size is there.
  void put_back(Block* block) { spare_.emplace(block->bytes, block); }
  Block* take(size_t bytes, uint8_t device);
  // Makes the view of a tensor from outside a window (windows.h).
  void add_window(View& view, int axis, const Window& window) { commands_.add_window(view, axis, window); }
  const Windows& windows() const { return commands_.windows(); }
  void refuse(const char* why) { refused_ = refused_.empty() ? why : refused_; }
  const std::string& refused() const { return refused_; }
  // As CommandList::vary.
  void vary(const std::string& op, std::span<const std::string> attributes) { commands_.vary(op, attributes); }
  void finish(std::span<const double> draws);

  // ---- afterwards
  bool stale() const;
  std::span<const View> inputs() const { return inputs_; }
  size_t draws() const { return draws_; }
  size_t numbers() const { return commands_.numbers(); }
  void set(std::span<const double> draws, std::span<const double> numbers) {
    commands_.redraw(draws), commands_.set_numbers(numbers);
  }
  // As CommandList::fit_workspaces; holds the blocks.
  void fit_workspaces(const CommandList::Larger& larger);
  // Queues everything; `position` says where the stream of a block then is, `queued` is as in CommandList.
  template <class Position>
  void queue(Position&& position, const CommandList::Queued& queued) {
    commands_.queue(queued);
    for (Block* block : written_) block->written_at = position(block);
  }

  // Lets go of all blocks: body(block) for each that may now be unused.
  template <class Body>
  void drop(Body&& body) {
    for (auto& [size, block] : spare_)
      if (!uses_[block].held) body(block);
    for (auto& [block, use] : uses_)
      if (use.held) block->users--, block->recorded--, body(block);
  }

  const uint32_t id;
  napi_ref owner = nullptr;  // weak

 private:
  struct Use {
    bool own, held, written;
  };
  void hold(Block* block, Use& use);
  void use(const View& view, bool written);

  std::vector<View> inputs_;
  CommandList commands_;
  std::unordered_map<Block*, Use> uses_;
  std::multimap<size_t, Block*> spare_;  // by bytes
  std::vector<Block*> taken_, written_;
  size_t draws_ = 0;
  std::string refused_;
};

}  // namespace fovea
