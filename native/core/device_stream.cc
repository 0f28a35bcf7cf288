#include "core/device_stream.h"

#include <cstring>

#include "core/check.h"
#include "core/park.h"
#include "cpu/thread_pool.h"

namespace fovea {
namespace {

constexpr int kCommandsPerMark = 32;  // a mark costs as much as a launch, but nothing before it is retired without one
constexpr size_t kFaults = Stream::kCapacity / alignof(Command);  // one for every place where a record may start

}  // namespace

DeviceStream::DeviceStream(Gpu& gpu, std::function<void()> on_progress, std::function<bool()> interrupted)
    : Stream(std::move(on_progress), std::move(interrupted)), gpu_(gpu) {
  std::byte* memory = gpu_.allocate_host(kFaults * sizeof(Fault));
  if (!memory) fail("FOVEA_OUT_OF_MEMORY", "cuda: there is no page-locked memory for the queue; free some host memory");
  std::memset(memory, 0, kFaults * sizeof(Fault));
  faults_ = reinterpret_cast<Fault*>(memory);
  launcher_ = std::thread([this] { launch_commands(); });
  retirer_ = std::thread([this] { retire_commands(); });
}

DeviceStream::~DeviceStream() {
  stop();
  gpu_.free_host(reinterpret_cast<std::byte*>(faults_));
}

Fault* DeviceStream::fault_of(const Command& command) const {
  const auto* first = reinterpret_cast<const std::byte*>(&at(0));
  return faults_ + size_t(reinterpret_cast<const std::byte*>(&command) - first) / alignof(Command);
}

// ---- launching

void DeviceStream::launch_commands() {
  uint64_t launched = 0, marked = 0;
  for (int since_mark = 0; !stopping();) {
    if (!has_work(launched)) {
      if (marked != launched) set_mark(marked = launched), since_mark = 0;
      sleep_until_work(launched);
      continue;
    }
    Command& command = at(launched);
    if (command.run) command.run(command, *this);
    launched += command.bytes;
    if (command.notify || ++since_mark == kCommandsPerMark) set_mark(marked = launched), since_mark = 0;
  }
}

void DeviceStream::set_mark(uint64_t position) {
  Mark mark{position, nullptr, {}};
  mark.status = gpu_.mark(&mark.mark);
  {
    std::lock_guard lock(mutex_);
    marks_.push_back(mark);
  }
  marks_set_.fetch_add(1);
  unpark(marks_set_);
}

// ---- retiring

bool DeviceStream::next_mark(Mark& mark) {
  while (!stopping()) {
    uint32_t seen = marks_set_.load();
    {
      std::lock_guard lock(mutex_);
      if (!marks_.empty()) {
        mark = marks_.front();
        marks_.pop_front();
        return true;
      }
    }
    park(marks_set_, seen);
  }
  return false;
}

void DeviceStream::retire_commands() {
  uint64_t head = 0;
  for (Mark mark; next_mark(mark);) {
    GpuStatus status = mark.status.ok() ? gpu_.wait(mark.mark) : mark.status;
    if (!status.ok() && !lost_)
      lost_ = std::make_shared<const KernelFailure>(KernelFailure{status.code, status.message});
    while (head < mark.position) {
      Command& command = at(head);
      uint32_t bytes = command.bytes;
      bool notify = command.notify;
      if (command.retire) command.retire(command, *this);
      head += bytes;
      pass(head, notify);
    }
  }
}

// ---- the end

void DeviceStream::request_stop() {
  Stream::request_stop();
  marks_set_.fetch_add(1);
  unpark(marks_set_);
}

// What was launched still uses the memory of its commands' blocks, so the device must be through with it.
void DeviceStream::join() {
  if (!launcher_.joinable()) return;
  if (after_fork()) return launcher_.detach(), retirer_.detach();
  launcher_.join();
  retirer_.join();
  GpuMark last = nullptr;
  for (const Mark& mark : marks_)
    if (mark.status.ok()) gpu_.wait(mark.mark);
  marks_.clear();
  if (gpu_.mark(&last).ok()) gpu_.wait(last);
  discard_rest();
}

}  // namespace fovea
