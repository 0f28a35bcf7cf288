#include "binding/place.h"

#include "core/budget.h"
#include "core/check.h"
#include "core/gpu_plugin.h"

namespace fovea {

std::string place_name(uint8_t number) { return number == 0 ? "cpu" : "cuda:" + std::to_string(number - 1); }

size_t CpuPlace::limit() const { return Budget::process().limit(); }
size_t CpuPlace::taken() const { return Budget::process().taken(); }

class GpuPlace::DeviceMemory final : public MemorySource {
 public:
  explicit DeviceMemory(Gpu& gpu) : gpu_(gpu) {}
  std::byte* map(size_t bytes) override { return gpu_.allocate(bytes); }
  void unmap(std::byte* memory, size_t) override { gpu_.free(memory); }

 private:
  Gpu& gpu_;
};

// Counts against the memory of the process.
class GpuPlace::HostMemory final : public MemorySource {
 public:
  explicit HostMemory(Gpu& gpu) : gpu_(gpu) {}
  std::byte* map(size_t bytes) override {
    if (!Budget::process().take(bytes)) return nullptr;
    std::byte* memory = gpu_.allocate_host(bytes);
    if (!memory) Budget::process().give_back(bytes);
    return memory;
  }
  void unmap(std::byte* memory, size_t bytes) override {
    gpu_.free_host(memory);
    Budget::process().give_back(bytes);
  }

 private:
  Gpu& gpu_;
};

void GpuPlace::check_lost() const {
  if (const Failure& lost = stream_->lost()) fail(lost->code, name, ": ", lost->message);
}

GpuPlace::GpuPlace(uint8_t number, const StreamHooks& hooks) : Place(number, place_name(number)) {
  GpuStatus status;
  gpu_.reset(gpu_plugin().open(number - 1, status));
  if (!gpu_) fail(status.code, status.message);
  device_memory_ = std::make_unique<DeviceMemory>(*gpu_);
  host_memory_ = std::make_unique<HostMemory>(*gpu_);
  auto done = [this] { return stream_->done(); };
  allocator_ = std::make_unique<Allocator>(done, *device_memory_, number);
  page_locked_ = std::make_unique<Allocator>(done, *host_memory_, uint8_t(number | kPageLocked));
  for (auto& op : registry().ops()) kernels_.push_back(gpu_->find(op->name.c_str()));
  stream_ = std::make_unique<DeviceStream>(*gpu_, hooks.on_progress, hooks.interrupted);
}

}  // namespace fovea
