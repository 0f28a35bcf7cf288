#include "core/gpu_plugin.h"

#include <atomic>
#include <cstring>
#include <mutex>

#include "core/check.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace fovea {
namespace {

std::atomic<const GpuPlugin*> opened{nullptr};

#if !defined(_WIN32)
// Never closed: threads of any environment may be inside of it.
const GpuPlugin& open_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = dlerror();
    fail("FOVEA_BINARY", "cuda: ", path, " cannot be opened: ", reason ? reason : "no reason is given");
  }
  auto entry = reinterpret_cast<GpuPluginEntry>(dlsym(library, kGpuPluginEntry));
  if (!entry) fail("FOVEA_BINARY", "cuda: ", path, " is no plugin of fovea; it has no ", kGpuPluginEntry);
  const GpuPlugin* plugin = entry();
  if (std::strcmp(plugin->version(), FOVEA_VERSION) != 0)
    fail("FOVEA_BINARY", "cuda: ", path, " is version ", plugin->version(), ", but the addon is ", FOVEA_VERSION,
         "; install matching versions, or run `npx fovea build`");
  return *plugin;
}
#else
const GpuPlugin& open_library(const std::string&) {
  fail("FOVEA_BINARY", "cuda: there is no plugin for Windows; use the device 'cpu'");
}
#endif

}  // namespace

const GpuPlugin& gpu_plugin(const std::string& path) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (!opened.load()) opened.store(&open_library(path));
  return *opened.load();
}

const GpuPlugin& gpu_plugin() {
  const GpuPlugin* plugin = opened.load();
  if (!plugin) fail("FOVEA_DEVICE", "cuda: no plugin was opened; see devices()");
  return *plugin;
}

}  // namespace fovea
