// The CPU's stream: one thread that runs the commands, each over the pool of threads that all streams share.
#pragma once
#include <thread>

#include "core/stream.h"
#include "cpu/thread_pool.h"

namespace fovea {

class CpuStream final : public Stream {
 public:
  CpuStream(std::function<void()> on_progress, std::function<bool()> interrupted);
  ~CpuStream() override { stop(); }

  void request_stop() override;
  void join() override;

  int threads() const { return lane_.threads(); }
  Parallel& parallel() { return lane_; }
  // The stream that runs a command, which is one of the CPU's.
  static CpuStream& of(Stream& stream) { return static_cast<CpuStream&>(stream); }

 private:
  void consume();
  void run_timed(Command& command, uint64_t position);

  Lane lane_;
  std::thread thread_;
};

}  // namespace fovea
