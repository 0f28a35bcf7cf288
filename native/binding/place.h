// A device as one environment uses it: its stream and its memory. Number 0 is the CPU, n is GPU n - 1.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "core/cpu_stream.h"
#include "core/device_stream.h"
#include "core/gpu.h"
#include "core/registry.h"

namespace fovea {

class Place {
 public:
  virtual ~Place() = default;
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  virtual Stream& stream() = 0;
  virtual Allocator& allocator() = 0;
  // Throws where the device is gone, which only shows in what its stream has passed.
  virtual void check_lost() const {}
  // What the most memory is that tensors here may take, and how much of it is taken, by whomever.
  virtual size_t limit() const = 0;
  virtual size_t taken() const = 0;

  const uint8_t number;
  const std::string name;  // "cpu", "cuda:0"

 protected:
  Place(uint8_t number, std::string name) : number(number), name(std::move(name)) {}
};

struct StreamHooks {
  std::function<void()> on_progress;
  std::function<bool()> interrupted;
};

class CpuPlace final : public Place {
 public:
  explicit CpuPlace(const StreamHooks& hooks)
      : Place(0, "cpu"), stream_(hooks.on_progress, hooks.interrupted), allocator_([this] { return stream_.done(); }) {}
  CpuStream& stream() override { return stream_; }
  Allocator& allocator() override { return allocator_; }
  size_t limit() const override;
  size_t taken() const override;

 private:
  CpuStream stream_;
  Allocator allocator_;
};

class GpuPlace final : public Place {
 public:
  // Throws FOVEA_DEVICE where the device cannot be opened.
  GpuPlace(uint8_t number, const StreamHooks& hooks);
  DeviceStream& stream() override { return *stream_; }
  Allocator& allocator() override { return *allocator_; }
  size_t limit() const override { return gpu_->description().memory; }
  size_t taken() const override { return allocator_->reserved_bytes(); }
  void check_lost() const override;
  // Host memory that the device copies from and to by itself.
  Allocator& page_locked() { return *page_locked_; }
  Gpu& gpu() { return *gpu_; }
  // nullptr: the plugin has no kernel for the op.
  GpuKernel kernel(const Op& op) const { return kernels_[op.number]; }

  // Marks blocks of page_locked(), whose device is otherwise that of the GPU they serve.
  static constexpr uint8_t kPageLocked = 0x80;

 private:
  class DeviceMemory;
  class HostMemory;

  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<MemorySource> device_memory_, host_memory_;
  std::unique_ptr<Allocator> allocator_, page_locked_;
  std::unique_ptr<DeviceStream> stream_;  // ends first: what runs uses the memory
  std::vector<GpuKernel> kernels_;        // by number of the op
};

// "cpu", "cuda:0", ...
std::string place_name(uint8_t number);

}  // namespace fovea
