// Barriers, warp-wide meetings and shared addresses: what the emulated instructions are made of.
#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "test/emulator/machine.h"

namespace fovea::emulator {
namespace {

void release(Barrier& barrier) {
  for (Thread* thread : barrier.waiting) thread->votes = barrier.votes, wake(*thread);
  barrier.waiting.clear();
  barrier.votes = 0;
}
void release_if_all(Barrier& barrier, int live) {
  if (!barrier.waiting.empty() && barrier.expected == 0 && int(barrier.waiting.size()) == live) release(barrier);
}

// Runs the operation if every lane it needs is there, and lets them go.
bool collect(Warp& warp, const Collective& collective) {
  const uint32_t lanes = collective.mask & warp.live;
  if ((warp.collecting & lanes) != lanes) return false;
  void* arguments[kWarpSize] = {};
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const Thread& thread = warp.first[__builtin_ctz(rest)];
    if (thread.collective.operation != collective.operation || thread.collective.mask != collective.mask) return false;
    arguments[thread.lane] = thread.collective.argument;
  }
  if (collective.operation) collective.operation(arguments, lanes);
  warp.collecting &= ~lanes;
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    Thread& thread = warp.first[__builtin_ctz(rest)];
    if (&thread != current) wake(thread);
  }
  return true;
}

}  // namespace

void fail(const char* format, ...) {
  char text[512], where[128];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof text, format, list);
  va_end(list);
  const uint3 &b = current->block->index, &t = current->index;
  std::snprintf(where, sizeof where, "block (%u,%u,%u) thread (%u,%u,%u): ", b.x, b.y, b.z, t.x, t.y, t.z);
  throw std::runtime_error(std::string(where) + text);
}

int arrive_and_wait(Barrier& barrier, int expected, const char* reason, uint64_t detail, bool vote) {
  if (!barrier.waiting.empty() && barrier.expected != expected)
    fail("barrier %llu is used with %d and with %d threads", static_cast<unsigned long long>(detail), expected,
         barrier.expected);
  barrier.expected = expected;
  barrier.votes += vote;
  const Block& block = *current->block;
  const int needed = expected ? expected : &barrier == &block.cluster->barrier ? block.cluster->live : block.live;
  if (int(barrier.waiting.size()) + 1 < needed) {
    barrier.waiting.push_back(current);
    suspend(reason, detail);
    return current->votes;
  }
  const int votes = barrier.votes;
  release(barrier);
  return votes;
}

void meet_warp(const char* name, uint32_t mask, void* argument, WarpOperation operation) {
  Thread& self = *current;
  Warp& warp = *self.warp;
  const uint32_t own = 1u << self.lane;
  if (!(mask & own)) fail("%s: the mask %08x lacks the calling lane %d", name, mask, self.lane);
  for (uint32_t rest = warp.collecting & mask; rest; rest &= rest - 1) {
    const Collective& other = warp.first[__builtin_ctz(rest)].collective;
    if ((other.mask & own) && (other.mask != mask || other.operation != operation))
      fail("%s with mask %08x meets %s with mask %08x of lane %d", name, mask, other.name, other.mask,
           __builtin_ctz(rest));
  }
  self.collective = {name, operation, mask, argument};
  warp.collecting |= own;
  if (!collect(warp, self.collective)) suspend(name, mask);
}

void release_after_exit(const Thread& thread) {
  Block& block = *thread.block;
  Warp& warp = *thread.warp;
  for (Barrier& barrier : block.barriers) release_if_all(barrier, block.live);
  release_if_all(block.cluster->barrier, block.cluster->live);
  for (uint32_t rest = warp.collecting; rest; rest &= warp.collecting & (rest - 1))
    collect(warp, warp.first[__builtin_ctz(rest)].collective);
}

std::byte* shared_memory() { return current->block->window + kSharedStart; }
std::byte* shared_bytes(const Block& block, uint32_t address, size_t bytes, size_t alignment, const char* what) {
  if (address < kSharedStart || address + bytes > kSharedStart + block.shared)
    fail("%s: byte %lld is outside of the block's %zu bytes of shared memory", what,
         static_cast<long long>(address) - kSharedStart, block.shared);
  if (address % alignment) fail("%s: shared address %u is not aligned to %zu bytes", what, address, alignment);
  return block.window + address;
}
uint32_t shared_address_of(const void* pointer) {
  const auto at = reinterpret_cast<uintptr_t>(pointer), window = reinterpret_cast<uintptr_t>(current->block->window);
  if (at < window || at >= window + kSharedWindow) fail("a pointer that is none to the block's shared memory");
  return uint32_t(at - window);
}

// ---- jobs

void JobQueue::add(Job job, bool ordered) {
  if (random_bits() & 1 && !(ordered && deferred_)) return job();
  deferred_++;
  open_.push_back(std::move(job));
}
void JobQueue::commit() {
  committed_.push_back(std::move(open_));
  open_.clear();
}
void JobQueue::wait(size_t groups) {
  if (committed_.size() <= groups) return;
  const size_t due = committed_.size() - groups;
  for (size_t group = 0; group < due; group++)
    for (Job& job : committed_[group]) job(), deferred_--;
  committed_.erase(committed_.begin(), committed_.begin() + std::ptrdiff_t(due));
}
void JobQueue::finish() {
  if (!pending()) return;
  commit();
  wait(0);
}

}  // namespace fovea::emulator
