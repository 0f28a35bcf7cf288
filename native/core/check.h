// Errors. Everything below the binding throws `Error`; the binding turns it into a JavaScript FoveaError with the same
// code. Never included by per-instruction-set kernel files, which report through Call::fail (registry.h).
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

#include "core/view.h"

namespace fovea {

struct Error : std::runtime_error {
  const char* code;  // one of the codes of src/errors.ts
  Error(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
};

// fail("FOVEA_SHAPE", "matmul: b has k=", 5, " but a has k=", 4)
template <class... Parts>
[[noreturn]] void fail(const char* code, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(code, text.str());
}

// [2,8,16,128]
std::string to_string(const View& v);

}  // namespace fovea
