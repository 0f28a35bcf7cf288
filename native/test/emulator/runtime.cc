#include "test/emulator/runtime.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>

struct FoveaEmulatorStream {
  int device;
};
struct FoveaEmulatorEvent {
  std::chrono::steady_clock::time_point recorded;
};

namespace {

constexpr size_t kAlignment = 256;
constexpr int kPoison = 0xff;
constexpr int kDriverVersion = 13000;

struct Allocation {
  size_t bytes;
  int device;
};
struct State {
  std::mutex mutex;
  std::unordered_map<void*, Allocation> memory;
  std::unordered_map<int, size_t> used;  // bytes per device
};
State& state() {
  static State all;
  return all;
}
std::atomic<int64_t> launches{0};
std::atomic<bool> lost{false};
thread_local int device_of_thread = 0;
thread_local cudaError_t last_error = cudaSuccess;

int64_t setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoll(text, nullptr, 10) : otherwise;
}
std::string planned_failure() {
  const char* text = std::getenv("FOVEA_EMULATOR_FAIL");
  return text ? text : "";
}
int devices() { return int(setting("FOVEA_EMULATOR_DEVICES", 1)); }
size_t memory_of_device() { return size_t(setting("FOVEA_EMULATOR_MEMORY_MB", 4096)) << 20; }

// What every call returns through: remembers errors, and a lost device stays lost.
cudaError_t done(cudaError_t error = cudaSuccess) {
  if (lost) error = cudaErrorLaunchFailure;
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}
cudaError_t check_devices() {
  const std::string failure = planned_failure();
  if (failure == "no-driver" || failure == "old-driver") return cudaErrorInsufficientDriver;
  return failure == "no-device" || devices() == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t check_device(int device) {
  if (cudaError_t error = check_devices()) return error;
  return device < 0 || device >= devices() ? cudaErrorInvalidDevice : cudaSuccess;
}

cudaError_t allocate(void** pointer, size_t bytes, int device) {
  *pointer = nullptr;
  if (bytes == 0) return done();
  std::lock_guard lock(state().mutex);
  if (device >= 0 && state().used[device] + bytes > memory_of_device()) return done(cudaErrorMemoryAllocation);
  void* made = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (!made) return done(cudaErrorMemoryAllocation);
  std::memset(made, kPoison, bytes);
  state().memory[made] = {bytes, device};
  if (device >= 0) state().used[device] += bytes;
  *pointer = made;
  return done();
}
cudaError_t release(void* pointer, bool of_host) {
  if (!pointer) return done();
  std::lock_guard lock(state().mutex);
  auto found = state().memory.find(pointer);
  if (found == state().memory.end() || (found->second.device < 0) != of_host) return done(cudaErrorInvalidValue);
  if (!of_host) state().used[found->second.device] -= found->second.bytes;
  state().memory.erase(found);
  std::free(pointer);
  return done();
}

}  // namespace

namespace fovea::emulator {

int capability() { return int(setting("FOVEA_EMULATOR_CAPABILITY", 90)); }
size_t shared_limit_of(int capability) {
  size_t kilobytes = capability >= 120 ? 99 : capability >= 90 ? 227 : capability == 80 || capability == 87 ? 163 : 99;
  return kilobytes << 10;
}
bool note_launch() {
  if (lost) throw std::runtime_error(std::string("the device refused the launch: ") + cudaGetErrorString(done()));
  const int64_t number = ++launches;
  const std::string failure = planned_failure();
  if (failure.rfind("lost-at:", 0) != 0 || number < std::atoll(failure.c_str() + 8)) return true;
  lost = true;
  return false;
}

}  // namespace fovea::emulator

// ---- errors

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};
const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& each : kErrors)
    if (each.error == error) return each.text;
  return "unrecognized error code";
}
const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& each : kErrors)
    if (each.error == error) return each.name;
  return "unrecognized error code";
}
cudaError_t cudaGetLastError() {
  cudaError_t error = done(last_error);
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return done(last_error); }

// ---- devices

cudaError_t cudaDriverGetVersion(int* version) {
  const std::string failure = planned_failure();
  *version = failure == "no-driver" ? 0 : failure == "old-driver" ? 11000 : kDriverVersion;
  return done();
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kDriverVersion;
  return done();
}
cudaError_t cudaGetDeviceCount(int* count) {
  cudaError_t error = check_devices();
  *count = error == cudaSuccess ? devices() : 0;
  return done(error);
}
cudaError_t cudaSetDevice(int device) {
  cudaError_t error = check_device(device);
  if (error == cudaSuccess) device_of_thread = device;
  return done(error);
}
cudaError_t cudaGetDevice(int* device) {
  *device = device_of_thread;
  return done(check_devices());
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (cudaError_t error = check_device(device)) return done(error);
  const int capability = fovea::emulator::capability();
  cudaDeviceProp p = {};
  std::snprintf(p.name, sizeof p.name, "CUDA emulator sm_%d", capability);
  p.totalGlobalMem = memory_of_device();
  p.sharedMemPerBlock = 48u << 10, p.sharedMemPerBlockOptin = fovea::emulator::shared_limit_of(capability);
  p.sharedMemPerMultiprocessor = p.sharedMemPerBlockOptin + 1024;
  p.warpSize = 32, p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiProcessor = 2048, p.regsPerBlock = 65536;
  p.major = capability / 10, p.minor = capability % 10, p.multiProcessorCount = 4;
  p.l2CacheSize = 4 << 20, p.memoryBusWidth = 512, p.pciBusID = device + 1;
  p.unifiedAddressing = p.canMapHostMemory = p.concurrentKernels = 1;
  *properties = p;
  return done();
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (cudaError_t error = cudaGetDeviceProperties(&p, device)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = int(p.sharedMemPerBlock); break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(p.sharedMemPerBlockOptin); break;
    default: return done(cudaErrorInvalidValue);
  }
  return done();
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (cudaError_t error = check_device(device)) return done(error);
  std::snprintf(text, size_t(length), "0000:%02X:00.0", unsigned(device + 1));
  return done();
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = device != peer;
  cudaError_t error = check_device(device);
  return done(error ? error : check_device(peer));
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) { return done(check_device(peer)); }
cudaError_t cudaDeviceSynchronize() { return done(check_devices()); }

// ---- memory

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (cudaError_t error = check_devices()) return done(error);
  return allocate(pointer, bytes, device_of_thread);
}
cudaError_t cudaFree(void* pointer) { return release(pointer, false); }
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) { return allocate(pointer, bytes, -1); }
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return allocate(pointer, bytes, -1); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer, true); }
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return done();
}
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  if (cudaError_t error = check_devices()) return done(error);
  std::lock_guard lock(state().mutex);
  *total = memory_of_device();
  const size_t used = state().used[device_of_thread];
  *available = *total > used ? *total - used : 0;
  return done();
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (!lost && bytes) std::memcpy(to, from, bytes);
  return done();
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream);
}
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
  if (!lost && bytes) std::memset(at, value, bytes);
  return done();
}
cudaError_t cudaMemset(void* at, int value, size_t bytes) { return cudaMemsetAsync(at, value, bytes); }

// ---- streams and events: whatever was asked for has been done already

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (cudaError_t error = check_devices()) return done(error);
  *stream = new FoveaEmulatorStream{device_of_thread};
  return done();
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return done();
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return done(); }
cudaError_t cudaStreamQuery(cudaStream_t) { return done(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return done(); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (cudaError_t error = check_devices()) return done(error);
  *event = new FoveaEmulatorEvent{};
  return done();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return done();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->recorded = std::chrono::steady_clock::now();
  return done();
}
cudaError_t cudaEventQuery(cudaEvent_t) { return done(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return done(); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->recorded - from->recorded).count();
  return done();
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return done(); }
