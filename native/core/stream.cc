#include "core/stream.h"

#include <chrono>

#include "core/check.h"
#include "core/park.h"
#include "cpu/thread_pool.h"

namespace fovea {
namespace {

constexpr size_t kAlignment = alignof(Command);
constexpr int kPollMs = 100;  // how often who waits asks whether its environment is being terminated

void refuse_after_fork() {
  if (after_fork())
    fail("FOVEA_UNSUPPORTED",
         "stream: this process was forked from one that used fovea, and threads do not survive a fork(); start it with "
         "spawn or exec");
}

}  // namespace

int64_t clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Stream::Stream(std::function<void()> on_progress, std::function<bool()> interrupted)
    : storage_(new std::byte[kCapacity + kAlignment]),
      on_progress_(std::move(on_progress)),
      interrupted_(std::move(interrupted)) {
  ring_ = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(storage_.get()) + kAlignment - 1) &
                                       ~uintptr_t(kAlignment - 1));
}

// ---- the producer

void* Stream::reserve_bytes(size_t bytes) {
  refuse_after_fork();
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  size_t to_end = kCapacity - tail_local_ % kCapacity;
  size_t needed = bytes <= to_end ? bytes : to_end + bytes;  // a record never wraps: pad to the end instead
  if (tail_local_ + needed - head_seen_ > kCapacity) head_seen_ = done();
  if (tail_local_ + needed - head_seen_ > kCapacity) {
    wait(tail_local_ + needed - kCapacity);
    head_seen_ = done();
  }
  if (bytes > to_end) {
    auto& padding = *new (&at(tail_local_)) Command;
    padding.bytes = uint32_t(to_end);
    tail_local_ += to_end;
  }
  reserved_ = bytes;
  return &at(tail_local_);
}

uint64_t Stream::publish() {
  at(tail_local_).bytes = uint32_t(reserved_);
  tail_local_ += reserved_;
  tail_.store(tail_local_);  // seq_cst: the consumer either sees it or has announced that it sleeps
  if (sleeping_.load()) {
    sleeping_.store(0);
    unpark(sleeping_);
  }
  return tail_local_;
}

void Stream::wait(uint64_t position) {
  for (int spin = 0; spin < kSpins; spin++) {
    if (done() >= position) return;
    cpu_relax();
  }
  refuse_after_fork();
  while (done() < position) {
    uint32_t ticket = woken_.load();
    wake_at_.store(position);
    if (head_.load() < position) park(woken_, ticket, kPollMs);
    wake_at_.store(UINT64_MAX);
    if (done() < position && interrupted_())
      fail("FOVEA_CLOSING", "wait: this thread is shutting down; start no further work in it");
  }
}

bool Stream::wait_elsewhere(uint64_t position, const Stream& asker) {
  for (int spin = 0; spin < kSpins; spin++) {
    if (done() >= position) return true;
    cpu_relax();
  }
  peers_waiting_.fetch_add(1);  // seq_cst, against head_: pass() either sees it or is seen
  while (head_.load() < position && !stopping() && !asker.stopping()) {
    uint32_t ticket = peers_woken_.load();
    if (head_.load() < position) park(peers_woken_, ticket, kPollMs);
  }
  peers_waiting_.fetch_sub(1);
  return done() >= position;
}

// What is running now was queued before and sees either value, but touches timings_ only after it has seen this store.
void Stream::start_timing() {
  timings_.clear();
  timed_until_.store(UINT64_MAX, std::memory_order_release);
}

// A command that is queued later is published after this store, so that it is not timed.
uint64_t Stream::stop_timing() {
  timed_until_.store(tail_local_, std::memory_order_release);
  return tail_local_;
}

// ---- the consumer

// A command whose timing there is no memory for counts as one that could not be timed.
void Stream::note_timing(const Timing& timing) noexcept {
  try {
    timings_.push_back(timing);
  } catch (const std::bad_alloc&) {}
}

void Stream::sleep_until_work(uint64_t head) {
  for (int spin = 0; spin < kSpins; spin++) {
    if (has_work(head) || stopping()) return;
    cpu_relax();
  }
  sleeping_.store(1);
  if (tail_.load() == head && !stopping_.load()) park(sleeping_, 1);
  sleeping_.store(0);
}

void Stream::pass(uint64_t head, bool notify) {
  head_.store(head);  // seq_cst, against wake_at_ and peers_waiting_
  if (head >= wake_at_.load()) {
    woken_.fetch_add(1);
    unpark(woken_);
  }
  if (peers_waiting_.load()) {
    peers_woken_.fetch_add(1);
    unpark(peers_woken_);
  }
  if (notify) on_progress_();
}

// ---- the end

void Stream::request_stop() {
  stopping_.store(true);
  sleeping_.store(0);
  unpark(sleeping_);
  peers_woken_.fetch_add(1);
  unpark(peers_woken_);
}

void Stream::discard_rest() {
  for (uint64_t position = head_; position < tail_local_;) {
    Command& command = at(position);
    position += command.bytes;
    if (command.discard) command.discard(command);
  }
}

}  // namespace fovea
