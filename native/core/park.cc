// Parking where there is no futex: a few mutexes and condition variables, chosen by the address of the word.
#include "core/park.h"

#if !defined(__linux__)
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace fovea {
namespace {

struct Bucket {
  std::mutex mutex;
  std::condition_variable changed;
};
Bucket& bucket_of(const void* word) {
  constexpr size_t kBuckets = 64;
  static Bucket* buckets = new Bucket[kBuckets];  // never destroyed: threads may still be parked when statics go
  return buckets[reinterpret_cast<uintptr_t>(word) / 64 % kBuckets];
}

}  // namespace

void park(std::atomic<uint32_t>& word, uint32_t expected, int timeout_ms) {
  Bucket& bucket = bucket_of(&word);
  std::unique_lock lock(bucket.mutex);
  if (word.load() != expected) return;
  if (timeout_ms < 0) bucket.changed.wait(lock);
  else bucket.changed.wait_for(lock, std::chrono::milliseconds(timeout_ms));
}

// All are woken, since those parked on other words of the bucket look again and park again.
void unpark(std::atomic<uint32_t>& word, int) {
  Bucket& bucket = bucket_of(&word);
  { std::lock_guard lock(bucket.mutex); }
  bucket.changed.notify_all();
}

}  // namespace fovea
#endif
