// A regular file mapped privately: what is written to the memory never reaches the file. The file must not be truncated
// while it is mapped (the system answers such an access with SIGBUS).
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace fovea {

class MappedFile {
 public:
  // Throws FOVEA_ARGUMENT with the system's reason when it cannot be opened, FOVEA_FILE_FORMAT when it is no regular
  // file.
  static std::shared_ptr<MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // Of all mapped files of the process.
  static size_t total_bytes();

 private:
  MappedFile(std::byte* data, size_t bytes);
  std::byte* data_;
  size_t bytes_;
};

}  // namespace fovea
