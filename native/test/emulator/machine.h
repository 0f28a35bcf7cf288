// The emulated device: every CUDA thread is a fibre, blocks run one after another (the blocks of a cluster together).
//
// What real hardware leaves open is drawn at random, from the seed FOVEA_EMULATOR_SEED: the order of blocks, which of
// the warps that can run goes on, the order of lanes within a warp. A thread runs until it waits for something or ends,
// so a kernel that forgets a barrier meets data that is not there yet: shared memory starts out poisoned.
//
// Everything is thread_local: host threads launch independently of each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "test/emulator/fibre.h"
#include "test/emulator/jobs.h"
#include "test/emulator/vector_types.h"

namespace fovea::emulator {

constexpr int kWarpSize = 32, kNamedBarriers = 16;
// Shared addresses as the kernel sees them: the system's own kilobyte comes first, as on sm_90.
constexpr uint32_t kSharedStart = 1024;
constexpr size_t kSharedWindow = 256u << 10;  // of addresses per block

// ---- launching

void launch_body(dim3 grid, dim3 block, size_t shared, int cluster, void (*body)(const void*), const void* data);
// Runs body() once per CUDA thread. Throws std::runtime_error for what a device would refuse, for deadlocks and for
// everything that the kernel does wrong as far as it is noticed.
template <class Body>
void launch(dim3 grid, dim3 block, size_t shared, int cluster, Body body) {
  launch_body(
      grid, block, shared, cluster, [](const void* data) { (*static_cast<const Body*>(data))(); }, &body);
}
// The architecture that launches of this host thread meet: 80, 90, ...; 0: what FOVEA_EMULATOR_CAPABILITY says.
void set_capability(int capability);

// ---- what a thread waits for

struct Thread;
struct Warp;
struct Block;
struct Cluster;
struct Accumulator;  // of wgmma, tensor_core.cc

// Threads wait until `expected` of them are there; 0: all that have not exited.
struct Barrier {
  std::vector<Thread*> waiting;
  int expected = 0;
  int votes = 0;
};

// A warp-wide operation, run once for all lanes of a mask, with what each of them brought along.
using WarpOperation = void (*)(void* const* arguments, uint32_t lanes);
struct Collective {
  const char* name;
  WarpOperation operation;
  uint32_t mask;
  void* argument;
};

struct Thread {
  Block* block;
  Warp* warp;
  uint3 index;
  int number, lane;        // within the block, within the warp
  Fibre* fibre = nullptr;  // from its first step until it ends
  // Why it waits: printf-style with up to two %llx or %lld.
  const char* wait_reason = nullptr;
  uint64_t wait_details[2] = {};
  Collective collective = {};
  int votes = 0;                // what the last barrier with a vote counted
  JobQueue copies{}, stores{};  // cp.async; TMA to global memory
};

struct Warp {
  Thread* first;        // lane 0
  uint32_t all, live;   // lanes that exist; those that have not exited
  uint32_t ready;       // lanes that can go on
  uint32_t collecting;  // lanes that wait in a collective
  bool queued;          // in the scheduler's list
  // wgmma: products in flight, what they add to, how many there were, and whether a fence must come before the next.
  JobQueue products;
  std::vector<std::shared_ptr<Accumulator>> accumulators;
  uint64_t products_issued;
  bool needs_fence;
};

// mbarrier, by its shared address: the word in shared memory only says that there is one.
struct MemoryBarrier {
  uint32_t count, pending;  // arrivals per phase, still to come in this one
  int64_t bytes;            // expected and not there yet
  uint32_t phase;           // parity of the one that has not ended
  std::vector<Thread*> waiting;
};

// Something that happens some time later, on behalf of a thread that may have ended by then.
struct Event {
  Thread* thread;
  Job job;
};

struct Block {
  uint3 index;
  uint32_t rank = 0;  // in its cluster
  Cluster* cluster;
  std::byte* window;  // shared address 0
  size_t shared;      // bytes from kSharedStart on
  int live;           // threads that have not exited
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[kNamedBarriers];
  std::map<uint32_t, MemoryBarrier> memory_barriers;
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  Barrier barrier;
  int live;
  std::vector<Event> events;
};

// ---- for the code that emulates instructions

inline thread_local constinit Thread* current = nullptr;

// The kernel did something wrong: names block and thread and ends the launch. printf-style.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Fails on an architecture without the instructions of sm_90.
void require_sm90(const char* what);
// Stops the current thread until another one wakes it.
void suspend(const char* reason, uint64_t a = 0, uint64_t b = 0);
void wake(Thread& thread);
uint64_t random_bits();

// Waits at `barrier` with all others; returns how many of them voted yes.
int arrive_and_wait(Barrier& barrier, int expected, const char* reason, uint64_t detail, bool vote = false);
// All lanes of `mask` that have not exited meet here; the last one runs `operation`.
void meet_warp(const char* name, uint32_t mask, void* argument, WarpOperation operation);
// The end of a thread may be what others wait for.
void release_after_exit(const Thread& thread);

constexpr uint32_t kAllLanes = 0xffffffffu;

std::byte* shared_memory();
// The bytes at a shared address of `block`, which must lie inside what was asked for at launch and be aligned.
std::byte* shared_bytes(const Block& block, uint32_t address, size_t bytes, size_t alignment, const char* what);
uint32_t shared_address_of(const void* pointer);

}  // namespace fovea::emulator
