// Slot table: what an integer handle in JavaScript refers to. A handle is generation << 20 | slot, always a small
// integer for V8 (no heap number). Only the JavaScript thread of the environment touches it.
#pragma once
#include <node_api.h>

#include <vector>

#include "core/allocator.h"
#include "core/check.h"
#include "core/view.h"

namespace fovea {

struct Slot {
  View view;
  napi_ref owner = nullptr;  // weak: the JavaScript object that holds the handle
  uint32_t generation = 1;
};

class SlotTable {
 public:
  static constexpr uint32_t kSlotBits = 20, kGenerations = 1u << 11, kMaxSlots = 1u << kSlotBits;

  Slot& at(int32_t handle) {
    uint32_t index = uint32_t(handle) & (kMaxSlots - 1), generation = uint32_t(handle) >> kSlotBits;
    if (handle <= 0 || index >= slots_.size() || slots_[index].generation != generation ||
        !slots_[index].view.present())
      refuse(handle);
    return slots_[index];
  }

  int32_t add(const View& view, napi_ref owner) {
    uint32_t index;
    if (free_.empty()) {
      index = uint32_t(slots_.size());
      slots_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    slots_[index].view = view, slots_[index].owner = owner;
    view.block->users++;
    return handle_of(index);
  }

  // Empties the slot and returns its block, whose `users` the caller has to look at.
  Block* remove(int32_t handle) {
    Slot& slot = at(handle);
    Block* block = slot.view.block;
    slot.view.block = nullptr, slot.owner = nullptr;
    slot.generation = slot.generation % (kGenerations - 1) + 1;  // 1 .. 2047: a handle is never 0 and never negative
    free_.push_back(uint32_t(&slot - slots_.data()));
    block->users--;
    return block;
  }

  // Views show no windows any more (windows.h).
  void forget_windows() {
    for (Slot& slot : slots_) slot.view.window = 0, slot.view.grows = 0;
  }

  int32_t handle_of(uint32_t index) const { return int32_t(slots_[index].generation << kSlotBits | index); }
  const std::vector<Slot>& all() const { return slots_; }
  size_t live() const { return slots_.size() - free_.size(); }
  bool full() const { return live() >= kMaxSlots; }

 private:
  [[noreturn]] __attribute__((noinline)) static void refuse(int32_t handle) {
    fail("FOVEA_DISPOSED", "tensor: handle ", handle,
         " was disposed or belongs to another thread; keep the tensor with keep(), or share() it with other threads");
  }
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace fovea
