// Opens the plugin with the GPU's kernels, once per process.
#pragma once
#include <string>

#include "core/gpu.h"

namespace fovea {

// Throws FOVEA_BINARY where the file cannot be opened, is no plugin, or is of another version; a second call gives what
// the first opened, whatever the path.
const GpuPlugin& gpu_plugin(const std::string& path);
// The one that was opened. Throws FOVEA_DEVICE where none was.
const GpuPlugin& gpu_plugin();

}  // namespace fovea
