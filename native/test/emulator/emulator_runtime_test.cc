// The host side of the emulated device: memory, devices, and the failures that can be asked for.
#include <cuda_runtime.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "test/harness.h"

namespace fovea::test {
namespace {

// Sets a variable of the environment for as long as it lives.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    if (const char* text = std::getenv(name)) before_ = text, was_set_ = true;
    setenv(name, value, 1);
  }
  ~Setting() {
    if (was_set_) setenv(name_, before_.c_str(), 1);
    else unsetenv(name_);
  }

 private:
  const char* name_;
  std::string before_;
  bool was_set_ = false;
};

}  // namespace

FOVEA_TEST(emulator_runtime_memory) {
  Setting memory("FOVEA_EMULATOR_MEMORY_MB", "3");
  float *a = nullptr, *b = nullptr, *c = nullptr;
  size_t available = 0, total = 0;
  FOVEA_CHECK(cudaMalloc(&a, 2 << 20) == cudaSuccess && a, "refused");
  FOVEA_CHECK(std::isnan(a[12345]), "not poisoned");
  FOVEA_CHECK(cudaMemGetInfo(&available, &total) == cudaSuccess && total == 3u << 20 && available == 1u << 20, "%zu",
              available);
  FOVEA_CHECK(cudaMalloc(&b, 2 << 20) == cudaErrorMemoryAllocation && !b, "more than there is");
  FOVEA_CHECK(cudaPeekAtLastError() == cudaErrorMemoryAllocation, "forgotten");
  FOVEA_CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess, "not cleared");
  FOVEA_CHECK(cudaHostAlloc(&c, 4 << 20, cudaHostAllocPortable) == cudaSuccess, "memory of the host is not counted");
  c[5] = 7;
  FOVEA_CHECK(cudaMemcpyAsync(a, c, 64, cudaMemcpyHostToDevice) == cudaSuccess && a[5] == 7, "not copied");
  FOVEA_CHECK(cudaMemsetAsync(a, 0, 64) == cudaSuccess && a[5] == 0, "not set");
  FOVEA_CHECK(cudaFree(c) == cudaErrorInvalidValue && cudaFreeHost(a) == cudaErrorInvalidValue, "the wrong kind");
  FOVEA_CHECK(cudaFree(a) == cudaSuccess && cudaFreeHost(c) == cudaSuccess && cudaFree(nullptr) == cudaSuccess, "kept");
  FOVEA_CHECK(cudaFree(a) == cudaErrorInvalidValue, "freed twice");
  cudaGetLastError();
}

FOVEA_TEST(emulator_runtime_devices) {
  int count = 0, value = 0;
  cudaDeviceProp properties;
  {
    Setting two("FOVEA_EMULATOR_DEVICES", "2"), old("FOVEA_EMULATOR_CAPABILITY", "86");
    FOVEA_CHECK(cudaGetDeviceCount(&count) == cudaSuccess && count == 2, "%d", count);
    FOVEA_CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice && cudaSetDevice(1) == cudaSuccess, "set");
    FOVEA_CHECK(cudaGetDevice(&value) == cudaSuccess && value == 1, "%d", value);
    FOVEA_CHECK(cudaGetDeviceProperties(&properties, 1) == cudaSuccess, "no properties");
    FOVEA_CHECK(properties.major == 8 && properties.minor == 6 && properties.sharedMemPerBlockOptin == 99u << 10,
                "%d.%d", properties.major, properties.minor);
    FOVEA_CHECK(cudaDeviceCanAccessPeer(&value, 0, 1) == cudaSuccess && value, "peers");
    cudaSetDevice(0);
  }
  for (auto [failure, error] :
       {std::pair("no-driver", cudaErrorInsufficientDriver), std::pair("old-driver", cudaErrorInsufficientDriver),
        std::pair("no-device", cudaErrorNoDevice)}) {
    Setting fails("FOVEA_EMULATOR_FAIL", failure);
    count = 1;
    FOVEA_CHECK(cudaGetDeviceCount(&count) == error && count == 0, "%s", failure);
    FOVEA_CHECK(cudaDriverGetVersion(&value) == cudaSuccess, "%s", failure);
    FOVEA_CHECK((value == 0) == (std::string(failure) == "no-driver") && value <= 13000, "%s: %d", failure, value);
  }
  FOVEA_CHECK(std::string(cudaGetErrorName(cudaErrorNoDevice)) == "cudaErrorNoDevice", "name");
  cudaGetLastError();
}

FOVEA_TEST(emulator_runtime_streams) {
  cudaStream_t stream;
  cudaEvent_t event;
  FOVEA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "stream");
  FOVEA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess, "event");
  FOVEA_CHECK(cudaEventRecord(event, stream) == cudaSuccess && cudaStreamWaitEvent(stream, event) == cudaSuccess &&
                  cudaEventQuery(event) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess,
              "order");
  FOVEA_CHECK(cudaEventDestroy(event) == cudaSuccess && cudaStreamDestroy(stream) == cudaSuccess, "kept");
}

// In a process of its own, since a lost device stays lost.
FOVEA_TEST(emulator_runtime_lost_device) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    int ran = 0, count = 0, mistakes = 0;
    auto kernel = [&] { ran++; };
    setenv("FOVEA_EMULATOR_FAIL", "lost-at:1", 1);
    mistakes += cudaGetDeviceCount(&count) != cudaSuccess;
    emulator::launch(1, 1, 0, 1, kernel);  // fails where nobody notices
    mistakes += ran != 0;
    mistakes += cudaDeviceSynchronize() != cudaErrorLaunchFailure || cudaGetLastError() != cudaErrorLaunchFailure;
    void* memory = nullptr;
    mistakes += cudaMalloc(&memory, 16) != cudaErrorLaunchFailure;
    try {
      emulator::launch(1, 1, 0, 1, kernel);
      mistakes++;
    } catch (const std::runtime_error&) {}
    _exit(mistakes);
  }
  int status = -1;
  waitpid(child, &status, 0);
  FOVEA_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d mistakes", WEXITSTATUS(status));
}

}  // namespace fovea::test
