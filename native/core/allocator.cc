#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <iterator>

#include "core/budget.h"

namespace fovea {
namespace {

constexpr size_t kSmallest = 64, kSlab = 8u << 20, kHugePage = 2u << 20;
constexpr size_t kSegment = 34u << 20;    // two tensors of 16 MB, each a little longer than that
constexpr size_t kLargest = 64u << 10;    // of the size classes; above: best fit in segments, split and merged
constexpr size_t kRunAhead = 128u << 20;  // reserved memory up to which an upload takes fresh memory rather than wait
// Five cache lines: tensors of 2^k bytes would otherwise all begin in the same sets of the caches.
constexpr size_t kStagger = 320, kPage = 4096;

size_t round_up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

// Four classes per doubling, at most 25 % waste: 64, 80, 96, 112, 128, 160, ... before rounding to cache lines.
[[maybe_unused]] uint32_t class_of(size_t bytes) {
  if (bytes <= kSmallest) return 0;
  int power = 63 - std::countl_zero(bytes - 1);  // 2^power < bytes <= 2^(power+1)
  size_t quarter = (bytes - 1 - (size_t(1) << power)) >> (power - 2);
  return uint32_t((power - 6) * 4) + uint32_t(quarter) + 1;
}
[[maybe_unused]] size_t bytes_of_class(uint32_t size_class) {
  size_t power = size_class / 4 + 6, quarter = size_class % 4;
  return round_up((size_t(1) << power) + (quarter << (power - 2)), kSmallest);
}

class ProcessMemory final : public MemorySource {
 public:
#if defined(FOVEA_MALLOC_BLOCKS)
  std::byte* map(size_t bytes) override {
    if (!Budget::process().take(bytes)) return nullptr;
    auto* memory = static_cast<std::byte*>(std::malloc(bytes));
    if (!memory) Budget::process().give_back(bytes);
    return memory;
  }
  void unmap(std::byte* memory, size_t bytes) override {
    std::free(memory);
    Budget::process().give_back(bytes);
  }
#else
  std::byte* map(size_t bytes) override { return map_pages(bytes); }
  void unmap(std::byte* memory, size_t bytes) override { unmap_pages(memory, bytes); }
#endif
};

// The fault that proves the run of the thread sanitizer (scripts/sanitize.mjs): the host writes while the stream reads.
[[maybe_unused]] bool plant_race() {
#if defined(__SANITIZE_THREAD__)
  static const bool planted = std::getenv("FOVEA_PLANT_RACE") != nullptr;
  return planted;
#else
  return false;
#endif
}

}  // namespace

MemorySource& process_memory() {
  static ProcessMemory& memory = *new ProcessMemory;  // never destroyed: process.exit() runs destructors of statics
  return memory;
}

Block* Allocator::new_header() {
  if (!retired_headers_.empty() && retired_headers_.front().first <= stream_done_()) {
    spare_headers_.push_back(retired_headers_.front().second);
    retired_headers_.pop_front();
  }
  Block* block = nullptr;
  if (spare_headers_.empty()) {
    block = headers_.emplace_back(std::make_unique<Block>()).get();
  } else {
    block = spare_headers_.back();
    spare_headers_.pop_back();
    *block = Block{};
  }
  block->device = device_;
  return block;
}

void Allocator::retire(Block* header) { retired_headers_.push_back({header->freed_at, header}); }

Block* Allocator::hand_out(Block* block, size_t size) {
  block->size = size, block->written_at = 0, block->free = false;
  live_ += block->bytes;
  peak_ = std::max(peak_, live_);
  return block;
}

// ---- memory that belongs to somebody else

Block* Allocator::adopt(std::byte* data, size_t size, std::shared_ptr<void> keeps) {
  drop_external();
  Block* block = new_header();
  block->data = data, block->size = block->bytes = size, block->size_class = Block::kExternal;
  block->keeps = std::move(keeps);
  return block;
}

void Allocator::drop_external() {
  uint64_t done = external_free_.empty() ? 0 : stream_done_();
  for (; !external_free_.empty() && external_free_.front()->freed_at <= done; external_free_.pop_front()) {
    external_free_.front()->keeps.reset();
    retire(external_free_.front());
  }
}

#ifdef FOVEA_MALLOC_BLOCKS
// A sanitizer cannot see inside arenas: here every block is a malloc of its exact size, so that one byte too far is
// reported, and it is freed once the stream is past it.
Block* Allocator::allocate(size_t size) {
  drop_external();
  auto& waiting = small_free_[0];
  std::erase_if(waiting, [&](Block* block) {
    if (block->freed_at > stream_done_()) return false;
    source_.unmap(block->data, block->bytes);
    reserved_ -= block->bytes;
    block->data = nullptr;
    retire(block);
    return true;
  });
  std::byte* memory = source_.map(size);
  if (!memory) return nullptr;
  Block* block = new_header();
  block->data = memory, block->bytes = size;
  reserved_ += size;
  return hand_out(block, size);
}
Block* Allocator::allocate_idle(size_t size) { return allocate(size); }
void Allocator::release(Block* block, uint64_t stream_position) {
  block->freed_at = stream_position, block->free = true;
  if (block->size_class == Block::kExternal) return external_free_.push_back(block), drop_external();
  live_ -= block->bytes;
  small_free_[0].push_back(block);
}
void Allocator::trim() { drop_external(); }
Allocator::~Allocator() {
  for (auto& header : headers_)
    if (header->size_class != Block::kExternal && header->data) source_.unmap(header->data, header->bytes);
}
#else

Block* Allocator::allocate(size_t size) {
  Block* block = size > kLargest ? take_large(size, false) : take_small(class_of(size), false);
  return block ? hand_out(block, size) : nullptr;
}
Block* Allocator::allocate_idle(size_t size) {
  Block* block = size > kLargest ? take_large(size, true) : take_small(class_of(size), true);
  return block ? hand_out(block, size) : nullptr;
}

void Allocator::release(Block* block, uint64_t stream_position) {
  block->freed_at = stream_position;
  if (block->size_class == Block::kExternal) return external_free_.push_back(block), drop_external();
  live_ -= block->bytes;
  if (block->size_class == Block::kLarge) give_back_large(block);
  else small_free_[block->size_class].push_back(block);
}

std::byte* Allocator::map(size_t bytes) {
  std::byte* address = source_.map(bytes);
  if (address) reserved_ += bytes, mappings_.emplace(address, bytes);
  return address;
}

// ---- small blocks

Block* Allocator::take_small(uint32_t size_class, bool idle) {
  auto& list = small_free_[size_class];
  auto found = list.end();
  if (!idle) {
    if (!list.empty()) found = list.end() - 1;  // last freed, first used: it is the one still in cache
  } else {
    // The oldest are the likeliest to be idle; failing those, memory that was never used.
    constexpr ptrdiff_t kTries = 8;
    uint64_t done = stream_done_();
    auto stop = list.begin() + std::min<ptrdiff_t>(kTries, std::ssize(list));
    for (auto it = list.begin(); it != stop && found == list.end(); ++it) {
      if ((*it)->freed_at <= done || plant_race()) found = it;
    }
  }
  if (found == list.end()) {
    if (!refill(size_class)) return nullptr;
    found = list.end() - 1;
  }
  Block* block = *found;
  list.erase(found);
  return block;
}

// 64 KB at a time, so that a rarely used class does not claim a slab for itself.
bool Allocator::refill(uint32_t size_class) {
  size_t bytes = bytes_of_class(size_class), want = std::max(bytes, kLargest);
  if (slabs_.empty() || slabs_.back().carved + want > kSlab) {
    if (std::byte* memory = map(kSlab)) {
      slabs_.push_back({memory, 0});
    } else if (large_free_.empty()) {
      return false;
    } else {  // what is free among the large blocks serves as well; it stays with the small ones then
      Block* part = take_large(want, false);
      if (!part) return false;
      carve(part->data, part->bytes, size_class, part->freed_at);
      return true;
    }
  }
  Slab& slab = slabs_.back();
  carve(slab.address + slab.carved, want, size_class, 0);
  slab.carved += want;
  return true;
}

void Allocator::carve(std::byte* memory, size_t size, uint32_t size_class, uint64_t freed_at) {
  size_t bytes = bytes_of_class(size_class);
  for (size_t offset = 0; offset + bytes <= size; offset += bytes) {
    Block* block = new_header();
    block->data = memory + offset, block->bytes = bytes, block->size_class = size_class, block->freed_at = freed_at;
    small_free_[size_class].push_back(block);
  }
}

// ---- large blocks

Block* Allocator::map_segment(size_t bytes) {
  size_t lead = segments_++ % 12 * kStagger, whole = round_up(bytes + lead, kHugePage);
  size_t mapped = std::max(kSegment, whole);
  std::byte* memory = map(mapped);
  if (!memory && mapped > whole) memory = map(mapped = whole);  // close to the limit: no more than is needed
  if (!memory) return nullptr;
  Block* block = new_header();
  block->data = memory + lead, block->bytes = mapped - lead, block->lead = uint32_t(lead),
  block->size_class = Block::kLarge;
  return block;
}

Block* Allocator::take_large(size_t size, bool idle) {
  size_t bytes = round_up(size, kPage) + kStagger;
  Block key;
  key.bytes = bytes;
  uint64_t done = stream_done_();
  auto found = large_free_.lower_bound(&key);
  bool fits_later = found != large_free_.end();
  while (idle && found != large_free_.end() && (*found)->freed_at > done) ++found;
  // Uploads in a loop that runs ahead of the stream would otherwise take fresh memory for ever.
  if (idle && fits_later && found == large_free_.end() && reserved_ >= kRunAhead) return nullptr;
  Block* block = nullptr;
  if (found != large_free_.end()) {
    block = *found;
    large_free_.erase(found);
  } else if (!(block = map_segment(bytes))) {
    return nullptr;
  }
  if (block->bytes >= bytes + kLargest) split(block, bytes);
  return block;
}

void Allocator::split(Block* block, size_t bytes) {
  Block* rest = new_header();
  rest->data = block->data + bytes, rest->bytes = block->bytes - bytes, rest->size_class = Block::kLarge;
  rest->freed_at = block->freed_at, rest->free = true;
  rest->before = block, rest->after = block->after;
  if (rest->after) rest->after->before = rest;
  block->after = rest, block->bytes = bytes;
  large_free_.insert(rest);
}

void Allocator::give_back_large(Block* block) {
  auto absorb = [&](Block* left, Block* right) {  // neighbours, both free or being freed
    left->bytes += right->bytes, left->freed_at = std::max(left->freed_at, right->freed_at);
    left->after = right->after;
    if (left->after) left->after->before = left;
    right->freed_at = left->freed_at;
    retire(right);
  };
  if (Block* right = block->after; right && right->free) large_free_.erase(right), absorb(block, right);
  if (Block* left = block->before; left && left->free) large_free_.erase(left), absorb(left, block), block = left;
  block->free = true;
  large_free_.insert(block);
}

void Allocator::trim() {
  drop_external();
  uint64_t done = stream_done_();
  std::erase_if(large_free_, [&](Block* block) {
    if (block->before || block->after || block->freed_at > done) return false;  // only whole segments
    std::byte* address = block->data - block->lead;
    size_t bytes = mappings_.at(address);
    source_.unmap(address, bytes);
    mappings_.erase(address);
    reserved_ -= bytes;
    block->data = nullptr;
    retire(block);
    return true;
  });
}

Allocator::~Allocator() {
  for (auto [address, bytes] : mappings_) source_.unmap(address, bytes);
}
#endif

}  // namespace fovea
