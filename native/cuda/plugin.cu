// The plugin that the addon opens at run time: devices, their memory and streams, and the launch of kernels. The CUDA
// runtime is linked statically and finds the driver by itself, so that this file loads on a machine without one and can
// say so.
#include <cstdarg>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "core/check.h"
#include "cuda/families.h"
#include "cuda/kernel.h"

namespace fovea::cuda {
namespace {

GpuStatus refused(const char* code, const char* format, ...) __attribute__((format(printf, 2, 3)));
GpuStatus refused(const char* code, const char* format, ...) {
  GpuStatus status;
  status.code = code;
  va_list list;
  va_start(list, format);
  std::vsnprintf(status.message, sizeof status.message, format, list);
  va_end(list);
  return status;
}

// What the runtime says, with what can be done about it.
GpuStatus explain(cudaError_t error, const char* what) {
  switch (error) {
    case cudaSuccess: return {};
    case cudaErrorMemoryAllocation:
      return refused("FOVEA_OUT_OF_MEMORY", "%s: the device is out of memory; dispose tensors or use smaller ones",
                     what);
    case cudaErrorNoDevice: return refused("FOVEA_DEVICE", "this machine has no NVIDIA GPU that the driver can see");
    case cudaErrorInsufficientDriver: {
      int driver = 0, runtime = 0;
      cudaDriverGetVersion(&driver);
      cudaRuntimeGetVersion(&runtime);
      if (driver == 0)
        return refused("FOVEA_DEVICE", "no NVIDIA driver is installed; install one, or use the device 'cpu'");
      return refused("FOVEA_DEVICE",
                     "the NVIDIA driver supports CUDA %d.%d, but this build needs %d.%d; update the driver",
                     driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    default:
      return refused("FOVEA_DEVICE", "%s: the device was lost (%s: %s); restart the process", what,
                     cudaGetErrorName(error), cudaGetErrorString(error));
  }
}

// Waiting for an event by looking at it is quicker by the time that waking a thread takes; worth it for short waits.
constexpr int kLooks = 2000;

class Device final : public Gpu {
 public:
  Device(int index, const GpuDescription& description, const DeviceLimits& limits)
      : index_(index), description_(description), limits_(limits) {}
  ~Device() override {
    use();
    if (compute_) cudaStreamDestroy(compute_);
    if (copy_) cudaStreamDestroy(copy_);
    for (auto* events : {&events_, &timed_events_})
      for (cudaEvent_t event : *events) cudaEventDestroy(event);
  }
  GpuStatus start() {
    use();
    cudaError_t error = cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&copy_, cudaStreamNonBlocking);
    return explain(error, "open");
  }

  const GpuDescription& description() const override { return description_; }

  std::byte* allocate(size_t bytes) override {
    use();
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) return cudaGetLastError(), nullptr;
    return static_cast<std::byte*>(memory);
  }
  void free(std::byte* memory) override {
    use();
    cudaFree(memory);
  }
  std::byte* allocate_host(size_t bytes) override {
    use();
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess)
      return cudaGetLastError(), nullptr;
    return static_cast<std::byte*>(memory);
  }
  void free_host(std::byte* memory) override {
    use();
    cudaFreeHost(memory);
  }

  GpuKernel find(const char* op) const override { return find_cuda_kernel(op); }
  size_t workspace(GpuKernel kernel, Views in, Views out, const void* attrs) const override {
    auto entry = static_cast<const CudaEntry*>(kernel);
    return entry->workspace ? entry->workspace(in, out, attrs, limits_) : 0;
  }

  GpuStatus launch(GpuKernel kernel, GpuCall& call) override {
    use();
    CudaCall given{call.in,    call.out,         call.workspace,     call.op, limits_, compute_,
                   call.fault, &call.fault_code, &call.fault_message};
    try {
      static_cast<const CudaEntry*>(kernel)->launch(given, call.attrs);
    } catch (const Error& error) {
      return refused(error.code, "%s", error.what());
    } catch (const std::exception& error) { return refused("FOVEA_KERNEL_FAILED", "%s", error.what()); }
    return {};
  }
  GpuStatus upload(std::byte* to, const std::byte* from, size_t bytes) override {
    use();
    cudaEvent_t copied = nullptr;
    cudaError_t error = take_event(events_, &copied);
    if (error == cudaSuccess) error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, copy_);
    if (error == cudaSuccess) error = cudaEventRecord(copied, copy_);
    if (error == cudaSuccess) error = cudaStreamWaitEvent(compute_, copied, 0);
    give_back(events_, copied);  // who waits has taken what was recorded
    return explain(error, "copy to the device");
  }
  GpuStatus download(std::byte* to, const std::byte* from, size_t bytes) override {
    use();
    return explain(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, compute_), "copy from the device");
  }
  GpuStatus mark(GpuMark* mark) override {
    use();
    cudaEvent_t event = nullptr;
    cudaError_t error = take_event(events_, &event);
    if (error == cudaSuccess) error = cudaEventRecord(event, compute_);
    *mark = event;
    return explain(error, "mark");
  }
  GpuStatus time(GpuTime* time) override {
    use();
    cudaEvent_t event = nullptr;
    cudaError_t error = take_event(timed_events_, &event);
    if (error == cudaSuccess) error = cudaEventRecord(event, compute_);
    *time = reinterpret_cast<GpuTime>(event);
    return explain(error, "time");
  }
  GpuStatus wait(GpuMark mark) override {
    use();
    auto event = static_cast<cudaEvent_t>(mark);
    cudaError_t error = cudaErrorNotReady;
    for (int look = 0; look < kLooks && error == cudaErrorNotReady; look++) error = cudaEventQuery(event);
    if (error == cudaErrorNotReady) error = cudaEventSynchronize(event);
    give_back(events_, event);
    return explain(error, "wait");
  }
  GpuStatus elapsed(GpuTime from, GpuTime to, int64_t* nanoseconds) override {
    use();
    float milliseconds = 0;
    cudaError_t error =
        cudaEventElapsedTime(&milliseconds, reinterpret_cast<cudaEvent_t>(from), reinterpret_cast<cudaEvent_t>(to));
    *nanoseconds = int64_t(double(milliseconds) * 1e6);
    return explain(error, "time");
  }
  void give_back(GpuTime time) override { give_back(timed_events_, reinterpret_cast<cudaEvent_t>(time)); }

 private:
  // The runtime keeps the device per thread.
  void use() const {
    int current = -1;
    if (cudaGetDevice(&current) != cudaSuccess || current != index_) cudaSetDevice(index_);
  }
  // From events_ or from timed_events_.
  cudaError_t take_event(std::vector<cudaEvent_t>& from, cudaEvent_t* event) {
    {
      std::lock_guard lock(mutex_);
      if (!from.empty()) {
        *event = from.back();
        from.pop_back();
        return cudaSuccess;
      }
    }
    const unsigned untimed = &from == &events_ ? cudaEventDisableTiming : cudaEventDefault;
    return cudaEventCreateWithFlags(event, cudaEventBlockingSync | untimed);
  }
  void give_back(std::vector<cudaEvent_t>& to, cudaEvent_t event) {
    if (!event) return;
    std::lock_guard lock(mutex_);
    to.push_back(event);
  }

  const int index_;
  const GpuDescription description_;
  const DeviceLimits limits_;
  cudaStream_t compute_ = nullptr, copy_ = nullptr;
  std::mutex mutex_;
  std::vector<cudaEvent_t> events_, timed_events_;
};

constexpr int kOldest = 80;  // of the capabilities that there are kernels for

class Plugin final : public GpuPlugin {
 public:
  const char* version() const override { return FOVEA_VERSION; }

  int count(GpuStatus& status) const override {
    int devices = 0;
    status = explain(cudaGetDeviceCount(&devices), "look for devices");
    if (status.ok() && devices == 0) status = explain(cudaErrorNoDevice, "look for devices");
    return status.ok() ? devices : 0;
  }
  GpuStatus describe(int index, GpuDescription& description) const override {
    DeviceLimits limits;
    return look_at(index, description, limits);
  }
  Gpu* open(int index, GpuStatus& status) const override {
    GpuDescription description;
    DeviceLimits limits;
    int devices = count(status);
    if (!status.ok()) return nullptr;
    if (index < 0 || index >= devices) {
      status = refused("FOVEA_DEVICE", "there is no device cuda:%d, only %d of them; see devices()", index, devices);
      return nullptr;
    }
    if (!(status = look_at(index, description, limits)).ok()) return nullptr;
    if (description.capability < kOldest) {
      status = refused("FOVEA_DEVICE", "cuda:%d (%s) has compute capability %d.%d, but the kernels need 8.0 or newer",
                       index, description.name, description.capability / 10, description.capability % 10);
      return nullptr;
    }
    auto device = std::make_unique<Device>(index, description, limits);
    if (!(status = device->start()).ok()) return nullptr;
    return device.release();
  }

 private:
  static GpuStatus look_at(int index, GpuDescription& description, DeviceLimits& limits) {
    cudaDeviceProp properties;
    GpuStatus status = explain(cudaGetDeviceProperties(&properties, index), "look at the device");
    if (!status.ok()) return status;
    std::snprintf(description.name, sizeof description.name, "%s", properties.name);
    description.capability = properties.major * 10 + properties.minor;
    description.multiprocessors = properties.multiProcessorCount;
    description.memory = properties.totalGlobalMem;
    limits = {description.capability, description.multiprocessors, properties.sharedMemPerBlockOptin,
              size_t(properties.l2CacheSize)};
    return {};
  }
};

}  // namespace
}  // namespace fovea::cuda

extern "C" __attribute__((visibility("default"))) const fovea::GpuPlugin* fovea_cuda_plugin() {
  static const fovea::cuda::Plugin& plugin = *new fovea::cuda::Plugin;  // never destroyed: exits run destructors early
  return &plugin;
}
