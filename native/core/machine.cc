#include "core/machine.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <thread>

#include "core/check.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(_WIN32)
#include <windows.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace fovea {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();
constexpr int kMaxThreads = 1024;

// A positive number in an environment variable; 0 when it is not set.
double number_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return 0;
  char* end = nullptr;
  double value = std::strtod(text, &end);
  if (*end || !(value >= 1) || !std::isfinite(value))
    fail("FOVEA_ARGUMENT", name, " is \"", text, "\"; expected a number of at least 1");
  return value;
}

#if defined(__linux__)
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// A limit holds for a group and all below it, so the least along the way to the root counts. Inside a container the
// path that /proc names need not be visible; then what is mounted at the root is our own group.
double least_along(const std::string& root, std::string path,
                   const std::function<double(const std::string& folder)>& limit) {
  double least = limit(root);
  while (path.size() > 1) {
    least = std::min(least, limit(root + path));
    path.resize(path.rfind('/'));
  }
  return least;
}

struct Controller {
  const char* name;  // as /proc/self/cgroup lists it (v1)
  double (*v1)(const std::string& folder);
  double (*v2)(const std::string& folder);
};

double parse_or(const std::string& text, double otherwise) {
  double value = otherwise;
  std::istringstream(text) >> value;
  return value > 0 ? value : otherwise;
}
const Controller kCpuTime{
    "cpu",
    [](const std::string& folder) {
      double quota = parse_or(first_line(folder + "/cpu.cfs_quota_us"), kUnlimited);
      return quota / parse_or(first_line(folder + "/cpu.cfs_period_us"), 100000);
    },
    [](const std::string& folder) {
      std::istringstream line(first_line(folder + "/cpu.max"));
      std::string quota, period;
      line >> quota >> period;
      return quota.empty() || quota == "max" ? kUnlimited : parse_or(quota, kUnlimited) / parse_or(period, 100000);
    }};
const Controller kMemory{
    "memory",
    [](const std::string& folder) { return parse_or(first_line(folder + "/memory.limit_in_bytes"), kUnlimited); },
    [](const std::string& folder) {
      std::string text = first_line(folder + "/memory.max");
      return text == "max" ? kUnlimited : parse_or(text, kUnlimited);
    }};

// /proc/self/cgroup has lines "<number>:<controllers>:<path>"; no controllers means version 2.
double cgroup_limit(const Controller& controller) {
  std::ifstream groups("/proc/self/cgroup");
  double least = kUnlimited;
  for (std::string line; std::getline(groups, line);) {
    auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",", path = line.substr(second + 1);
    if (controllers == ",,") least = std::min(least, least_along("/sys/fs/cgroup", path, controller.v2));
    else if (controllers.find("," + std::string(controller.name) + ",") != controllers.npos)
      least = std::min(least, least_along("/sys/fs/cgroup/" + std::string(controller.name), path, controller.v1));
  }
  return least;
}
#endif

int allowed_processors() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, int(std::thread::hardware_concurrency()));
}

double physical_memory() {
#if defined(_WIN32)
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? double(status.ullTotalPhys) : kUnlimited;
#else
  long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
  return pages > 0 && bytes > 0 ? double(pages) * double(bytes) : kUnlimited;
#endif
}

}  // namespace

int thread_count() {
  if (double asked = number_from_environment("FOVEA_NUM_THREADS")) return int(std::min<double>(asked, kMaxThreads));
  double threads = allowed_processors();
#if defined(__linux__)
  threads = std::min(threads, std::ceil(cgroup_limit(kCpuTime)));
#endif
  return int(std::clamp<double>(threads, 1, kMaxThreads));
}

size_t default_memory_limit() {
  constexpr double kMegabyte = 1 << 20, kMost = double(size_t(1) << 50);
  if (double asked = number_from_environment("FOVEA_MEMORY_LIMIT_MB"))
    return size_t(std::min(asked * kMegabyte, kMost));
  double bytes = physical_memory();
#if defined(__linux__)
  bytes = std::min(bytes, cgroup_limit(kMemory));
#endif
  return size_t(std::min(bytes / 8 * 7, kMost));
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> names;
#if defined(__x86_64__)
#define FOVEA_FEATURE(name) \
  if (__builtin_cpu_supports(name)) names.push_back(name);
  FOVEA_FEATURE("avx2")
  FOVEA_FEATURE("fma")
  FOVEA_FEATURE("f16c")
  FOVEA_FEATURE("avx512f")
  FOVEA_FEATURE("avx512bw")
  FOVEA_FEATURE("avx512vl")
  FOVEA_FEATURE("avx512vnni")
  FOVEA_FEATURE("avx512bf16")
  FOVEA_FEATURE("amx-tile")
  FOVEA_FEATURE("amx-bf16")
  FOVEA_FEATURE("amx-int8")
#undef FOVEA_FEATURE
#elif defined(__aarch64__) && defined(__linux__)
  unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  if (first & (1ul << 1)) names.push_back("asimd");
  if (first & (1ul << 10)) names.push_back("asimdhp");
  if (first & (1ul << 20)) names.push_back("asimddp");
  if (second & (1ul << 13)) names.push_back("i8mm");
  if (second & (1ul << 14)) names.push_back("bf16");
#endif
  return names;
}

}  // namespace fovea
