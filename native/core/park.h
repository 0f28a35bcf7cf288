// Sleeping and waking: a thread parks on a 32-bit word. Why not std::atomic::wait: libstdc++ 12 looks for waiters with
// a plain load after the caller's store, so a release store can miss one; here every store that a wake depends on is
// seq_cst.
#pragma once
#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

namespace fovea {

constexpr int kForever = -1, kAll = 1 << 30;

// Longer than the gap between two queued ops (20 to 40 us), short when there are more threads than cores.
constexpr int kSpins = 2000;

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// park returns when `word` is not `expected`, when woken, spuriously, or after the timeout: callers loop on their own
// condition.
#if defined(__linux__)
inline void park(std::atomic<uint32_t>& word, uint32_t expected, int timeout_ms = kForever) {
  timespec limit{timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout_ms < 0 ? nullptr : &limit, nullptr, 0);
}
inline void unpark(std::atomic<uint32_t>& word, int threads = kAll) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}
#else
void park(std::atomic<uint32_t>& word, uint32_t expected, int timeout_ms = kForever);
void unpark(std::atomic<uint32_t>& word, int threads = kAll);
#endif

// Compute threads give way to the JavaScript thread where there are more threads than cores. Only Linux has a niceness
// per thread; elsewhere it would slow the whole process.
inline void lower_priority() {
#if defined(__linux__)
  constexpr int kNice = 5;
  setpriority(PRIO_PROCESS, id_t(syscall(SYS_gettid)), kNice);
#endif
}

}  // namespace fovea
