// From a call in JavaScript to a command on the stream: check, make inputs fit the kernel, allocate, enqueue.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "binding/holds.h"
#include "binding/runtime.h"
#include "core/overlap.h"

namespace fovea {
namespace {

// A view in the ring, with as many axes as it has: a full View of eight would move ten cache lines per op between the
// two cores, and that, not the work, is what queueing a small op costs.
constexpr size_t kViewHead = offsetof(View, shape);  // data, block, rank, dtype
size_t packed_bytes(const View& v) { return kViewHead + 16 * size_t(v.rank); }
std::byte* pack(const View& v, std::byte* to) {
  size_t axes = 8 * size_t(v.rank);
  std::memcpy(to, &v, kViewHead);
  std::memcpy(to + kViewHead, v.shape, axes);
  std::memcpy(to + kViewHead + axes, v.strides, axes);
  return to + packed_bytes(v);
}
const std::byte* unpack(const std::byte* from, View& v) {
  std::memcpy(static_cast<void*>(&v), from, kViewHead);
  size_t axes = 8 * size_t(v.rank);
  std::memcpy(v.shape, from + kViewHead, axes);
  std::memcpy(v.strides, from + kViewHead + axes, axes);
  return from + packed_bytes(v);
}

size_t attr_room(const Op& op) { return (op.attr_bytes + 7) / 8 * 8; }

// The record in the ring is: header, attributes, packed views (of an op over many tensors: a pointer to the views).
struct OpCommand : Command {
  const Op* op;
  std::byte* workspace;
  std::vector<View>* many;
  uint32_t inputs, outputs;
  bool idle;   // there is nothing to write
  bool mends;  // replaces all of the tensors that it writes
  std::byte* attrs() { return reinterpret_cast<std::byte*>(this + 1); }
  std::byte* views() { return attrs() + attr_room(*op); }
};

Failure call_kernel(const Op& op, Call& call, const void* attrs) {
  auto failure = [&](const char* code, const char* reason) {
    return std::make_shared<const KernelFailure>(KernelFailure{code, op.name + ": " + reason});
  };
  try {
    op.kernels[kCpu](call, attrs);
    return nullptr;
  } catch (const Error& error) { return failure(error.code, error.what()); } catch (const std::bad_alloc&) {
    return failure("FOVEA_OUT_OF_MEMORY",
                   "the system refused memory while it ran; dispose tensors or use smaller ones");
  } catch (const std::exception& error) { return failure("FOVEA_KERNEL_FAILED", error.what()); } catch (...) {
    return failure("FOVEA_KERNEL_FAILED", "unknown exception");
  }
}

// What depends on a failure fails with it; what does not, goes on. Values that replace all of a failed tensor mend it:
// a parameter that a bad batch has reached can be loaded again.
void execute(OpCommand& c, Views in, Views out, Parallel& parallel) {
  auto& specs = c.op->rule.inputs();
  auto written = [&](int32_t i) { return specs[size_t(i) % specs.size()].written; };
  Failure failure;
  for (int32_t i = 0; i < in.count; i++)
    if (in[i].present() && in[i].block->failure && !(c.op->overwrites && written(i))) failure = in[i].block->failure;
  if (!failure && !c.idle) {
    Call call{parallel, in, out, c.workspace, c.op->name.c_str()};
    failure = call_kernel(*c.op, call, c.attrs());
  }
  for (const View& v : out) v.block->failure = failure;
  if (!c.op->writes_inputs) return;
  for (int32_t i = 0; i < in.count; i++) {
    if (!in[i].present() || !written(i)) continue;
    if (failure || c.mends) in[i].block->failure = failure;
  }
}

void run_packed(Command& command, Parallel& parallel) {
  auto& c = static_cast<OpCommand&>(command);
  View views[Registry::kMaxInputs + Registry::kMaxOutputs];
  const std::byte* at = c.views();
  for (uint32_t i = 0; i < c.inputs + c.outputs; i++) at = unpack(at, views[i]);
  execute(c, {views, int32_t(c.inputs)}, {views + c.inputs, int32_t(c.outputs)}, parallel);
}
void discard_many(Command& command) { delete static_cast<OpCommand&>(command).many; }
void run_many(Command& command, Parallel& parallel) {
  auto& c = static_cast<OpCommand&>(command);
  const View* views = c.many->data();
  execute(c, {views, int32_t(c.inputs)}, {views + c.inputs, int32_t(c.outputs)}, parallel);
  discard_many(command);
}

bool empty_view(const View& v) { return std::find(v.shape, v.shape + v.rank, 0) != v.shape + v.rank; }

bool fits_layout(const View& v, Layout layout) {
  if (layout == Layout::strided || empty_view(v)) return true;
  if (layout == Layout::dense) return v.contiguous();
  return v.rank == 0 || v.dim(-1) == 1 || v.stride(-1) == 1;
}

// Reading exactly the window that is written is fine where element i of the result depends on element i alone.
bool elementwise(const ShapeRule::Tensor& tensor) { return tensor.leading && tensor.dims.empty(); }

// Asked while queueing: once a block is freed, its header belongs to the JavaScript thread again. No element of a
// written view repeats, so as many bytes as the block has are all of them.
bool replaces_all(const Op& op, std::span<const View> inputs) {
  if (!op.overwrites) return false;
  for (size_t i = 0; i < inputs.size(); i++) {
    const View& v = inputs[i];
    bool written = v.present() && op.rule.inputs()[i % op.rule.inputs().size()].written;
    if (written && size_t(v.size()) * bytes_of(v.dtype) != v.block->size) return false;
  }
  return true;
}

bool nothing_to_write(const Op& op, std::span<const View> inputs, std::span<const View> outputs) {
  for (const View& v : outputs)
    if (!empty_view(v)) return false;
  if (!op.writes_inputs) return true;
  auto& specs = op.rule.inputs();
  for (size_t i = 0; i < inputs.size(); i++)
    if (inputs[i].present() && specs[i % specs.size()].written && !empty_view(inputs[i])) return false;
  return true;
}

const Op& op_named(const char* name) {
  const Op* op = registry().find(name);
  if (!op || !op->kernels[kCpu])
    fail("FOVEA_INTERNAL", name, ": this binary has no such kernel; rebuild it with `npx fovea build`");
  return *op;
}
const Op& copy_op() {
  static const Op& op = op_named("copy");
  return op;
}
const Op& copy_back_op() {
  static const Op& op = op_named("copy_");
  return op;
}

// The kernel of an op over many tensors takes them in any order and at the same time: none may be written while another
// reads or writes it.
void refuse_shared_tuples(const Op& op, std::span<const View> inputs) {
  struct Range {
    Extent extent;
    size_t tuple;
    bool written;
  };
  auto& specs = op.rule.inputs();
  std::vector<Range> ranges;
  for (size_t i = 0; i < inputs.size(); i++)
    if (inputs[i].present() && !empty_view(inputs[i]))
      ranges.push_back({extent_of(inputs[i]), i / specs.size(), specs[i % specs.size()].written});
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.extent.low < b.extent.low; });
  const Range* reach = nullptr;          // the range that reaches farthest so far
  const Range* written_reach = nullptr;  // and the farthest written one
  for (const Range& range : ranges) {
    for (const Range* other : {range.written ? reach : nullptr, written_reach})
      if (other && other->extent.overlaps(range.extent) && other->tuple != range.tuple)
        fail("FOVEA_LAYOUT", op.name, ": entries ", other->tuple, " and ", range.tuple,
             " of the list share memory that is written; pass each tensor once");
    if (!reach || range.extent.high > reach->extent.high) reach = &range;
    if (range.written && (!written_reach || range.extent.high > written_reach->extent.high)) written_reach = &range;
  }
}

}  // namespace

// What fit() does on the way, for the end of the call.
struct Runtime::Fitting {
  Holds& holds;
  std::vector<std::pair<View, View>> copies_back;  // to, from
};

// ---- making inputs fit

// Axes along which a view repeats stay so where the kernel takes strides: only what differs is copied.
View Runtime::dense_copy(const View& from, Layout layout, const char* what, Fitting& fitting) {
  View source = from;
  for (int d = 0; d < from.rank; d++) {
    bool may_repeat_here = layout == Layout::strided || (layout == Layout::dense_rows && d != from.rank - 1);
    if (may_repeat_here && from.strides[d] == 0 && from.shape[d] > 1) source.shape[d] = 1;
  }
  View made = source;
  made.make_contiguous_strides();
  made.block = fitting.holds.add(allocate(dense_bytes(made, what), what));
  made.data = made.block->data;
  enqueue(copy_op(), {&source, 1}, {&made, 1}, nullptr, nullptr);
  for (int d = 0; d < from.rank; d++)
    if (source.shape[d] != from.shape[d]) made.shape[d] = from.shape[d], made.strides[d] = 0;
  return made;
}

void Runtime::fit_input(const Op& op, std::span<View> tuple, size_t i, Fitting& fitting) {
  auto& specs = op.rule.inputs();
  View& in = tuple[i];
  bool clashes = false;  // shares memory with what the op writes: it would be read half old, half new
  if (op.writes_inputs && !specs[i].written) {
    Extent extent = extent_of(in);
    for (size_t w = 0; w < tuple.size(); w++) {
      if (!specs[w].written || !tuple[w].present() || !extent.overlaps(extent_of(tuple[w]))) continue;
      clashes |= !(same_window(in, tuple[w]) && elementwise(specs[i]) && elementwise(specs[w]));
    }
  }
  if (!clashes && fits_layout(in, op.layout)) return;
  View dense = dense_copy(in, op.layout, op.name.c_str(), fitting);
  if (specs[i].written) fitting.copies_back.push_back({in, dense});
  in = dense;
}

void Runtime::fit(const Op& op, std::span<View> inputs, Fitting& fitting) {
  auto& specs = op.rule.inputs();
  for (size_t first = 0; first < inputs.size(); first += specs.size()) {
    std::span<View> tuple = inputs.subspan(first, specs.size());
    for (size_t w = 0; op.writes_inputs && w < tuple.size(); w++) {
      if (!specs[w].written || !tuple[w].present()) continue;
      if (may_repeat(tuple[w]))
        fail("FOVEA_LAYOUT", op.name, ": ", specs[w].name, " is written in place, but elements of ",
             to_string(tuple[w]), " share memory (expand); call contiguous() first");
      for (size_t v = 0; v < w; v++)
        if (specs[v].written && tuple[v].present() && extent_of(tuple[v]).overlaps(extent_of(tuple[w])))
          fail("FOVEA_LAYOUT", op.name, ": ", specs[v].name, " and ", specs[w].name,
               " are both written in place and share memory; clone() one of them");
    }
    for (size_t i = 0; i < tuple.size(); i++)
      if (tuple[i].present()) fit_input(op, tuple, i, fitting);
  }
  if (op.many && op.writes_inputs) refuse_shared_tuples(op, inputs);
}

// ---- enqueueing

void Runtime::enqueue(const Op& op, std::span<const View> inputs, std::span<const View> outputs, const void* attrs,
                      Block* workspace) {
  size_t record = sizeof(OpCommand) + attr_room(op);
  if (!op.many) {
    for (const View& v : inputs) record += packed_bytes(v);
    for (const View& v : outputs) record += packed_bytes(v);
  }
  std::unique_ptr<std::vector<View>> many;  // as long as a model has parameters: too long for the ring
  if (op.many) {
    many = std::make_unique<std::vector<View>>(inputs.begin(), inputs.end());
    many->insert(many->end(), outputs.begin(), outputs.end());
  }
  auto& c = stream.reserve<OpCommand>(record);
  c.run = op.many ? run_many : run_packed, c.discard = op.many ? discard_many : nullptr;
  c.op = &op, c.workspace = workspace ? workspace->data : nullptr, c.many = many.release();
  c.inputs = uint32_t(inputs.size()), c.outputs = uint32_t(outputs.size());
  c.idle = nothing_to_write(op, inputs, outputs), c.mends = replaces_all(op, inputs);
  if (op.attrs.count && attrs) std::memcpy(c.attrs(), attrs, op.attr_bytes);
  if (!op.many) {
    std::byte* to = c.views();
    for (const View& v : inputs) to = pack(v, to);
    for (const View& v : outputs) to = pack(v, to);
  }
  uint64_t position = stream.publish();
  for (const View& v : outputs) v.block->written_at = position;
  if (!op.writes_inputs) return;
  auto& specs = op.rule.inputs();
  for (size_t i = 0; i < inputs.size(); i++)
    if (inputs[i].present() && specs[i % specs.size()].written) inputs[i].block->written_at = position;
}

void Runtime::run_op(const Op& op, std::span<View> inputs, const void* attrs, std::span<const napi_value> owners,
                     int32_t* handles) {
  if (!op.kernels[kCpu])
    fail("FOVEA_UNSUPPORTED", op.name,
         ": this binary has no kernel of that name for the device cpu; rebuild it with `npx fovea build`");
  size_t width = op.rule.inputs().size(), outputs = op.rule.outputs().size();
  if (inputs.empty() && outputs == 0) return;
  if (inputs.empty()) fail("FOVEA_ARGUMENT", op.name, ": the list of tensors is empty; pass at least one");
  Holds holds(*this);
  Fitting fitting{holds, {}};
  for (const View& v : inputs)
    if (v.present()) holds.add(v.block);

  View out[Registry::kMaxOutputs];
  for (size_t first = 0; first < inputs.size(); first += width)
    op.rule.apply(inputs.subspan(first, width), {out, outputs}, attrs);
  if (op.layout != Layout::strided || op.writes_inputs) fit(op, inputs, fitting);
  for (size_t i = 0; i < outputs; i++) {
    out[i].block = holds.add(allocate(dense_bytes(out[i], op.name.c_str()), op.name.c_str()));
    out[i].data = out[i].block->data;
  }
  Block* workspace = nullptr;
  if (op.workspace) {
    Views in{inputs.data(), int32_t(inputs.size())}, made{out, int32_t(outputs)};
    if (size_t bytes = op.workspace(in, made, attrs, stream.threads()))
      workspace = holds.add(allocate(bytes, op.name.c_str()));
  }
  enqueue(op, inputs, {out, outputs}, attrs, workspace);
  for (auto& [to, from] : fitting.copies_back) {
    View pair[2] = {to, from};
    enqueue(copy_back_op(), pair, {}, nullptr, nullptr);
  }
  for (size_t i = 0; i < outputs; i++) handles[i] = add_slot(out[i], owners[i]);
}

// ---- tensors that no op makes

// The block's former contents may have failed; the stream alone may say that these have not.
int32_t Runtime::empty(napi_value owner, View shape) {
  struct ClearCommand : Command {
    Block* block;
  };
  Holds holds(*this);
  shape.block = holds.add(allocate(dense_bytes(shape, "empty"), "empty"));
  shape.data = shape.block->data;
  auto& c = stream.reserve<ClearCommand>();
  c.block = shape.block;
  c.run = [](Command& command, Parallel&) { static_cast<ClearCommand&>(command).block->failure = nullptr; };
  shape.block->written_at = stream.publish();
  return add_slot(shape, owner);
}

// The caller may change its array as soon as we return, so the bytes are copied here and now, into a block that no
// queued command can still use. No staging copy, no command.
int32_t Runtime::upload(napi_value owner, View shape, const void* data) {
  Holds holds(*this);
  size_t bytes = dense_bytes(shape, "tensor");
  shape.block = holds.add(allocate(bytes, "tensor", Purpose::host_writes));
  shape.data = shape.block->data;
  shape.block->failure = nullptr;
  if (bytes) std::memcpy(shape.data, data, bytes);
  return add_slot(shape, owner);
}

}  // namespace fovea
