// What the tests of the emulator share.
#pragma once
#include <cstdlib>
#include <functional>

#include "cuda/ptx.h"
#include "test/harness.h"

namespace fovea::test {

using namespace fovea::cuda;

// A mistake shows in some orders of events and not in others.
inline void for_each_seed(const std::function<void()>& body) {
  const char* given = std::getenv("FOVEA_EMULATOR_SEED");
  const std::string before = given ? given : "0";
  for (int seed = 0; seed < 8; seed++) {
    setenv("FOVEA_EMULATOR_SEED", std::to_string(seed).c_str(), 1);
    body();
  }
  setenv("FOVEA_EMULATOR_SEED", before.c_str(), 1);
}

// What launch() throws, or "".
inline std::string failure_of(dim3 grid, dim3 block, size_t shared, const std::function<void()>& body,
                              int cluster = 1) {
  try {
    emulator::launch(grid, block, shared, cluster, body);
  } catch (const std::runtime_error& error) { return error.what(); }
  return "";
}
inline bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }
#define CHECK_FAILURE(part, ...)                                     \
  do {                                                               \
    std::string text_ = failure_of(__VA_ARGS__);                     \
    FOVEA_CHECK(contains(text_, part), "got \"%s\"", text_.c_str()); \
  } while (0)

template <class T>
T* shared_as(size_t byte = 0) {
  return reinterpret_cast<T*>(emulator::shared_memory() + byte);
}
inline uint32_t shared_at(size_t byte) { return shared_address(emulator::shared_memory() + byte); }

// Small integers, exact in every format.
template <class T>
T number(double x) {
  if constexpr (kSame<T, Half>) return to_half(float(x));
  else return to_bfloat16(float(x));
}
inline int entry(int row, int column) { return (row * 7 + column * 5 + row * column) % 9 - 4; }

// Where the element of a tile of 128-byte rows lies in shared memory.
inline size_t swizzled(int row, int column, size_t width) {
  size_t byte = size_t(row) * 128 + size_t(column) * width;
  return byte ^ (byte >> 7 & 7) << 4;
}

}  // namespace fovea::test
