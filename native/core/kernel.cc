#include "core/kernel.h"

#include <cstdarg>
#include <cstdio>

#include "core/check.h"

namespace fovea {

void Call::fail(const char* code, const char* format, ...) const {
  char text[512];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof text, format, list);
  va_end(list);
  throw Error(code, text);
}

}  // namespace fovea
