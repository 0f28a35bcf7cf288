#include "core/budget.h"

#include <atomic>
#include <cstdint>

#include "core/machine.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace fovea {
namespace {

std::atomic<size_t> taken_bytes{0};
std::atomic<size_t>& limit_bytes() {
  static std::atomic<size_t> limit{default_memory_limit()};
  return limit;
}

#if !defined(_WIN32)
constexpr size_t kHugePage = 2u << 20;

std::byte* map_aligned(size_t bytes) {
  size_t padded = bytes + kHugePage;
  void* mapped = mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* raw = static_cast<std::byte*>(mapped);
  auto* aligned =
      reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(raw) + kHugePage - 1) & ~uintptr_t(kHugePage - 1));
  if (aligned != raw) munmap(raw, size_t(aligned - raw));
  if (size_t tail = size_t(raw + padded - (aligned + bytes))) munmap(aligned + bytes, tail);
#if defined(MADV_HUGEPAGE)
  madvise(aligned, bytes, MADV_HUGEPAGE);  // a wish: where it is refused, small pages serve as well
#endif
  return aligned;
}
#endif

}  // namespace

Budget& Budget::process() {
  static Budget budget;
  return budget;
}
bool Budget::take(size_t bytes) {
  size_t before = taken_bytes.load(std::memory_order_relaxed), most = limit();
  do {
    if (bytes > most || before > most - bytes) return false;
  } while (!taken_bytes.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return true;
}
void Budget::give_back(size_t bytes) { taken_bytes.fetch_sub(bytes, std::memory_order_relaxed); }
size_t Budget::taken() const { return taken_bytes.load(std::memory_order_relaxed); }
size_t Budget::limit() const { return limit_bytes().load(std::memory_order_relaxed); }
void Budget::set_limit(size_t bytes) { limit_bytes().store(bytes, std::memory_order_relaxed); }

std::byte* map_pages(size_t bytes) {
  if (!Budget::process().take(bytes)) return nullptr;
#if defined(_WIN32)
  auto* address = static_cast<std::byte*>(VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE));
#else
  std::byte* address = map_aligned(bytes);
#endif
  if (!address) Budget::process().give_back(bytes);
  return address;
}

void unmap_pages(std::byte* address, size_t bytes) {
#if defined(_WIN32)
  VirtualFree(address, 0, MEM_RELEASE);
#else
  munmap(address, bytes);
#endif
  Budget::process().give_back(bytes);
}

}  // namespace fovea
