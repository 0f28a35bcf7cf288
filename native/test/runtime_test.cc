// The runtime without Node: thread pool, stream, allocator, shared storage, overlap of views.
#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/budget.h"
#include "core/cpu_stream.h"
#include "core/machine.h"
#include "core/overlap.h"
#include "core/shared_storage.h"
#include "cpu/thread_pool.h"
#include "test/harness.h"

namespace fovea {
namespace {

using test::code_of;

View view_of(std::byte* data, Dtype dtype, std::initializer_list<int64_t> shape,
             std::initializer_list<int64_t> strides) {
  View v;
  v.data = data, v.dtype = dtype, v.rank = int(shape.size());
  std::copy(shape.begin(), shape.end(), v.shape);
  std::copy(strides.begin(), strides.end(), v.strides);
  return v;
}

// ---- thread pool

FOVEA_TEST(pool_runs_every_chunk_once_for_several_lanes_at_once) {
  auto pool = std::make_shared<ThreadPool>(4);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; c++) {
    callers.emplace_back([&, c] {
      Lane lane(pool);
      for (int round = 0; round < 300; round++) {
        int64_t count = 1 + (round * 7 + c) % 97;
        std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
        lane.for_each(count, [&](int64_t chunk, int thread) {
          if (thread < 0 || thread >= lane.threads()) wrong++;
          hits[size_t(chunk)]++;
        });
        for (auto& h : hits) wrong += h != 1;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  FOVEA_CHECK(wrong == 0, "%d chunks were lost, doubled or misnumbered", wrong.load());
}

FOVEA_TEST(pool_scratch_numbers_are_never_used_twice_at_once) {
  auto pool = std::make_shared<ThreadPool>(4);
  Lane lane(pool);
  std::vector<std::atomic<int>> busy(static_cast<size_t>(lane.threads()));
  std::atomic<int> wrong{0};
  for (int round = 0; round < 200; round++)
    lane.for_each(64, [&](int64_t, int thread) {
      if (busy[size_t(thread)].fetch_add(1) != 0) wrong++;
      std::this_thread::yield();
      busy[size_t(thread)].fetch_sub(1);
    });
  FOVEA_CHECK(wrong == 0, "%d times", wrong.load());
}

FOVEA_TEST(pool_rethrows_what_a_chunk_throws_and_goes_on) {
  Lane lane(std::make_shared<ThreadPool>(3));
  for (int round = 0; round < 50; round++) {
    auto code = code_of([&] {
      lane.for_each(40, [](int64_t chunk, int) {
        if (chunk % 7 == 3) throw Error("FOVEA_INDEX", "chunk");
      });
    });
    FOVEA_CHECK(code == "FOVEA_INDEX", "%s", code.c_str());
    std::atomic<int> ran{0};
    lane.for_each(40, [&](int64_t, int) { ran++; });
    FOVEA_CHECK(ran == 40, "%d", ran.load());
  }
}

FOVEA_TEST(pool_skips_chunks_of_a_cancelled_lane_only) {
  auto pool = std::make_shared<ThreadPool>(2);
  Lane cancelled(pool), other(pool);
  std::atomic<int> ran{0}, others{0};
  cancelled.for_each(100000, [&](int64_t, int) {
    if (++ran == 3) cancelled.cancel();
  });
  other.for_each(100, [&](int64_t, int) { others++; });
  FOVEA_CHECK(ran < 100000, "%d", ran.load());
  FOVEA_CHECK(others == 100, "%d", others.load());
}

FOVEA_TEST(pool_is_shared_while_somebody_holds_it) {
  auto first = ThreadPool::acquire(), second = ThreadPool::acquire();
  FOVEA_CHECK(first == second, "two pools");
  FOVEA_CHECK(first->threads() == thread_count(), "%d", first->threads());
}

// ---- stream

struct Append : Command {
  std::vector<int>* to;
  int value;
};
void append(Stream& stream, std::vector<int>& to, int value, size_t bytes = sizeof(Append)) {
  auto& c = stream.reserve<Append>(bytes);
  c.to = &to, c.value = value;
  c.run = [](Command& command, Stream&) {
    static_cast<Append&>(command).to->push_back(static_cast<Append&>(command).value);
  };
  c.discard = [](Command& command) { static_cast<Append&>(command).to->push_back(-1); };
  stream.publish();
}

FOVEA_TEST(stream_runs_in_order_past_the_end_of_its_ring) {
  CpuStream stream([] {}, [] { return false; });
  std::vector<int> seen;
  constexpr int kCommands = 20000;  // several times what the ring holds
  for (int i = 0; i < kCommands; i++) append(stream, seen, i, sizeof(Append) + size_t(i % 13) * 100);
  stream.wait(stream.queued());
  FOVEA_CHECK(seen.size() == kCommands && std::is_sorted(seen.begin(), seen.end()), "%zu commands ran", seen.size());
}

FOVEA_TEST(stream_wakes_after_sleep) {
  CpuStream stream([] {}, [] { return false; });
  std::vector<int> seen;
  for (int i = 0; i < 200; i++) {
    append(stream, seen, i);
    if (i % 3) stream.wait(stream.queued());
    if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  stream.wait(stream.queued());
  FOVEA_CHECK(seen.size() == 200, "%zu", seen.size());
}

struct Hold : Command {
  std::atomic<bool>* open;
};
void hold(Stream& stream, std::atomic<bool>& open) {
  auto& c = stream.reserve<Hold>();
  c.open = &open;
  c.run = [](Command& command, Stream& stream) {
    while (!static_cast<Hold&>(command).open->load() && !CpuStream::of(stream).parallel().cancelled())
      std::this_thread::yield();
  };
  stream.publish();
}

FOVEA_TEST(stream_discards_what_never_ran) {
  std::vector<int> seen;
  std::atomic<bool> open{false};
  {
    CpuStream stream([] {}, [] { return false; });
    hold(stream, open);
    for (int i = 0; i < 10; i++) append(stream, seen, i);
  }
  FOVEA_CHECK(seen.size() == 10 && std::count(seen.begin(), seen.end(), -1) == 10, "%zu", seen.size());
}

FOVEA_TEST(stream_gives_up_a_wait_when_interrupted) {
  std::atomic<bool> open{false};
  CpuStream stream([] {}, [] { return true; });
  hold(stream, open);
  auto code = code_of([&] { stream.wait(stream.queued()); });
  FOVEA_CHECK(code == "FOVEA_CLOSING", "%s", code.c_str());
}

FOVEA_TEST(stream_tells_of_progress) {
  std::atomic<int> told{0};
  CpuStream stream([&] { told++; }, [] { return false; });
  for (int i = 0; i < 5; i++) {
    auto& c = stream.reserve<Command>();
    c.notify = true;
    stream.publish();
  }
  stream.wait(stream.queued());
  while (told < 5) std::this_thread::yield();  // it is told just after the position is passed
  FOVEA_CHECK(told == 5, "%d", told.load());
}

#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
// No thread of ours exists in the child of a fork(): an error there, rather than a wait for ever.
FOVEA_TEST(stream_refuses_work_after_a_fork) {
  CpuStream stream([] {}, [] { return false; });
  std::vector<int> seen;
  append(stream, seen, 1);
  stream.wait(stream.queued());
  pid_t child = fork();
  if (child == 0) _exit(code_of([&] { append(stream, seen, 2); }) == "FOVEA_UNSUPPORTED" ? 0 : 1);
  int status = -1;
  FOVEA_CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
  append(stream, seen, 3);
  stream.wait(stream.queued());
  FOVEA_CHECK(seen.size() == 2, "%zu", seen.size());
}
#endif

// ---- allocator

// Live blocks never share a byte; what the host may write is past the stream.
FOVEA_TEST(allocator_keeps_blocks_apart) {
  uint64_t done = 0, position = 0;
  Allocator allocator([&] { return done; });
  test::Numbers numbers{42};
  std::vector<Block*> live;
  for (int step = 0; step < 20000; step++) {
    position += 64;
    if (numbers.bits() % 4 == 0) done = position - std::min<uint64_t>(position, numbers.bits() % 4096);
    if (live.size() < 200 && numbers.bits() % 2) {
      size_t size = size_t(numbers.bits() % (numbers.bits() % 8 ? 5000 : 3000000)) + 1;
      bool idle = numbers.bits() % 3 == 0;
      Block* block = idle ? allocator.allocate_idle(size) : allocator.allocate(size);
      if (!block && idle)
        done = position, block = allocator.allocate_idle(size);  // rather wait than take ever more memory
      FOVEA_CHECK(block != nullptr, "%zu bytes refused", size);
      if (!block) continue;
      FOVEA_CHECK(!idle || block->freed_at <= done, "an upload may write what the stream reads");
      FOVEA_CHECK(block->bytes >= size && block->size == size, "%zu of %zu bytes", block->bytes, size);
#ifndef FOVEA_MALLOC_BLOCKS
      FOVEA_CHECK(reinterpret_cast<uintptr_t>(block->data) % 64 == 0, "%p", static_cast<void*>(block->data));
#endif
      std::memset(block->data, 1, 1), std::memset(block->data + size - 1, 1, 1);
      live.push_back(block);
    } else if (!live.empty()) {
      size_t at = size_t(numbers.bits() % live.size());
      allocator.release(live[at], position);
      live.erase(live.begin() + ptrdiff_t(at));
    }
    if (step % 1000) continue;
    std::vector<Block*> sorted = live;
    std::sort(sorted.begin(), sorted.end(), [](Block* a, Block* b) { return a->data < b->data; });
    size_t bytes = 0;
    for (size_t i = 0; i < sorted.size(); i++) {
      bytes += sorted[i]->bytes;
      if (i) FOVEA_CHECK(sorted[i - 1]->data + sorted[i - 1]->bytes <= sorted[i]->data, "two blocks overlap");
    }
    FOVEA_CHECK(bytes == allocator.live_bytes(), "%zu live, %zu counted", bytes, allocator.live_bytes());
  }
  for (Block* block : live) allocator.release(block, position);
  FOVEA_CHECK(allocator.live_bytes() == 0, "%zu", allocator.live_bytes());
}

FOVEA_TEST(allocator_respects_the_limit_of_the_process) {
  Budget& budget = Budget::process();
  size_t limit = budget.limit(), before = budget.taken();
  {
    Allocator allocator([] { return UINT64_MAX; });
    budget.set_limit(before + (64u << 20));
    std::vector<Block*> live;
    while (Block* block = allocator.allocate(5u << 20)) live.push_back(block);
    FOVEA_CHECK(live.size() >= 6 && live.size() <= 13, "%zu blocks of 5 MB under 64 MB", live.size());
    FOVEA_CHECK(budget.taken() <= budget.limit(), "%zu over %zu", budget.taken(), budget.limit());
    FOVEA_CHECK(!allocator.allocate(SIZE_MAX / 2), "half the address space");
    for (Block* block : live) allocator.release(block, 0);
    Block* large = allocator.allocate(20u << 20);
    FOVEA_CHECK(large != nullptr, "no room after all was released");
    if (large) allocator.release(large, 0);
    allocator.trim();
  }
  budget.set_limit(limit);
  FOVEA_CHECK(budget.taken() == before, "%zu bytes were not given back", budget.taken() - before);
}

#ifndef FOVEA_MALLOC_BLOCKS
// A size class per length of prompt would reserve twenty times what is in use.
FOVEA_TEST(allocator_merges_what_it_split) {
  Allocator allocator([] { return UINT64_MAX; });
  for (size_t length = 1; length <= 400; length++) {
    Block* a = allocator.allocate(length * 10000 + 70000);
    Block* b = allocator.allocate(length * 30000 + 70000);
    allocator.release(a, 0), allocator.release(b, 0);
  }
  FOVEA_CHECK(allocator.reserved_bytes() <= (64u << 20), "%zu MB reserved", allocator.reserved_bytes() >> 20);
  allocator.trim();
  FOVEA_CHECK(allocator.reserved_bytes() == 0, "%zu", allocator.reserved_bytes());
}
#endif

FOVEA_TEST(allocator_lets_go_of_external_memory_once_the_stream_has_passed) {
  uint64_t done = 0;
  Allocator allocator([&] { return done; });
  auto memory = std::make_shared<int>(7);
  std::weak_ptr<int> watch = memory;
  Block* block = allocator.adopt(reinterpret_cast<std::byte*>(memory.get()), sizeof(int), std::move(memory));
  allocator.release(block, 100);
  allocator.trim();
  FOVEA_CHECK(!watch.expired(), "a queued command may still read it");
  done = 100;
  allocator.trim();
  FOVEA_CHECK(watch.expired(), "it is held for ever");
}

// ---- views

FOVEA_TEST(repeated_elements_are_found) {
  std::byte memory[8];
  auto repeats = [&](std::initializer_list<int64_t> shape, std::initializer_list<int64_t> strides) {
    return may_repeat(view_of(memory, Dtype::f32, shape, strides));
  };
  FOVEA_CHECK(!repeats({4, 3}, {3, 1}), "dense");
  FOVEA_CHECK(!repeats({3, 4}, {1, 3}), "transposed");
  FOVEA_CHECK(!repeats({4, 2}, {6, 2}), "sliced with steps");
  FOVEA_CHECK(!repeats({4, 3}, {-3, -1}), "backwards");
  FOVEA_CHECK(!repeats({1, 1}, {0, 0}), "one element");
  FOVEA_CHECK(!repeats({0, 5}, {0, 0}), "no element");
  FOVEA_CHECK(!repeats({}, {}), "a number");
  FOVEA_CHECK(repeats({4, 3}, {0, 1}), "expanded");
  FOVEA_CHECK(repeats({5, 3}, {1, 1}), "overlapping windows");
  FOVEA_CHECK(repeats({2, 3}, {2, 1}), "overlapping rows");
}

FOVEA_TEST(extents_are_exact) {
  std::byte memory[400];
  Extent forward = extent_of(view_of(memory, Dtype::f32, {2, 3}, {10, 2})),
         backward = extent_of(view_of(memory + 56, Dtype::f32, {2, 3}, {-10, -2}));
  FOVEA_CHECK(forward.low == memory && forward.high == memory + 60, "%td..%td", forward.low - memory,
              forward.high - memory);
  FOVEA_CHECK(backward.low == memory && backward.high == memory + 60, "%td..%td", backward.low - memory,
              backward.high - memory);
  FOVEA_CHECK(
      !extent_of(view_of(memory, Dtype::f32, {3}, {1})).overlaps(extent_of(view_of(memory + 12, Dtype::f32, {3}, {1}))),
      "neighbours");
  FOVEA_CHECK(
      extent_of(view_of(memory, Dtype::f64, {2}, {1})).overlaps(extent_of(view_of(memory + 12, Dtype::u8, {3}, {1}))),
      "one byte");
}

// ---- shared storage and mapped files

FOVEA_TEST(shared_storage_lives_as_long_as_somebody_holds_it) {
  size_t before = Budget::process().taken();
  View like = view_of(nullptr, Dtype::f32, {2, 3}, {1, 2});
  auto storage = SharedStorage::make(like, 24);
  FOVEA_CHECK(storage && storage->view.contiguous(), "dense, whatever was shared");
  std::memset(storage->view.data, 5, 24);
  SharedToken token = publish_shared(std::move(storage));
  SharedToken guess = token;
  guess.nonce_low ^= 1;
  FOVEA_CHECK(!find_shared(guess), "a guessed token");
  release_shared(guess);
  std::shared_ptr<SharedStorage> adopted;
  std::thread([&] { adopted = find_shared(token); }).join();
  release_shared(token);
  release_shared(token);
  FOVEA_CHECK(!find_shared(token), "released");
  FOVEA_CHECK(adopted && adopted->view.data[23] == std::byte{5}, "the adopter still has it");
  adopted.reset();
  FOVEA_CHECK(Budget::process().taken() == before, "%zu bytes leaked", Budget::process().taken() - before);
}

}  // namespace
}  // namespace fovea
