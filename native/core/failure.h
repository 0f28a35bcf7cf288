// Why the contents of a block could not be computed: the op that failed first. Shared by every block that depends on
// it.
#pragma once
#include <memory>
#include <string>

namespace fovea {

struct KernelFailure {
  const char* code;     // one of the codes of src/errors.ts
  std::string message;  // "<op>: <reason>"
};
using Failure = std::shared_ptr<const KernelFailure>;

}  // namespace fovea
