// What the machine, or the container we run in, grants this process.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace fovea {

// FOVEA_NUM_THREADS if set, else the least of what the CPU affinity and the cgroup quotas (v1 and v2) allow; at
// least 1.
int thread_count();

// FOVEA_MEMORY_LIMIT_MB if set, else seven eighths of physical memory or of the cgroup limit, whichever is smaller: the
// rest is for Node itself.
size_t default_memory_limit();

// Instruction set extensions that matter to the kernels, as /proc/cpuinfo spells them.
std::vector<std::string> cpu_features();

}  // namespace fovea
