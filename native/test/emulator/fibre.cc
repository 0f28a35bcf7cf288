#include "test/emulator/fibre.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// void fovea_emulator_switch(void** save, void* to): pushes the registers that a callee preserves, leaves the stack
// pointer in *save, takes the other stack and pops what was pushed there.
extern "C" void fovea_emulator_switch(void** save, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.globl fovea_emulator_switch
.type fovea_emulator_switch, @function
fovea_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fovea_emulator_switch, . - fovea_emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl fovea_emulator_switch
.type fovea_emulator_switch, %function
fovea_emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size fovea_emulator_switch, . - fovea_emulator_switch
)");
#else
#error "no context switch for this processor"
#endif

namespace fovea::emulator {
namespace {

constexpr size_t kStackBytes = 256 << 10;

// The two ends of the switch in progress.
thread_local constinit Context* leaving = nullptr;
thread_local constinit Context* entering = nullptr;

void arrive(Context& self) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.fake_stack, &leaving->stack, &leaving->stack_bytes);
#else
  (void)self;
#endif
}

void begin() {
  Context& self = *entering;
  arrive(self);
  self.body(self.argument);
  std::abort();
}

// What the first switch to a new stack pops: zeros, and `begin` as the address to return to.
void* first_frame(std::byte* top) {
#if defined(__x86_64__)
  constexpr int kRegisters = 6, kReturn = 6;
  auto frame = reinterpret_cast<uintptr_t*>(top) - 8;  // two spare words: begin() finds the stack as a call leaves it
#else
  constexpr int kRegisters = 20, kReturn = 11;
  auto frame = reinterpret_cast<uintptr_t*>(top) - 20;
#endif
  for (int i = 0; i < kRegisters; i++) frame[i] = 0;
  frame[kReturn] = reinterpret_cast<uintptr_t>(&begin);
  return frame;
}

}  // namespace

void switch_to(Context& from, Context& to) {
  leaving = &from, entering = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
  fovea_emulator_switch(&from.stack_pointer, to.stack_pointer);
  arrive(from);
}

Fibre::Fibre(void (*body)(void*), void* argument) {
  const size_t guard = size_t(sysconf(_SC_PAGESIZE));
  void* memory =
      mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, guard, PROT_NONE);
  auto stack = static_cast<std::byte*>(memory) + guard;
  context.stack = stack, context.stack_bytes = kStackBytes;
  context.body = body, context.argument = argument;
  context.stack_pointer = first_frame(stack + kStackBytes);
}
Fibre::~Fibre() {
  const size_t guard = size_t(sysconf(_SC_PAGESIZE));
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(context.stack, context.stack_bytes);
#endif
  munmap(static_cast<std::byte*>(const_cast<void*>(context.stack)) - guard, guard + kStackBytes);
}

}  // namespace fovea::emulator
