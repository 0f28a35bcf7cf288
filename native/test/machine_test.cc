// What comes from the machine: mapped files, and limits that the environment sets.
#if !defined(_WIN32)
#include <unistd.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/machine.h"
#include "core/mapped_file.h"
#include "test/harness.h"

namespace fovea {
namespace {

using test::code_of;

#if !defined(_WIN32)
FOVEA_TEST(mapped_files_are_private_and_regular) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  std::string path = folder + "/fovea-map-XXXXXX";
  int descriptor = mkstemp(path.data());
  FOVEA_CHECK(descriptor >= 0 && write(descriptor, "hello", 5) == 5, "no temporary file");
  close(descriptor);
  size_t before = MappedFile::total_bytes();
  {
    auto map = MappedFile::open(path);
    FOVEA_CHECK(map->bytes() == 5 && MappedFile::total_bytes() == before + 5, "%zu", map->bytes());
    map->data()[0] = std::byte{'j'};
    FOVEA_CHECK(char(MappedFile::open(path)->data()[0]) == 'h', "the file itself was changed");
  }
  FOVEA_CHECK(MappedFile::total_bytes() == before, "%zu", MappedFile::total_bytes());
  std::remove(path.c_str());
  FOVEA_CHECK(code_of([&] { MappedFile::open(path); }) == "FOVEA_IO", "a file that is not there");
  FOVEA_CHECK(code_of([&] { MappedFile::open("/dev/null"); }) == "FOVEA_FILE_FORMAT", "a device");
  FOVEA_CHECK(code_of([&] { MappedFile::open(folder); }) == "FOVEA_FILE_FORMAT", "a folder");
}
#endif

FOVEA_TEST(limits_come_from_the_environment) {
  FOVEA_CHECK(default_memory_limit() > (1u << 20), "%zu", default_memory_limit());
  setenv("FOVEA_NUM_THREADS", "3", 1);
  FOVEA_CHECK(thread_count() == 3, "%d", thread_count());
  setenv("FOVEA_NUM_THREADS", "many", 1);
  FOVEA_CHECK(code_of([] { thread_count(); }) == "FOVEA_ARGUMENT", "a word");
  unsetenv("FOVEA_NUM_THREADS");
  FOVEA_CHECK(thread_count() >= 1, "%d", thread_count());
  setenv("FOVEA_MEMORY_LIMIT_MB", "100", 1);
  FOVEA_CHECK(default_memory_limit() == 100u << 20, "%zu", default_memory_limit());
  unsetenv("FOVEA_MEMORY_LIMIT_MB");
}

}  // namespace
}  // namespace fovea
