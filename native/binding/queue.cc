// From a call in JavaScript to a command on the stream: check, make inputs fit the kernel, allocate, enqueue.
#include <algorithm>
#include <cstring>

#include "binding/holds.h"
#include "binding/op_command.h"
#include "binding/profile.h"
#include "binding/recording.h"
#include "binding/runtime.h"
#include "core/overlap.h"

namespace fovea {
namespace {

bool fits_layout(const View& v, Layout layout) {
  if (layout == Layout::strided || empty_view(v)) return true;
  if (layout == Layout::dense) return v.contiguous();
  return v.rank == 0 || v.dim(-1) == 1 || v.stride(-1) == 1;
}

// Reading exactly the window that is written is fine where element i of the result depends on element i alone.
bool elementwise(const ShapeRule::Tensor& tensor) { return tensor.leading && tensor.dims.empty(); }

const Op& op_named(const char* name) {
  const Op* op = registry().find(name);
  if (!op || !op->kernel)
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
  Place& place;
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
  made.window = 0, made.grows = 0;
  made.make_contiguous_strides();
  made.block = fitting.holds.add(allocate(dense_bytes(made, what), what, fitting.place));
  made.data = made.block->data;
  enqueue(copy_op(), {&source, 1}, {&made, 1}, nullptr, nullptr, fitting.place);
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
                      Block* workspace, Place& place, int64_t begin) {
  OpCall call{op, inputs, outputs, attrs, workspace, nullptr};
  if (place.number != 0) call.kernel = static_cast<GpuPlace&>(place).kernel(op);
  if (keeper()) keeper()->add_op(place.stream(), call);
  if (!profile_) [[likely]]
    return void(queue_op(place.stream(), call));
  if (!begin) begin = clock_ns();
  profile_->note_op(place.stream(), call, begin, queue_op(place.stream(), call));
}

// Where the op runs: where its inputs are.
Place& Runtime::place_of(const Op& op, std::span<const View> inputs) {
  auto& specs = op.rule.inputs();
  const View* first = nullptr;
  size_t first_at = 0;
  for (size_t i = 0; i < inputs.size(); i++) {
    if (!inputs[i].present()) continue;
    if (!first) first = &inputs[i], first_at = i;
    if (inputs[i].block->device != first->block->device)
      fail("FOVEA_DEVICE", op.name, ": ", specs[i % specs.size()].name, " is on ", place_name(inputs[i].block->device),
           " but ", specs[first_at % specs.size()].name, " is on ", place_name(first->block->device),
           "; move one of them with to()");
  }
  Place& place = first ? *places_[first->block->device] : cpu();
  bool known = place.number == 0 ? op.kernel != nullptr : static_cast<GpuPlace&>(place).kernel(op) != nullptr;
  if (!known)
    fail("FOVEA_UNSUPPORTED", op.name, ": this binary has no kernel of that name for the device ", place.name,
         "; rebuild it with `npx fovea build`, or move the tensors to another device");
  return place;
}

size_t Runtime::workspace_bytes(const Op& op, Place& place, Views in, Views out, const void* attrs) {
  if (writes_nothing(op, {in.begin(), in.end()}, {out.begin(), out.end()})) return 0;
  if (place.number == 0) return op.workspace ? op.workspace(in, out, attrs, cpu().stream().threads()) : 0;
  auto& gpu = static_cast<GpuPlace&>(place);
  return gpu.gpu().workspace(gpu.kernel(op), in, out, attrs);
}

Block* Runtime::workspace_for(const Op& op, Place& place, Views in, Views out, const void* attrs) {
  size_t bytes = workspace_bytes(op, place, in, out, attrs);
  return bytes ? allocate(bytes, op.name.c_str(), place) : nullptr;
}

void Runtime::run_op(const Op& op, std::span<View> inputs, const void* attrs, std::span<const napi_value> owners,
                     int32_t* handles) {
  size_t width = op.rule.inputs().size(), outputs = op.rule.outputs().size();
  if (inputs.empty() && outputs == 0) return;
  int64_t begin = profile_clock();
  if (inputs.empty()) fail("FOVEA_ARGUMENT", op.name, ": the list of tensors is empty; pass at least one");
  Place& place = place_of(op, inputs);
  Holds holds(*this);
  Fitting fitting{holds, place, {}};
  for (const View& v : inputs)
    if (v.present()) holds.add(v.block);

  View out[Registry::kMaxOutputs];
  for (size_t first = 0; first < inputs.size(); first += width)
    op.rule.apply(inputs.subspan(first, width), {out, outputs}, attrs);
  if (op.layout != Layout::strided || op.writes_inputs) fit(op, inputs, fitting);
  for (size_t i = 0; i < outputs; i++) {
    out[i].block = holds.add(allocate(dense_bytes(out[i], op.name.c_str()), op.name.c_str(), place));
    out[i].data = out[i].block->data;
  }
  Block* workspace = workspace_for(op, place, {inputs.data(), int32_t(inputs.size())}, {out, int32_t(outputs)}, attrs);
  if (workspace) holds.add(workspace);
  enqueue(op, inputs, {out, outputs}, attrs, workspace, place, begin);
  for (auto& [to, from] : fitting.copies_back) {
    View pair[2] = {to, from};
    enqueue(copy_back_op(), pair, {}, nullptr, nullptr, place);
  }
  for (size_t i = 0; i < outputs; i++) handles[i] = add_slot(out[i], owners[i]);
}

// ---- tensors that no op makes

// The block's former contents may have failed; the stream alone may say that these have not.
int32_t Runtime::empty(napi_value owner, View shape, Place& place) {
  Holds holds(*this);
  shape.block = holds.add(allocate(dense_bytes(shape, "empty"), "empty", place));
  shape.data = shape.block->data;
  if (keeper()) keeper()->add_clear(place.stream(), shape.block);
  queue_clear(place.stream(), shape.block);
  return add_slot(shape, owner);
}

// The caller may change its array as soon as we return, so the bytes are copied here and now, into a block that no
// queued command can still use. No staging copy, no command.
int32_t Runtime::upload(napi_value owner, View shape, const void* data) {
  if (keeper())
    refuse_recording(
        "values from JavaScript would stay those of this call; make the tensor before, or pass it as an input");
  Holds holds(*this);
  size_t bytes = dense_bytes(shape, "tensor");
  shape.block = holds.add(allocate(bytes, "tensor", cpu(), Purpose::host_writes));
  shape.data = shape.block->data;
  shape.block->failure = nullptr;
  if (bytes) std::memcpy(shape.data, data, bytes);
  return add_slot(shape, owner);
}

void Runtime::copy_into(const View& to, const View& from) {
  View pair[2] = {to, from};
  enqueue(copy_back_op(), pair, {}, nullptr, nullptr, *places_[to.block->device]);
}

View Runtime::dense(const View& view, const char* what, Holds& holds) {
  if (view.contiguous()) return view;
  Fitting fitting{holds, *places_[view.block->device], {}};
  return dense_copy(view, Layout::dense, what, fitting);
}

}  // namespace fovea
