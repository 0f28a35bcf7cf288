#include "cpu/thread_pool.h"

#include <algorithm>
#include <mutex>
#include <system_error>

#include "core/machine.h"
#include "core/park.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace fovea {
namespace {

std::atomic<bool> forked{false};

void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  (void)registered;
#endif
}

}  // namespace

bool after_fork() { return forked.load(std::memory_order_relaxed); }

std::shared_ptr<ThreadPool> ThreadPool::acquire() {
  struct Shared {
    std::mutex mutex;
    std::weak_ptr<ThreadPool> pool;
  };
  static Shared& shared = *new Shared;  // never destroyed: process.exit() runs destructors of statics under our feet
  std::lock_guard lock(shared.mutex);
  std::shared_ptr<ThreadPool> pool = shared.pool.lock();
  if (!pool) shared.pool = pool = std::make_shared<ThreadPool>(thread_count());
  return pool;
}

ThreadPool::ThreadPool(int threads) : jobs_(new Job[kMaxLanes]) {
  watch_forks();
  try {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { worker_main(i); });
  } catch (const std::system_error&) {
    // The system grants no more threads. Those that there are do the work; threads() tells how many.
  }
}

ThreadPool::~ThreadPool() {
  quit_.store(true);
  news_.fetch_add(1);
  unpark(news_);
  for (std::thread& worker : workers_) {
    if (after_fork()) worker.detach();
    else worker.join();
  }
}

ThreadPool::Job* ThreadPool::take_job() {
  for (int i = 0; i < kMaxLanes; i++) {
    if (jobs_[i].taken.exchange(true)) continue;
    for (int seen = jobs_seen_.load(); seen <= i && !jobs_seen_.compare_exchange_weak(seen, i + 1);) {}
    return &jobs_[i];
  }
  return nullptr;
}

void ThreadPool::announce(uint32_t chunks) {
  news_.fetch_add(1);  // seq_cst, and so is the load of sleepers_: one of the two threads sees the other
  if (!sleepers_.load()) return;
#if defined(__linux__)
  keep_workers_off(sched_getcpu());
#endif
  unpark(news_, int(std::min<uint32_t>(chunks, kAll)));
}

// While the JavaScript thread is still on its way to sleep, no processor of a small machine looks idle, and the
// scheduler may queue a woken worker behind the thread that woke it. On two processors, exp of 1.6 MB after a pause of
// 2 ms takes 0.09 ms with this and 0.15 to 0.18 without; ops of milliseconds gain next to nothing. Large machines have
// an idle processor to offer.
void ThreadPool::keep_workers_off(int cpu) {
#if defined(__linux__)
  constexpr size_t kFew = 8;
  if (workers_.size() >= kFew || cpu < 0 || avoided_cpu_.exchange(cpu) == cpu) return;
  cpu_set_t others;
  if (pthread_getaffinity_np(pthread_self(), sizeof others, &others) != 0) return;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0) return;
  for (std::thread& worker : workers_) pthread_setaffinity_np(worker.native_handle(), sizeof others, &others);
#else
  (void)cpu;
#endif
}

// Takes chunks until none is left. True if it got one.
bool ThreadPool::work_on(Job& job, int thread) {
  bool any = false;
  for (uint64_t ticket = job.ticket.load(std::memory_order_acquire); uint32_t(ticket) != 0;) {
    if (!job.ticket.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) continue;
    any = true;
    try {
      if (!job.cancelled.load(std::memory_order_relaxed))
        job.invoke(job.body, job.first + int64_t(job.count - uint32_t(ticket)), thread);
    } catch (...) {
      if (!job.failed.exchange(true)) job.failure = std::current_exception();
    }
    if (job.unfinished.fetch_sub(1) == 1 && job.waiting.load()) unpark(job.unfinished);
    ticket = job.ticket.load(std::memory_order_acquire);
  }
  return any;
}

// Workers start their round at different lanes, so that several streams share them.
bool ThreadPool::work_on_any(int thread) {
  bool any = false;
  int lanes = jobs_seen_.load(std::memory_order_relaxed);
  for (int i = 0; i < lanes; i++) any |= work_on(jobs_[(i + thread) % lanes], thread);
  return any;
}

void ThreadPool::worker_main(int thread) {
  lower_priority();
  while (!quit_.load()) {
    uint32_t seen = news_.load();  // before looking: what is offered later changes it
    if (work_on_any(thread)) continue;
    for (int spin = 0; spin < kSpins && news_.load(std::memory_order_acquire) == seen; spin++) cpu_relax();
    sleepers_.fetch_add(1);
    if (news_.load() == seen && !quit_.load()) park(news_, seen);
    sleepers_.fetch_sub(1);
  }
}

Lane::Lane(std::shared_ptr<ThreadPool> pool)
    : Parallel(pool->threads()), pool_(std::move(pool)), job_(pool_->take_job()) {
  if (job_) job_->cancelled.store(false);
}
Lane::~Lane() {
  if (job_) job_->taken.store(false);
}

void Lane::run(int64_t count, Invoke invoke, void* body) {
  constexpr int64_t kMost = int64_t(1) << 31;  // the counter of a job has 32 bits
  if (count <= 1 || threads_ == 1 || !job_) {
    for (int64_t chunk = 0; chunk < count && !cancelled(); chunk++) invoke(body, chunk, 0);
    return;
  }
  for (int64_t first = 0; first < count; first += kMost)
    run_shared(first, uint32_t(std::min(kMost, count - first)), invoke, body);
}

void Lane::run_shared(int64_t first, uint32_t count, Invoke invoke, void* body) {
  ThreadPool::Job& job = *job_;
  job.invoke = invoke, job.body = body, job.first = first, job.count = count;
  job.unfinished.store(count, std::memory_order_relaxed);
  uint32_t epoch = uint32_t(job.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  job.ticket.store(uint64_t(epoch) << 32 | count, std::memory_order_release);
  pool_->announce(count - 1);
  ThreadPool::work_on(job, 0);
  for (int spin = 0; spin < kSpins && job.unfinished.load(std::memory_order_acquire) != 0; spin++) cpu_relax();
  if (job.unfinished.load() != 0) {
    job.waiting.store(1);
    for (uint32_t left; (left = job.unfinished.load()) != 0;) park(job.unfinished, left);
    job.waiting.store(0);
  }
  if (job.failed.load(std::memory_order_acquire)) {
    std::exception_ptr failure = std::move(job.failure);
    job.failure = nullptr, job.failed.store(false);
    std::rethrow_exception(failure);
  }
}

}  // namespace fovea
