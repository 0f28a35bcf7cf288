#include "core/registry.h"

#include "core/check.h"
#include "cpu/isa.h"
#include "ops/families.h"

namespace fovea {

Op& Registry::add(Op op) {
  if (find(op.name)) fail("FOVEA_INTERNAL", op.name, ": declared twice");
  if (op.rule.inputs().size() > size_t(kMaxInputs) || op.rule.outputs().size() > size_t(kMaxOutputs))
    fail("FOVEA_INTERNAL", op.name, ": more than ", kMaxInputs, " inputs or ", kMaxOutputs, " outputs");
  for (auto& input : op.rule.inputs()) op.writes_inputs |= input.written;
  op.kernel = find_cpu_kernel(op.name);
  op.number = ops_.size();
  return *ops_.emplace_back(std::make_unique<Op>(std::move(op)));
}

const Op* Registry::find(std::string_view name) const {
  for (auto& op : ops_)
    if (op->name == name) return op.get();
  return nullptr;
}

const Registry& registry() {
  static const Registry& instance = *[] {
    auto made = std::make_unique<Registry>();
#define FOVEA_CALL_DECLARE(family) declare_##family(*made);
    FOVEA_FAMILIES(FOVEA_CALL_DECLARE)
#undef FOVEA_CALL_DECLARE
    return made.release();
  }();
  return instance;
}

}  // namespace fovea
