// Memory of a call for what passes between its kernels.
#pragma once
#include "core/arithmetic.h"
#include "cuda/kernel.h"

namespace fovea::cuda {

// Hands out parts of a workspace, each 64-byte aligned. Without a base it measures how much is needed.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(reinterpret_cast<uintptr_t>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(base_ + used_);
    used_ += size_t(round_up(count * int64_t(sizeof(T)), 64));
    return part;
  }
  size_t used() const { return used_; }

 private:
  uintptr_t base_;
  size_t used_ = 0;
};

}  // namespace fovea::cuda
