// Where the emulated blocks have their shared memory.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "test/emulator/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace fovea::emulator {

// Shared memory of the blocks of a cluster, each in a window of its own that is aligned to its size.
class Windows {
 public:
  ~Windows() { release(); }
  std::byte* at(size_t block, size_t blocks) {
    if (blocks > blocks_) allocate(blocks);
    return aligned_ + block * kSharedWindow;
  }

 private:
  void allocate(size_t blocks) {
    release();
    bytes_ = (blocks + 1) * kSharedWindow;
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    blocks_ = blocks;
    aligned_ =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory_) + kSharedWindow - 1) & ~(kSharedWindow - 1));
  }
  void release() {
    if (!blocks_) return;
    ASAN_UNPOISON_MEMORY_REGION(memory_, bytes_);
    munmap(memory_, bytes_);
    blocks_ = 0;
  }
  void* memory_ = nullptr;
  size_t bytes_ = 0, blocks_ = 0;
  std::byte* aligned_ = nullptr;
};

}  // namespace fovea::emulator
