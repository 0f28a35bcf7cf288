// What a kernel gets, and how a file of kernels offers them. A kernel knows nothing of JavaScript, slots or the queue.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/parallel.h"
#include "core/view.h"

namespace fovea {

struct Views {
  const View* first;
  int32_t count;
  FOVEA_INLINE const View& operator[](int64_t i) const { return first[i]; }
  FOVEA_INLINE int32_t size() const { return count; }
  FOVEA_INLINE const View* begin() const { return first; }
  FOVEA_INLINE const View* end() const { return first + count; }
};

struct Call {
  Parallel& parallel;
  Views in, out;
  std::byte* workspace;  // as many bytes as the op's `workspace` asked for, 64-byte aligned, not initialised
  const char* op;        // its name, for messages

  template <class T>
  FOVEA_INLINE T* scratch(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(workspace + byte_offset);
  }
  // Throws: the op's outputs are poisoned, and whoever reads them gets "<op>: <message>". printf-style.
  [[noreturn]] void fail(const char* code, const char* format, ...) const __attribute__((format(printf, 3, 4)));
};

using Kernel = void (*)(Call&, const void* attrs);

// A kernel file ends with, outside of its anonymous namespace but inside fovea::FOVEA_ISA:
//   FOVEA_KERNELS(matmul, FOVEA_KERNEL("matmul", matmul, MatmulAttrs), FOVEA_KERNEL("other", other, NoAttrs))
// where matmul is void(Call&, const MatmulAttrs&).
struct KernelEntry {
  const char* name;
  Kernel kernel;
};
#define FOVEA_KERNEL(name, function, Attrs)                                                                 \
  ::fovea::KernelEntry {                                                                                    \
    name, [](::fovea::Call& call, const void* attrs) { function(call, *static_cast<const Attrs*>(attrs)); } \
  }
#define FOVEA_KERNELS(family, ...)                      \
  extern const ::fovea::KernelEntry family##_kernels[]; \
  const ::fovea::KernelEntry family##_kernels[] = {__VA_ARGS__, {nullptr, nullptr}};

}  // namespace fovea
