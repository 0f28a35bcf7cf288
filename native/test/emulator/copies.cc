// Copies in the background, and the barriers in shared memory that tell when they are done.
#include <cstring>

#include "test/emulator/engines.h"

namespace fovea::emulator {
namespace {

constexpr uint32_t kSwizzlePattern = 1024;  // bytes after which the swizzle repeats
constexpr int64_t kMostBytes = (1 << 20) - 1;

// The 16-byte chunks of 128-byte rows change places: bits 4..6 of the address are xored with bits 7..9.
uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

Block& block_of_rank(uint32_t rank) {
  Cluster& cluster = *current->block->cluster;
  if (rank >= cluster.blocks.size()) fail("the cluster has no block of rank %u", rank);
  Block& block = *cluster.blocks[rank];
  if (block.live == 0) fail("shared memory of block %u of the cluster is used after that has ended", rank);
  return block;
}

// What an initialised barrier looks like in memory.
uint64_t mark_of(uint32_t address) { return 0xba221e20ba221e20u ^ address; }

MemoryBarrier& barrier_at(Block& block, uint32_t address) {
  uint64_t mark;
  std::memcpy(&mark, shared_bytes(block, address, sizeof mark, sizeof mark, "mbarrier"), sizeof mark);
  auto found = block.memory_barriers.find(address);
  if (found == block.memory_barriers.end()) fail("the mbarrier at %u is not initialised", address);
  if (mark != mark_of(address)) fail("the mbarrier at %u was overwritten", address);
  return found->second;
}
void end_phase_if_complete(MemoryBarrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  barrier.phase ^= 1, barrier.pending = barrier.count;
  for (Thread* thread : barrier.waiting) wake(*thread);
  barrier.waiting.clear();
}
void add_bytes(MemoryBarrier& barrier, int64_t bytes) {
  barrier.bytes += bytes;
  if (barrier.bytes > kMostBytes || barrier.bytes < -kMostBytes) fail("too many bytes are awaited on an mbarrier");
}
void arrive(MemoryBarrier& barrier) {
  if (!barrier.pending) fail("more arrivals on an mbarrier than the %u of a phase", barrier.count);
  barrier.pending--;
  end_phase_if_complete(barrier);
}

// Calls element(global pointer or nullptr beyond the tensor, offset in the tile) for every element of the tile.
template <class Element>
void for_each_element(const cuda::TensorMap& map, const Place& place, Element&& element) {
  uint32_t offset = 0;
  for (uint32_t w = 0; w < map.box[3]; w++)
    for (uint32_t z = 0; z < map.box[2]; z++)
      for (uint32_t y = 0; y < map.box[1]; y++)
        for (uint32_t x = 0; x < map.box[0]; x++, offset += map.element_bytes) {
          const uint32_t step[] = {x, y, z, w};
          std::byte* at = map.base;
          for (int i = 0; i < cuda::kTensorMapRank && at; i++) {
            const int64_t index = place.at[i] + step[i];
            at = index < 0 || index >= int64_t(map.sizes[i]) ? nullptr : at + index * int64_t(map.strides[i]);
          }
          element(at, offset);
        }
}
uint32_t tile_bytes(const cuda::TensorMap& map) {
  return map.box[0] * map.box[1] * map.box[2] * map.box[3] * map.element_bytes;
}

}  // namespace

// ---- cp.async

void copy_async(uint32_t to, const void* from, uint32_t bytes, bool valid) {
  std::byte* target = shared_bytes(*current->block, to, bytes, bytes, "cp.async");
  if (valid && reinterpret_cast<uintptr_t>(from) % bytes)
    fail("cp.async: the source is not aligned to %u bytes", bytes);
  auto copy = [=] {
    if (valid) std::memcpy(target, from, bytes);
    else std::memset(target, 0, bytes);
  };
  current->copies.add(copy, false);
}

// ---- mbarrier

void barrier_init(const void* barrier, uint32_t count) {
  require_sm90("mbarrier_init");
  Block& block = *current->block;
  const uint32_t address = shared_address_of(barrier);
  const uint64_t mark = mark_of(address);
  std::memcpy(shared_bytes(block, address, sizeof mark, sizeof mark, "mbarrier_init"), &mark, sizeof mark);
  if (count < 1 || count >= 1u << 20) fail("mbarrier_init: a count of %u", count);
  block.memory_barriers[address] = {count, count, 0, 0, {}};
}
void barrier_expect(const void* barrier, uint32_t bytes) {
  MemoryBarrier& expecting = barrier_at(*current->block, shared_address_of(barrier));
  add_bytes(expecting, bytes);
  arrive(expecting);
}
void barrier_arrive(const void* barrier, uint32_t rank) {
  MemoryBarrier& reached = barrier_at(block_of_rank(rank), shared_address_of(barrier));
  const bool awaited = !reached.waiting.empty();
  const uint32_t phase = reached.phase;
  arrive(reached);
  if (!awaited || reached.phase == phase) return;
  // Those who waited go first, so that an arrival too early shows.
  wake(*current);
  suspend("its turn after an arrival", 0, 0);
}
void barrier_wait(const void* barrier, uint32_t parity) {
  const uint32_t address = shared_address_of(barrier);
  MemoryBarrier& awaited = barrier_at(*current->block, address);
  while (awaited.phase == (parity & 1)) {
    awaited.waiting.push_back(current);
    suspend("the mbarrier at byte %llu for parity %llu", address - kSharedStart, parity & 1);
  }
}

// ---- TMA

void tile_load(const void* to, const cuda::TensorMap& map, const void* barrier, Place place, uint32_t blocks) {
  require_sm90("tma_load");
  const uint32_t start = shared_address_of(to), signal = shared_address_of(barrier), bytes = tile_bytes(map);
  for (uint32_t rank = 0; blocks >> rank; rank++) {
    if (!(blocks >> rank & 1)) continue;
    shared_bytes(block_of_rank(rank), start, bytes, kSwizzlePattern, "tma_load");
    auto load = [=] {
      Block& block = block_of_rank(rank);
      for_each_element(map, place, [&](const std::byte* from, uint32_t offset) {
        std::byte* target = block.window + swizzled(start + offset);
        if (from) std::memcpy(target, from, map.element_bytes);
        else std::memset(target, 0, map.element_bytes);
      });
      MemoryBarrier& complete = barrier_at(block, signal);
      add_bytes(complete, -int64_t(bytes));
      end_phase_if_complete(complete);
    };
    current->block->cluster->events.push_back({current, load});
  }
}
void tile_store(const cuda::TensorMap& map, const void* from, Place place) {
  require_sm90("tma_store");
  const uint32_t start = shared_address_of(from);
  const Block& block = *current->block;
  shared_bytes(block, start, tile_bytes(map), kSwizzlePattern, "tma_store");
  auto store = [map, start, place, &block] {
    for_each_element(map, place, [&](std::byte* target, uint32_t offset) {
      if (target) std::memcpy(target, block.window + swizzled(start + offset), map.element_bytes);
    });
  };
  current->stores.add(store, false);
}

}  // namespace fovea::emulator
