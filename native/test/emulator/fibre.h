// Fibres: stacks that take turns on one operating-system thread. x86-64 and arm64, System V calling conventions.
#pragma once
#include <cstddef>

namespace fovea::emulator {

// Where a stack stopped. The operating system's own stack has one, too, filled when it switches away.
struct Context {
  void* stack_pointer = nullptr;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
  // What AddressSanitizer wants to know about stacks.
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// Stops here, at `from`, and goes on where `to` stopped.
void switch_to(Context& from, Context& to);

// A stack with a guard page below. The body starts at the first switch to the context and must never return.
class Fibre {
 public:
  Fibre(void (*body)(void*), void* argument);
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  Context context;
};

}  // namespace fovea::emulator
