#include "test/emulator/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "test/emulator/runtime.h"
#include "test/emulator/windows.h"

namespace fovea::emulator {
namespace {

constexpr size_t kRedZone = 512;  // before and behind a block's shared memory
constexpr int kShownWarps = 8;

// Thrown in waiting threads of a launch that has failed, so that their stacks unwind.
struct Abandoned {};

// What one host thread needs to run kernels.
class Machine {
 public:
  void run(dim3 grid, dim3 block, size_t shared, int cluster, void (*body)(const void*), const void* data);
  // The current thread stops until it is made ready.
  void wait() {
    switch_to(current->fibre->context, scheduler_);
    if (failed_) throw Abandoned();
  }
  void make_ready(Thread& thread) {
    Warp& warp = *thread.warp;
    warp.ready |= 1u << thread.lane;
    if (!warp.queued) warp.queued = true, queue_.push_back(&warp);
  }
  uint64_t random() {  // xorshift64*
    random_ ^= random_ >> 12, random_ ^= random_ << 25, random_ ^= random_ >> 27;
    return random_ * 0x2545F4914F6CDD1Du;
  }
  int wanted_capability = 0;
  int capability() const { return capability_; }  // of the launch in progress

 private:
  void prepare(dim3 block, size_t shared, int cluster);
  void reset(Block& block, uint3 index);
  void check_finished(const Block& block);
  void run_cluster();
  void run_warp(Warp& warp);
  Thread* next_lane();
  void enter(Thread& thread);
  static void fibre_body(void* machine);
  void run_thread();
  void finish_thread();
  void run_event();
  void fail_with(std::exception_ptr error);
  void fail_with(const std::string& text);
  std::string deadlock_report() const;
  void abandon();

  Cluster cluster_;
  Windows windows_;
  std::vector<Warp*> queue_;                    // warps that can go on, in no order
  std::vector<std::unique_ptr<Fibre>> fibres_;  // all there are
  std::vector<Fibre*> idle_;
  Context scheduler_;
  void (*body_)(const void*) = nullptr;
  const void* data_ = nullptr;
  uint64_t random_ = 1;
  int capability_ = 0;
  std::exception_ptr error_;
  bool failed_ = false;
  // The warp whose lanes take a step, those left to go, and their order.
  Warp* warp_ = nullptr;
  uint32_t todo_ = 0, first_lane_ = 0;
};

thread_local Machine machine;

std::string describe(const char* format, uint64_t a, uint64_t b) {
  char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
  std::snprintf(text, sizeof text, format, static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
#pragma GCC diagnostic pop
  return text;
}
std::string name_of(const Block& block) {
  char text[64];
  std::snprintf(text, sizeof text, "block (%u,%u,%u)", block.index.x, block.index.y, block.index.z);
  return text;
}

void refuse_unless(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string("the device refused the launch: ") + what);
}
void check_limits(dim3 grid, dim3 block, size_t shared, int cluster, int capability) {
  refuse_unless(grid.x > 0 && grid.y > 0 && grid.z > 0, "a grid without blocks");
  refuse_unless(grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535, "the grid is too large");
  refuse_unless(block.x > 0 && block.y > 0 && block.z > 0, "a block without threads");
  refuse_unless(block.x <= 1024 && block.y <= 1024 && block.z <= 64 && uint64_t(block.x) * block.y * block.z <= 1024,
                "the block is too large");
  refuse_unless(shared <= shared_limit_of(capability), "too much shared memory");
  refuse_unless(cluster == 1 || capability >= 90, "clusters need sm_90");
  refuse_unless(cluster >= 1 && cluster <= 8 && grid.x % unsigned(cluster) == 0,
                "the grid is no multiple of the cluster");
}

// Of the seed and the shape, so that a launch can be repeated alone, and so that different ones draw different orders.
uint64_t first_random(dim3 grid, dim3 block, size_t shared) {
  const char* seed = std::getenv("FOVEA_EMULATOR_SEED");
  uint64_t mixed = seed ? std::strtoull(seed, nullptr, 10) : 0;
  for (uint64_t each : {uint64_t(grid.x), uint64_t(grid.y), uint64_t(grid.z), uint64_t(block.x), uint64_t(block.y),
                        uint64_t(block.z), uint64_t(shared)})
    mixed = (mixed ^ each) * 0x9E3779B97F4A7C15u, mixed ^= mixed >> 29;
  return mixed | 1u;
}

void Machine::run(dim3 grid, dim3 block, size_t shared, int cluster, void (*body)(const void*), const void* data) {
  capability_ = wanted_capability ? wanted_capability : fovea::emulator::capability();
  check_limits(grid, block, shared, cluster, capability_);
  random_ = first_random(grid, block, shared);
  body_ = body, data_ = data, error_ = nullptr, failed_ = false;
  blockDim = block, gridDim = grid;
  prepare(block, shared, cluster);

  // Every cluster once, in steps that have no divisor in common with their number.
  const uint64_t columns = grid.x / unsigned(cluster), count = columns * grid.y * grid.z;
  uint64_t step = random() % count + 1, at = random() % count;
  while (std::gcd(step, count) != 1) step++;
  for (uint64_t i = 0; i < count; i++, at = (at + step) % count) {
    uint3 first = {unsigned(at % columns) * unsigned(cluster), unsigned(at / columns % grid.y),
                   unsigned(at / columns / grid.y)};
    cluster_.live = 0;
    for (auto& each : cluster_.blocks) reset(*each, {first.x + each->rank, first.y, first.z});
    run_cluster();
    for (auto& each : cluster_.blocks) check_finished(*each);
  }
  current = nullptr;
}

// Threads and warps of the blocks of one cluster; reset() makes them those of the next.
void Machine::prepare(dim3 block, size_t shared, int cluster) {
  const int threads = int(block.x * block.y * block.z), warps = (threads + kWarpSize - 1) / kWarpSize;
  cluster_.blocks.clear();
  for (int rank = 0; rank < cluster; rank++) {
    auto& made = *cluster_.blocks.emplace_back(std::make_unique<Block>());
    made.rank = uint32_t(rank), made.cluster = &cluster_, made.shared = shared;
    made.window = windows_.at(size_t(rank), size_t(cluster));
    made.warps.resize(size_t(warps));
    made.threads.reserve(size_t(threads));
    for (int i = 0; i < threads; i++) {
      uint3 index = {unsigned(i) % block.x, unsigned(i) / block.x % block.y, unsigned(i) / block.x / block.y};
      made.threads.push_back({&made, &made.warps[size_t(i / kWarpSize)], index, i, i % kWarpSize});
    }
    for (int w = 0; w < warps; w++) {
      int lanes = std::min(threads - w * kWarpSize, kWarpSize);
      made.warps[size_t(w)].first = &made.threads[size_t(w * kWarpSize)];
      made.warps[size_t(w)].all = lanes == kWarpSize ? ~0u : (1u << lanes) - 1;
    }
  }
}

void Machine::reset(Block& block, uint3 index) {
  block.index = index, block.live = int(block.threads.size());
  cluster_.live += block.live;
  for (Warp& warp : block.warps) {
    warp.live = warp.ready = warp.all, warp.collecting = 0, warp.queued = true;
    warp.products_issued = 0, warp.needs_fence = true;
    queue_.push_back(&warp);
  }
  for (Barrier& barrier : block.barriers) barrier.waiting.clear(), barrier.votes = 0;
  block.memory_barriers.clear();
  // Huge numbers in one block, NaN in another: a maximum hides one of them, a product with zero the other.
  const int poison = random() & 1 ? 0x7f : 0xff;
  std::byte* start = block.window + kSharedStart;
  ASAN_UNPOISON_MEMORY_REGION(block.window, kSharedWindow);
  std::memset(start - kRedZone, poison, block.shared + 2 * kRedZone);
  ASAN_POISON_MEMORY_REGION(block.window, kSharedStart);
  ASAN_POISON_MEMORY_REGION(start + block.shared, kSharedWindow - kSharedStart - block.shared);
}

// What must hold at the end of a block.
void Machine::check_finished(const Block& block) {
  for (size_t warp = 1; warp < block.warps.size(); warp++)
    if (block.warps[warp].products_issued != block.warps[warp / 4 * 4].products_issued)
      throw std::runtime_error(name_of(block) + ": the warps of a warpgroup issued different numbers of wgmma");
  std::byte* start = block.window + kSharedStart;
  ASAN_UNPOISON_MEMORY_REGION(block.window, kSharedWindow);
  for (std::byte* zone : {start - kRedZone, start + block.shared})
    for (size_t i = 0; i < kRedZone; i++)
      if (zone[i] != std::byte(0x7f) && zone[i] != std::byte(0xff))
        throw std::runtime_error(name_of(block) + " wrote outside of its shared memory, at byte " +
                                 std::to_string(zone + i - start) + " of " + std::to_string(block.shared));
}

// ---- the scheduler

void Machine::run_cluster() {
  // In some clusters events come late, in others not before nothing else can happen: a warp that does not wait for one
  // takes many steps until it reads what is not there, and must not be saved by them.
  constexpr uint64_t kPatience[] = {2, 16, ~uint64_t(0)};
  const uint64_t patience = kPatience[random() % 3];
  while (cluster_.live > 0 && !failed_) {
    if (!cluster_.events.empty() && (queue_.empty() || random() % patience == 0)) {
      run_event();
      continue;
    }
    if (queue_.empty()) {
      fail_with(deadlock_report());
      break;
    }
    const size_t chosen = random() % queue_.size();
    Warp* warp = queue_[chosen];
    queue_[chosen] = queue_.back();
    queue_.pop_back();
    run_warp(*warp);
  }
  if (!failed_ && !cluster_.events.empty()) fail_with("a block ended while TMA was loading into it");
  if (failed_) abandon();
}
void Machine::run_event() {
  const size_t chosen = random() % cluster_.events.size();
  Event event = std::move(cluster_.events[chosen]);
  cluster_.events.erase(cluster_.events.begin() + std::ptrdiff_t(chosen));
  enter(*event.thread);
  try {
    event.job();
  } catch (...) { fail_with(std::current_exception()); }
}
void Machine::fail_with(std::exception_ptr error) {
  if (!failed_) error_ = error;
  failed_ = true;
}
void Machine::fail_with(const std::string& text) { fail_with(std::make_exception_ptr(std::runtime_error(text))); }

// Every lane that can go on takes a step, in an order that starts anywhere.
void Machine::run_warp(Warp& warp) {
  warp.queued = false;
  warp_ = &warp, todo_ = warp.ready, first_lane_ = uint32_t(random() % kWarpSize);
  warp.ready = 0;
  while (Thread* thread = next_lane()) {
    if (!thread->fibre) {
      if (idle_.empty()) {
        fibres_.push_back(std::make_unique<Fibre>(&fibre_body, this));
        idle_.push_back(fibres_.back().get());
      }
      thread->fibre = idle_.back();
      idle_.pop_back();
    }
    enter(*thread);
    switch_to(scheduler_, thread->fibre->context);
  }
}
// Takes the next lane out of those to do; nullptr when there is none left, or no point.
Thread* Machine::next_lane() {
  if (!todo_ || failed_) return nullptr;
  uint32_t rotated = todo_ >> first_lane_ | (first_lane_ ? todo_ << (kWarpSize - first_lane_) : 0);
  uint32_t lane = (uint32_t(__builtin_ctz(rotated)) + first_lane_) % kWarpSize;
  todo_ &= ~(1u << lane);
  return warp_->first + lane;
}
void Machine::enter(Thread& thread) {
  current = &thread;
  threadIdx = thread.index, blockIdx = thread.block->index;
}

// A fibre runs threads to their end. It takes the next lane itself where that has not begun yet, so that threads that
// never wait cost no switch at all.
void Machine::fibre_body(void* data) {
  auto& self = *static_cast<Machine*>(data);
  for (;;) {
    self.run_thread();
    Fibre* fibre = current->fibre;
    current->fibre = nullptr;
    Thread* next = self.next_lane();
    if (next && !next->fibre) {
      next->fibre = fibre;
      self.enter(*next);
      continue;
    }
    if (next) self.todo_ |= 1u << next->lane;
    self.idle_.push_back(fibre);
    switch_to(fibre->context, self.scheduler_);
  }
}
void Machine::run_thread() {
  try {
    body_(data_);
    finish_thread();
  } catch (const Abandoned&) {
  } catch (...) { fail_with(std::current_exception()); }
}

void Machine::finish_thread() {
  Thread& thread = *current;
  thread.copies.finish();
  if (thread.stores.pending()) fail("the thread ends without having waited for its TMA stores");
  if (thread.warp->products.pending()) fail("the thread ends without having waited for wgmma");
  thread.block->live--, cluster_.live--;
  thread.warp->live &= ~(1u << thread.lane);
  release_after_exit(thread);
}

std::string Machine::deadlock_report() const {
  std::string text = "deadlock:";
  int shown = 0;
  for (const auto& block : cluster_.blocks)
    for (const Warp& warp : block->warps) {
      // Lanes that wait for the same reason are named together.
      for (uint32_t rest = warp.live; rest;) {
        const Thread& thread = warp.first[__builtin_ctz(rest)];
        uint32_t alike = 0;
        for (uint32_t each = rest; each; each &= each - 1) {
          const Thread& other = warp.first[__builtin_ctz(each)];
          if (other.wait_reason == thread.wait_reason) alike |= 1u << other.lane;
        }
        rest &= ~alike;
        if (shown++ >= kShownWarps) continue;
        char where[96];
        std::snprintf(where, sizeof where, " warp %d lanes %08x wait at ", thread.number / kWarpSize, alike);
        text += "\n  " + name_of(*block) + where;
        text += describe(thread.wait_reason, thread.wait_details[0], thread.wait_details[1]);
      }
    }
  if (shown > kShownWarps) text += "\n  and " + std::to_string(shown - kShownWarps) + " more";
  return text;
}

// Unwinds the stacks of all threads that wait, then throws what went wrong.
void Machine::abandon() {
  todo_ = 0;
  queue_.clear();
  cluster_.events.clear();
  for (auto& block : cluster_.blocks)
    for (Thread& thread : block->threads)
      if (thread.fibre) {
        enter(thread);
        switch_to(scheduler_, thread.fibre->context);
      }
  cluster_.blocks.clear();
  cluster_.barrier.waiting.clear();
  current = nullptr;
  std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace

void launch_body(dim3 grid, dim3 block, size_t shared, int cluster, void (*body)(const void*), const void* data) {
  if (note_launch()) machine.run(grid, block, shared, cluster, body, data);
}
void set_capability(int capability) { machine.wanted_capability = capability; }
void require_sm90(const char* what) {
  if (machine.capability() < 90) fail("%s needs sm_90, and this is sm_%d", what, machine.capability());
}
void suspend(const char* reason, uint64_t a, uint64_t b) {
  current->wait_reason = reason, current->wait_details[0] = a, current->wait_details[1] = b;
  machine.wait();
}
void wake(Thread& thread) { machine.make_ready(thread); }
uint64_t random_bits() { return machine.random(); }

}  // namespace fovea::emulator
