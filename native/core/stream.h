// A stream: commands that run in the order in which one producer (the JavaScript thread) queued them. Commands are
// records of different length in a ring of bytes; a position is a byte count that only grows, and `done() >= position`
// says that everything queued before that position has run. Here are the ring and the producer's side; who consumes is
// the device's affair: cpu_stream.h runs commands on a thread, device_stream.h launches them on a GPU.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>

namespace fovea {

class Stream;

struct alignas(64) Command {
  void (*run)(Command&, Stream&) = nullptr;     // nullptr: padding up to the end of the ring. Must not throw.
  void (*retire)(Command&, Stream&) = nullptr;  // on a GPU: once the device is through with what `run` launched
  void (*discard)(Command&) = nullptr;          // frees what a command owns when the stream stops before running it
  uint32_t bytes = 0;                           // of the whole record, a multiple of 64
  bool notify = false;                          // call on_progress once this command is done
};

// Nanoseconds of a clock that never goes back.
int64_t clock_ns();

// When a command ran; it is the one before `position`.
struct Timing {
  uint64_t position;
  int64_t begin, end;  // as clock_ns()
};

class Stream {
 public:
  virtual ~Stream() = default;
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
  // From the thread of another stream, for a command that needs what this one computes. Since the producer queues on
  // all of its streams in one order, streams never wait for each other in a circle. False: one of the two is stopping.
  bool wait_elsewhere(uint64_t position, const Stream& asker);

  // Producer: from here to stop_timing() it is noted when commands run. Once stop_timing()'s position has passed,
  // timings() are those of all of them, in order, but for commands that a device could not time; commands that were
  // queued before may be among them.
  void start_timing();
  uint64_t stop_timing();
  const std::deque<Timing>& timings() const { return timings_; }

  // Cancels the command that is running and skips what has not started. Idempotent; join() waits for the threads.
  virtual void request_stop();
  virtual void join() = 0;
  void stop() { request_stop(), join(); }

  static constexpr size_t kCapacity = 1u << 20;

 protected:
  // on_progress is called on a thread of the stream. `interrupted` is asked about ten times a second while the producer
  // waits; when it says true, the wait is given up.
  Stream(std::function<void()> on_progress, std::function<bool()> interrupted);

  Command& at(uint64_t position) const { return *reinterpret_cast<Command*>(ring_ + position % kCapacity); }
  // Consumer: sleeps until something lies behind `head`, or the stream is stopping.
  void sleep_until_work(uint64_t head);
  bool has_work(uint64_t head) const { return tail_.load(std::memory_order_acquire) != head; }
  // Consumer: says that everything before `head` has run, and wakes who waits for it.
  void pass(uint64_t head, bool notify);
  // Consumer: whether the command at `head` is to be timed.
  bool times(uint64_t head) const { return head < timed_until_.load(std::memory_order_acquire); }
  void note_timing(const Timing& timing) noexcept;
  // When no thread of the stream runs any more.
  void discard_rest();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  void* reserve_bytes(size_t bytes);

  std::unique_ptr<std::byte[]> storage_;
  std::byte* ring_;
  uint64_t tail_local_ = 0;  // the producer's own copy of tail_
  uint64_t head_seen_ = 0;   // the producer's last look at head_: spares a cache miss per command
  size_t reserved_ = 0;

  alignas(64) std::atomic<uint64_t> tail_{0};
  alignas(64) std::atomic<uint64_t> timed_until_{0};  // seldom written, read at every command
  std::deque<Timing> timings_;                        // the consumer's, until it has passed timed_until_
  alignas(64) std::atomic<uint64_t> head_{0};
  alignas(64) std::atomic<uint32_t> sleeping_{0};          // the consumer waits for work
  alignas(64) std::atomic<uint64_t> wake_at_{UINT64_MAX};  // the producer waits for this position
  std::atomic<uint32_t> woken_{0};
  std::atomic<uint32_t> peers_waiting_{0}, peers_woken_{0};  // other streams that wait for some position
  std::atomic<bool> stopping_{false};

  std::function<void()> on_progress_;
  std::function<bool()> interrupted_;
};

}  // namespace fovea
