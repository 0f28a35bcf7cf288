#include "core/mapped_file.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/check.h"

#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace fovea {
namespace {

std::atomic<size_t> all_mapped{0};

#if !defined(_WIN32)
[[noreturn]] void refuse(const std::string& path, const char* what) {
  int reason = errno;
  fail("FOVEA_IO", "open: cannot ", what, " ", path, ": ", std::strerror(reason),
       "; check the path and its permissions");
}

struct Descriptor {
  int number;
  ~Descriptor() { ::close(number); }
};
#endif

}  // namespace

size_t MappedFile::total_bytes() { return all_mapped.load(std::memory_order_relaxed); }
MappedFile::MappedFile(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {
  all_mapped.fetch_add(bytes, std::memory_order_relaxed);
}

#if defined(_WIN32)
std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  fail("FOVEA_UNSUPPORTED", "open: ", path,
       " cannot be mapped, since fovea maps no files on Windows; load it with { mmap: false }");
}
MappedFile::~MappedFile() = default;
#else
std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  // Non-blocking, because opening a FIFO would otherwise wait for its writer.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) refuse(path, "open");
  struct stat status;
  if (fstat(file.number, &status) != 0) refuse(path, "inspect");
  if (!S_ISREG(status.st_mode))
    fail("FOVEA_FILE_FORMAT", "open: ", path, " is not a regular file; pass the path of a file");
  size_t bytes = size_t(status.st_size);
  if (bytes == 0) return std::shared_ptr<MappedFile>(new MappedFile(nullptr, 0));
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.number, 0);
  if (memory == MAP_FAILED) refuse(path, "map");
  return std::shared_ptr<MappedFile>(new MappedFile(static_cast<std::byte*>(memory), bytes));
}
MappedFile::~MappedFile() {
  if (data_) munmap(data_, bytes_);
  all_mapped.fetch_sub(bytes_, std::memory_order_relaxed);
}
#endif

}  // namespace fovea
