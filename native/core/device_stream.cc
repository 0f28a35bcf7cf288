#include "core/device_stream.h"

#include <cstring>
#include <utility>

#include "core/check.h"
#include "core/park.h"
#include "cpu/thread_pool.h"

namespace fovea {
namespace {

constexpr int kCommandsPerMark = 32;  // a mark costs as much as a launch, but nothing before it is retired without one
constexpr int64_t kFarNs = 1'000'000'000;  // a difference this long is in float32 exact to less than 0.1 us
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
  bool timing = false;
  for (int since_mark = 0; !stopping();) {
    if (!has_work(launched)) {
      if (marked != launched) set_mark(marked = launched), since_mark = 0;
      sleep_until_work(launched);
      continue;
    }
    Command& command = at(launched);
    if (command.run && times(launched)) [[unlikely]]
      launch_timed(command, launched + command.bytes, timing ? Reference{} : read_clocks()), timing = true;
    else if (command.run) timing = false, command.run(command, *this);
    launched += command.bytes;
    if (command.notify || ++since_mark == kCommandsPerMark) set_mark(marked = launched), since_mark = 0;
  }
}

void DeviceStream::launch_timed(Command& command, uint64_t position, Reference reference) {
  Timed timed{position, nullptr, nullptr, reference};
  bool begun = gpu_.time(&timed.begin).ok();
  command.run(command, *this);
  if (begun) gpu_.time(&timed.end);
  std::lock_guard lock(mutex_);
  timed_.push_back(timed);
}

// Waits once, until the device has nothing to do.
DeviceStream::Reference DeviceStream::read_clocks() {
  Reference reference;
  GpuMark mark = nullptr;
  if (!gpu_.time(&reference.time).ok()) return {};
  if (gpu_.mark(&mark).ok() && gpu_.wait(mark).ok()) reference.ns = clock_ns();
  return reference;
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

// Of commands before `until`, which the device has passed.
void DeviceStream::take_timings(uint64_t until) {
  for (;;) {
    Timed timed;
    {
      std::lock_guard lock(mutex_);
      if (timed_.empty() || timed_.front().position > until) return;
      timed = timed_.front();
      timed_.pop_front();
    }
    if (timed.reference.time) {
      gpu_.give_back(reference_.time);
      reference_ = timed.reference;
    }
    Timing timing{timed.position, 0, 0};
    int64_t took = 0;
    bool known = timed.end && gpu_.elapsed(timed.begin, timed.end, &took).ok() && place(timed.begin, timing.begin);
    timing.end = timing.begin + took;
    if (known) note_timing(timing);
    if (known && timing.begin - reference_.ns > kFarNs) {
      std::swap(reference_.time, timed.begin);
      reference_.ns = timing.begin;
    }
    gpu_.give_back(timed.begin);
    gpu_.give_back(timed.end);
  }
}

// On the host's clock.
bool DeviceStream::place(GpuTime time, int64_t& ns) {
  int64_t since = 0;
  if (!reference_.ns || !gpu_.elapsed(reference_.time, time, &since).ok()) return false;
  ns = reference_.ns + since;
  return true;
}

void DeviceStream::retire_commands() {
  uint64_t head = 0;
  for (Mark mark; next_mark(mark);) {
    GpuStatus status = mark.status.ok() ? gpu_.wait(mark.mark) : mark.status;
    if (!status.ok() && !lost_)
      lost_ = std::make_shared<const KernelFailure>(KernelFailure{status.code, status.message});
    take_timings(mark.position);
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
  for (const Timed& timed : timed_)
    for (GpuTime time : {timed.begin, timed.end, timed.reference.time}) gpu_.give_back(time);
  timed_.clear();
  gpu_.give_back(reference_.time);
  if (gpu_.mark(&last).ok()) gpu_.wait(last);
  discard_rest();
}

}  // namespace fovea
