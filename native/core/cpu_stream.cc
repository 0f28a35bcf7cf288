#include "core/cpu_stream.h"

#include "core/park.h"

namespace fovea {

CpuStream::CpuStream(std::function<void()> on_progress, std::function<bool()> interrupted)
    : Stream(std::move(on_progress), std::move(interrupted)), lane_(ThreadPool::acquire()) {
  thread_ = std::thread([this] { consume(); });
}

void CpuStream::consume() {
  lower_priority();
  for (uint64_t head = 0; !stopping();) {
    if (!has_work(head)) {
      sleep_until_work(head);
      continue;
    }
    Command& command = at(head);
    uint32_t bytes = command.bytes;
    bool notify = command.notify;
    if (times(head)) [[unlikely]]
      run_timed(command, head + bytes);
    else if (command.run) command.run(command, *this);
    head += bytes;
    pass(head, notify);
  }
}

void CpuStream::run_timed(Command& command, uint64_t position) {
  if (!command.run) return;
  int64_t begin = clock_ns();
  command.run(command, *this);
  note_timing({position, begin, clock_ns()});
}

void CpuStream::request_stop() {
  lane_.cancel();
  Stream::request_stop();
}

void CpuStream::join() {
  if (!thread_.joinable()) return;
  if (after_fork()) return thread_.detach();
  thread_.join();
  discard_rest();
}

}  // namespace fovea
