// What a kernel sees of the thread pool: a number of chunks, handed out from one counter to whoever is free. No
// barrier: a worker that wakes late finds nothing left, and the caller never waits for a thread that has not started,
// so work degrades gently when cores are busy. Which thread runs a chunk varies; what a chunk computes does not, so
// results are the same for every number of threads as long as a kernel cuts its work by shape and never by thread
// count. Chunks are begun in order, which sums of what several of them make can rely on: see await().
#pragma once
#include <cstdint>
#include <type_traits>

#include "core/inline.h"

namespace fovea {

class Parallel {
 public:
  // How many different `thread` numbers a body can see: size per-thread scratch by it, never the work.
  FOVEA_INLINE int threads() const { return threads_; }

  // body(chunk, thread): chunk in [0, count), thread in [0, threads()). Returns when all have run. Rethrows the first
  // exception of any chunk. Not reentrant: a body must not call for_each.
  template <class Body>
  FOVEA_INLINE void for_each(int64_t count, Body&& body) {
    if (count == 1) return body(int64_t(0), 0);
    using B = std::remove_reference_t<Body>;
    run(
        count, [](void* b, int64_t chunk, int thread) { (*static_cast<B*>(b))(chunk, thread); }, &body);
  }
  // body(begin, end) over [0, n) in pieces of `grain`; work of one piece stays on the calling thread.
  template <class Body>
  FOVEA_INLINE void for_range(int64_t n, int64_t grain, Body&& body) {
    if (n <= 0) return;
    if (n <= grain) return body(int64_t(0), n);
    for_each((n + grain - 1) / grain, [&](int64_t chunk, int) {
      int64_t begin = chunk * grain;
      body(begin, begin + grain < n ? begin + grain : n);
    });
  }
  // For sums over chunks whose order must not depend on threads: a chunk announces how far it is, and the next waits
  // for that before it adds. Waits until `progress` is at least `value`, or the work is cancelled. It must be a chunk
  // with a lower number that announces, which therefore has begun, and that chunk must not throw.
  void await(const int64_t& progress, int64_t value) const;
  FOVEA_INLINE static void announce(int64_t& progress, int64_t value) {
    __atomic_store_n(&progress, value, __ATOMIC_RELEASE);
  }
  // The environment is going away: a kernel that loops for long inside one chunk should look now and then.
  virtual bool cancelled() const = 0;

 protected:
  using Invoke = void (*)(void* body, int64_t chunk, int thread);
  explicit Parallel(int threads) : threads_(threads) {}
  ~Parallel() = default;
  virtual void run(int64_t count, Invoke invoke, void* body) = 0;
  int threads_;
};

}  // namespace fovea
