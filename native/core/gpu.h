// What a GPU offers, behind one interface. It is implemented in a plugin of its own (native/cuda/plugin.cu) that is
// opened at run time, so that the addon loads where there is no driver. Plain data crosses the border: nothing is
// thrown, and no memory is handed over but through this interface.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/kernel.h"

namespace fovea {

// Why a call failed; without a code, it did not.
struct GpuStatus {
  const char* code = nullptr;  // one of the codes of src/errors.ts
  char message[480] = {};
  bool ok() const { return code == nullptr; }
};

// Where a kernel leaves word of what it found in the data, in memory that host and device both see. Any of the threads
// that raise it wins.
struct Fault {
  volatile int64_t raised;
  volatile int64_t value[3];
};

struct GpuDescription {
  char name[256];
  int capability;  // 90 for compute capability 9.0
  int multiprocessors;
  uint64_t memory;  // bytes
};

// One call of a kernel, in device memory.
struct GpuCall {
  Views in, out;
  std::byte* workspace;
  const char* op;
  const void* attrs;
  Fault* fault;
  // Of the failure that the kernel may raise: its code, and a message with a %lld for each value. Set by launch().
  const char* fault_code;
  const char* fault_message;
};

using GpuKernel = const void*;
using GpuMark = void*;
using GpuTime = struct GpuTimeEvent*;

// One device, opened by one environment. Which thread may call what stands behind each part.
class Gpu {
 public:
  virtual ~Gpu() = default;
  virtual const GpuDescription& description() const = 0;

  // ---- any thread
  virtual std::byte* allocate(size_t bytes) = 0;  // nullptr: there is no such memory
  virtual void free(std::byte* memory) = 0;
  virtual std::byte* allocate_host(size_t bytes) = 0;  // memory that the device can copy from and to by itself
  virtual void free_host(std::byte* memory) = 0;
  virtual GpuKernel find(const char* op) const = 0;  // nullptr: no such kernel
  virtual size_t workspace(GpuKernel kernel, Views in, Views out, const void* attrs) const = 0;

  // ---- the thread that launches; nothing here waits for the device
  virtual GpuStatus launch(GpuKernel kernel, GpuCall& call) = 0;
  // Beside what is computed; what is launched from now on finds it done. `to` must be memory that nothing uses.
  virtual GpuStatus upload(std::byte* to, const std::byte* from, size_t bytes) = 0;
  virtual GpuStatus download(std::byte* to, const std::byte* from, size_t bytes) = 0;  // after what was launched so far
  virtual GpuStatus mark(GpuMark* mark) = 0;  // a point in the order of launches
  virtual GpuStatus time(GpuTime* time) = 0;  // the same, of which the device notes when it passes it

  // ---- either of these two threads
  virtual GpuStatus wait(GpuMark mark) = 0;  // until the device has passed it; the mark is gone then

  // ---- the thread that retires
  // Nanoseconds between two points that the device has passed; to about half a microsecond, if it is no more than
  // seconds.
  virtual GpuStatus elapsed(GpuTime from, GpuTime to, int64_t* nanoseconds) = 0;
  virtual void give_back(GpuTime time) = 0;
};

class GpuPlugin {
 public:
  virtual ~GpuPlugin() = default;
  virtual const char* version() const = 0;
  // How many devices there are. When there is none, `status` says why.
  virtual int count(GpuStatus& status) const = 0;
  virtual GpuStatus describe(int index, GpuDescription& description) const = 0;
  virtual Gpu* open(int index, GpuStatus& status) const = 0;  // nullptr: `status` says why
};

// The one function that the plugin exports.
using GpuPluginEntry = const GpuPlugin* (*)();
constexpr const char* kGpuPluginEntry = "fovea_cuda_plugin";

}  // namespace fovea
