// A GPU's stream. One thread launches the commands, a second one retires them, both in the order of the queue: the
// device works behind the first and before the second. A command stays in the ring until it is retired, and only then
// is it known whether its kernel met something in its data that it does not take; so failures spread from op to op as
// they do on the CPU, and exactly the reads of what depends on one are rejected.
//
// Timed commands lie between two points whose time the device notes itself. Those are set on the host's clock by one
// point that both have seen, and then by those that follow it, since the device gives differences alone, and long ones
// roughly.
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
  // A point of the device's time on the host's clock.
  struct Reference {
    GpuTime time = nullptr;
    int64_t ns = 0;
  };
  // A command that is timed, between launch and retirement.
  struct Timed {
    uint64_t position;
    GpuTime begin, end;
    Reference reference;  // to be used from here on, if there is one
  };
  void launch_commands();
  void launch_timed(Command& command, uint64_t position, Reference reference);
  Reference read_clocks();
  void set_mark(uint64_t position);
  void retire_commands();
  bool next_mark(Mark& mark);
  void take_timings(uint64_t until);
  bool place(GpuTime time, int64_t& ns);

  Gpu& gpu_;
  Fault* faults_ = nullptr;
  std::mutex mutex_;
  std::deque<Mark> marks_;
  std::deque<Timed> timed_;
  Reference reference_;  // of the thread that retires
  std::atomic<uint32_t> marks_set_{0};
  Failure lost_;
  std::thread launcher_, retirer_;
};

}  // namespace fovea
