// Caching allocator in stream order. Used by one thread only: the JavaScript thread of the environment, which is also
// the only producer of the stream. A freed block serves the next op at once, although queued commands may still use it:
// whoever takes it next can only touch it through a command queued later. The exceptions are the host itself writing
// into a block (upload) and giving memory back to the source; both must first see that the stream has passed
// `freed_at`.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "core/failure.h"

namespace fovea {

struct Block {
  std::byte* data = nullptr;
  size_t size = 0;          // what was asked for: views must stay inside
  size_t bytes = 0;         // what it occupies
  uint32_t size_class = 0;  // or one of kLarge, kExternal
  uint32_t users = 0;       // slots that refer to it, and what else holds it
  uint32_t recorded = 0;    // of the users, those that are recordings (binding/recording.h)
  uint32_t lead = 0;        // bytes between the start of the mapping and `data`, first block of a segment only
  bool free = false;
  uint8_t device = 0;                         // 0: the CPU; n: GPU n - 1
  uint64_t freed_at = 0;                      // stream position when it was last freed
  uint64_t written_at = 0;                    // stream position behind the last queued command that writes it
  Block *before = nullptr, *after = nullptr;  // neighbours in memory, large blocks only
  Failure failure;              // the stream's while commands are queued: the contents could not be computed
  std::shared_ptr<void> keeps;  // memory that is not the allocator's: a mapped file, a shared storage

  static constexpr uint32_t kLarge = 0xffff, kExternal = 0xfffe;
};

// Where an allocator has its memory from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual std::byte* map(size_t bytes) = 0;  // nullptr when it does not fit under the limit
  virtual void unmap(std::byte* memory, size_t bytes) = 0;
};
// The process's own memory, under its budget.
MemorySource& process_memory();

class Allocator {
 public:
  // `stream_done` tells which position the stream has passed.
  explicit Allocator(std::function<uint64_t()> stream_done, MemorySource& source = process_memory(), uint8_t device = 0)
      : source_(source), device_(device), stream_done_(std::move(stream_done)) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // nullptr when the source has no more; the caller then sweeps, trims and finally reports it.
  Block* allocate(size_t size);
  // A block that no queued command can still use: the only kind that the host itself may write into.
  Block* allocate_idle(size_t size);
  // A block over memory that `keeps` holds. It is let go once the stream has passed the block's release.
  Block* adopt(std::byte* data, size_t size, std::shared_ptr<void> keeps);
  void release(Block* block, uint64_t stream_position);
  // Gives free large blocks that the stream is done with back to the source, and lets go of external memory.
  void trim();

  size_t live_bytes() const { return live_; }
  size_t reserved_bytes() const { return reserved_; }
  size_t peak_bytes() const { return peak_; }
  void reset_peak() { peak_ = live_; }
  void raise_peak(size_t bytes) { peak_ = std::max(peak_, bytes); }

 private:
  struct BySize {
    bool operator()(const Block* a, const Block* b) const { return a->bytes != b->bytes ? a->bytes < b->bytes : a < b; }
  };
  struct Slab {
    std::byte* address;
    size_t carved;
  };

  Block* hand_out(Block* block, size_t size);
  Block* new_header();
  void retire(Block* header);
  void drop_external();
  std::byte* map(size_t bytes);
  Block* take_small(uint32_t size_class, bool idle);
  bool refill(uint32_t size_class);
  void carve(std::byte* memory, size_t size, uint32_t size_class, uint64_t freed_at);
  Block* take_large(size_t size, bool idle);
  Block* map_segment(size_t bytes);
  void split(Block* block, size_t bytes);
  void give_back_large(Block* block);

  // Large blocks are split and merged: a size class per length of prompt would reserve twenty times what is in use.
  // Merging needs no waiting, since all is in stream order; only a header that was merged away has to wait before it is
  // used again, because queued commands still point to it.
  std::set<Block*, BySize> large_free_;
  std::deque<std::pair<uint64_t, Block*>> retired_headers_;
  std::deque<Block*> external_free_;  // in the order of freed_at

  std::unordered_map<std::byte*, size_t> mappings_;
  std::vector<Slab> slabs_;
  std::vector<std::vector<Block*>> small_free_ = std::vector<std::vector<Block*>>(64);
  std::vector<std::unique_ptr<Block>> headers_;
  std::vector<Block*> spare_headers_;
  size_t live_ = 0, reserved_ = 0, peak_ = 0;
  uint32_t segments_ = 0;
  MemorySource& source_;
  uint8_t device_;
  std::function<uint64_t()> stream_done_;
};

}  // namespace fovea
