// A GPU's stream. One thread launches the commands, a second one retires them, both in the order of the queue: the
// device works behind the first and before the second. A command stays in the ring until it is retired, and only then
// is it known whether its kernel met something in its data that it does not take; so failures spread from op to op as
// they do on the CPU, and exactly the reads of what depends on one are rejected.
#pragma once
#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

#include "core/failure.h"
#include "core/gpu.h"
#include "core/stream.h"

namespace fovea {

class DeviceStream final : public Stream {
 public:
  // Throws FOVEA_OUT_OF_MEMORY where there is no memory for the faults.
  DeviceStream(Gpu& gpu, std::function<void()> on_progress, std::function<bool()> interrupted);
  ~DeviceStream() override;

  void request_stop() override;
  void join() override;

  Gpu& gpu() const { return gpu_; }
  static DeviceStream& of(Stream& stream) { return static_cast<DeviceStream&>(stream); }
  // The place for the fault of a command that is in the ring.
  Fault* fault_of(const Command& command) const;
  // From retire(): why the device is lost, nullptr while it is not.
  const Failure& lost() const { return lost_; }

 private:
  struct Mark {
    uint64_t position;  // of the ring, where the mark was set
    GpuMark mark;
    GpuStatus status;
  };
  void launch_commands();
  void set_mark(uint64_t position);
  void retire_commands();
  bool next_mark(Mark& mark);

  Gpu& gpu_;
  Fault* faults_ = nullptr;
  std::mutex mutex_;
  std::deque<Mark> marks_;
  std::atomic<uint32_t> marks_set_{0};
  Failure lost_;
  std::thread launcher_, retirer_;
};

}  // namespace fovea
