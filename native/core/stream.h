// The CPU stream: one thread that runs commands in the order in which one producer (the JavaScript thread) queued them.
// Commands are records of different length in a ring of bytes; a position is a byte count that only grows, and
// `done() >= position` says that everything queued before that position has run.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <type_traits>

#include "cpu/thread_pool.h"

namespace fovea {

struct alignas(64) Command {
  void (*run)(Command&, Parallel&) = nullptr;  // nullptr: padding up to the end of the ring. Must not throw.
  void (*discard)(Command&) = nullptr;         // frees what a command owns when the stream stops before running it
  uint32_t bytes = 0;                          // of the whole record, a multiple of 64
  bool notify = false;                         // call on_progress once this command is done
};

class Stream {
 public:
  // on_progress is called on the stream's thread. `interrupted` is asked about ten times a second while the producer
  // waits; when it says true, the wait is given up.
  Stream(std::function<void()> on_progress, std::function<bool()> interrupted);
  ~Stream() { stop(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Producer: reserve a record, fill it in, publish it. Waits while the ring is full (back-pressure).
  template <class C>
  C& reserve(size_t bytes = sizeof(C)) {
    static_assert(std::is_base_of_v<Command, C> && alignof(C) <= alignof(Command));
    return *new (reserve_bytes(bytes)) C;
  }
  uint64_t publish();

  uint64_t queued() const { return tail_local_; }
  uint64_t done() const { return head_.load(std::memory_order_acquire); }
  // Producer only. Throws FOVEA_CLOSING when interrupted.
  void wait(uint64_t position);
  // Cancels the command that is running, skips what has not started, then joins. Idempotent.
  void stop();

  int threads() const { return lane_.threads(); }
  static constexpr size_t kCapacity = 1u << 20;

 private:
  std::byte* at(uint64_t position) const { return ring_ + position % kCapacity; }
  void* reserve_bytes(size_t bytes);
  void consume();
  void sleep_until_work(uint64_t head);

  std::unique_ptr<std::byte[]> storage_;
  std::byte* ring_;
  uint64_t tail_local_ = 0;  // the producer's own copy of tail_
  uint64_t head_seen_ = 0;   // the producer's last look at head_: spares a cache miss per command
  size_t reserved_ = 0;

  alignas(64) std::atomic<uint64_t> tail_{0};
  alignas(64) std::atomic<uint64_t> head_{0};
  alignas(64) std::atomic<uint32_t> sleeping_{0};          // the stream's thread waits for work
  alignas(64) std::atomic<uint64_t> wake_at_{UINT64_MAX};  // the producer waits for this position
  std::atomic<uint32_t> woken_{0};
  std::atomic<bool> stopping_{false};

  std::function<void()> on_progress_;
  std::function<bool()> interrupted_;
  Lane lane_;
  std::thread thread_;
};

}  // namespace fovea
