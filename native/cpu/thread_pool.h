// One pool of threads per process, shared by all streams. A stream owns a lane; a lane offers one job at a time, a
// number of chunks that the stream's own thread and all idle workers take from one counter. No barrier: a worker that
// wakes late finds nothing left. Which thread runs a chunk varies; what a chunk computes does not.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace fovea {

// True in the child of a fork(): no thread of ours exists there.
bool after_fork();

class ThreadPool {
 public:
  // The pool of this process: made for the first who asks, ended with the last who holds it.
  static std::shared_ptr<ThreadPool> acquire();

  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // The thread of a lane and all workers.
  int threads() const { return int(workers_.size()) + 1; }

 private:
  friend class Lane;
  using Invoke = void (*)(void* body, int64_t chunk, int thread);

  // What a lane offers. Owned by the pool, so that a worker may look at any moment. `ticket` is epoch << 32 | chunks
  // left: a chunk is taken by compare-and-swap, and the other fields are read only by a thread that holds a chunk,
  // which keeps the job from ending.
  struct alignas(64) Job {
    std::atomic<uint64_t> ticket{0};
    alignas(64) std::atomic<uint32_t> unfinished{0};
    std::atomic<uint32_t> waiting{0};  // the owner sleeps until `unfinished` is 0
    std::atomic<bool> taken{false}, cancelled{false}, failed{false};
    Invoke invoke = nullptr;
    void* body = nullptr;
    int64_t first = 0;
    uint32_t count = 0;
    std::exception_ptr failure;
  };
  static constexpr int kMaxLanes = 256;

  Job* take_job();
  void announce(uint32_t chunks);
  void keep_workers_off(int cpu);
  static bool work_on(Job& job, int thread);
  void worker_main(int thread);
  bool work_on_any(int thread);

  std::unique_ptr<Job[]> jobs_;
  std::atomic<int> jobs_seen_{0};  // jobs at and behind this index were never taken
  alignas(64) std::atomic<uint32_t> news_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> quit_{false};
  std::atomic<int> avoided_cpu_{-1};  // where sleeping workers are not put when they wake
  std::vector<std::thread> workers_;
};

class Lane final : public Parallel {
 public:
  explicit Lane(std::shared_ptr<ThreadPool> pool);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // From any thread: chunks that have not started are skipped, so that an exit does not wait for a long kernel.
  void cancel() {
    cancelled_.store(true, std::memory_order_relaxed);
    if (job_) job_->cancelled.store(true, std::memory_order_relaxed);
  }
  bool cancelled() const override { return cancelled_.load(std::memory_order_relaxed); }

 protected:
  void run(int64_t count, Invoke invoke, void* body) override;

 private:
  void run_shared(int64_t first, uint32_t count, Invoke invoke, void* body);

  std::shared_ptr<ThreadPool> pool_;
  ThreadPool::Job* job_;  // nullptr when kMaxLanes are in use: then the lane's own thread does all its work
  std::atomic<bool> cancelled_{false};
};

}  // namespace fovea
