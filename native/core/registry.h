// An op is declared once: name, axes string, type string, attributes struct, one kernel per device. Everything else
// (argument checks, allocation, the typed TypeScript stubs, error texts) is derived from that declaration.
#pragma once
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/shape_rule.h"

namespace fovea {

// Which layouts the kernel accepts. What does not fit is copied to a dense temporary first.
enum class Layout : uint8_t {
  strided,     // any strides
  dense_rows,  // any strides, but the last axis has stride 1
  dense,       // row-major
};

// Bytes of workspace, from the checked views; `threads` is Parallel::threads().
using Workspace = size_t (*)(Views in, Views out, const void* attrs, int threads);

struct Op {
  std::string name;
  ShapeRule rule;
  size_t attr_bytes;
  AttrFields attrs;
  void (*default_attrs)(void*);
  bool writes_inputs = false;  // some input is marked t!
  bool overwrites = false;     // what is marked t! is written without being read
  bool many = false;           // inputs come as a list of tuples, each checked by the rule; outputs are shared
  Layout layout = Layout::strided;
  Kernel kernel = nullptr;        // of the CPU; a GPU's are in its plugin, by name
  Workspace workspace = nullptr;  // of the CPU's kernel
  size_t number = 0;              // place in the registry

  Op& with(Layout l) { return layout = l, *this; }
  Op& with(Workspace w) { return workspace = w, *this; }
  Op& over_many() { return many = true, *this; }
  Op& overwriting() { return overwrites = true, *this; }
};

class Registry {
 public:
  // add<AttentionAttrs>("attention", "q:b h n d, ... -> o:b h n e", "T T T -> T acc | T: float"). The CPU kernel is the
  // one of the same name in the kernel table of the instruction set in use.
  template <class Attrs = NoAttrs>
  Op& add(const char* name, const char* axes, const char* types) {
    static_assert(std::is_trivially_copyable_v<Attrs> && sizeof(Attrs) <= kMaxAttrBytes,
                  "attributes travel through the queue as bytes");
    return add(Op{name, ShapeRule(name, axes, types, Attrs::fields()), sizeof(Attrs), Attrs::fields(),
                  [](void* p) { new (p) Attrs; }});
  }
  const std::vector<std::unique_ptr<Op>>& ops() const { return ops_; }
  const Op* find(std::string_view name) const;
  static constexpr size_t kMaxAttrBytes = 128;
  static constexpr int kMaxInputs = 12, kMaxOutputs = 4;

 private:
  Op& add(Op op);
  std::vector<std::unique_ptr<Op>> ops_;
};

// Immutable after the first call, shared by all environments, and never destroyed: process.exit() runs destructors of
// statics while stream threads still use them.
const Registry& registry();

}  // namespace fovea
