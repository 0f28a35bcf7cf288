#include "binding/op_command.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>

#include "core/allocator.h"
#include "core/check.h"
#include "core/cpu_stream.h"
#include "core/device_stream.h"

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

}  // namespace

// The record in the ring is: header, attributes, packed views (of an op over many tensors: a pointer to the views).
struct OpCommand : Command {
  const Op* op;
  std::byte* workspace;
  std::vector<View>* many;
  uint32_t inputs, outputs;
  bool idle;   // there is nothing to write
  bool mends;  // replaces all of the tensors that it writes
  // On a GPU, between launch and retirement.
  GpuKernel kernel;
  const KernelFailure* refused;            // owned: the launch did not succeed
  const char *fault_code, *fault_message;  // of what the kernel may raise
  std::byte* attrs() { return reinterpret_cast<std::byte*>(this + 1); }
  std::byte* views() { return attrs() + attr_room(*op); }
};

namespace {

// The views of a command, unpacked from the ring or on the heap.
class CommandViews {
 public:
  explicit CommandViews(OpCommand& c) : inputs_(int32_t(c.inputs)), outputs_(int32_t(c.outputs)) {
    if (c.many) {
      first_ = c.many->data();
      return;
    }
    const std::byte* at = c.views();
    for (uint32_t i = 0; i < c.inputs + c.outputs; i++) at = unpack(at, few_[i]);
    first_ = few_;
  }
  Views in() const { return {first_, inputs_}; }
  Views out() const { return {first_ + inputs_, outputs_}; }

 private:
  View few_[Registry::kMaxInputs + Registry::kMaxOutputs];
  const View* first_;
  int32_t inputs_, outputs_;
};

// ---- failures

Failure failure_of(const Op& op, const char* code, const std::string& reason) {
  return std::make_shared<const KernelFailure>(KernelFailure{code, op.name + ": " + reason});
}

bool written(const Op& op, int32_t input) {
  auto& specs = op.rule.inputs();
  return specs[size_t(input) % specs.size()].written;
}

// What depends on a failure fails with it.
Failure inherited(const Op& op, Views in) {
  Failure failure;
  for (int32_t i = 0; i < in.count; i++)
    if (in[i].present() && in[i].block->failure && !(op.overwrites && written(op, i))) failure = in[i].block->failure;
  return failure;
}

// What does not depend on one goes on. Values that replace all of a failed tensor mend it: a parameter that a bad batch
// has reached can be loaded again.
void settle(const OpCommand& c, const CommandViews& views, const Failure& failure) {
  for (const View& v : views.out()) v.block->failure = failure;
  if (!c.op->writes_inputs) return;
  Views in = views.in();
  for (int32_t i = 0; i < in.count; i++) {
    if (!in[i].present() || !written(*c.op, i)) continue;
    if (failure || c.mends) in[i].block->failure = failure;
  }
}

void discard_op(Command& command) {
  auto& c = static_cast<OpCommand&>(command);
  delete c.many;
  delete c.refused;
}

// ---- on the CPU

Failure call_kernel(const Op& op, Call& call, const void* attrs) {
  try {
    op.kernel(call, attrs);
    return nullptr;
  } catch (const Error& error) { return failure_of(op, error.code, error.what()); } catch (const std::bad_alloc&) {
    return failure_of(op, "FOVEA_OUT_OF_MEMORY",
                      "the system refused memory while it ran; dispose tensors or use smaller ones");
  } catch (const std::exception& error) { return failure_of(op, "FOVEA_KERNEL_FAILED", error.what()); } catch (...) {
    return failure_of(op, "FOVEA_KERNEL_FAILED", "unknown exception");
  }
}

void run_on_cpu(Command& command, Stream& stream) {
  auto& c = static_cast<OpCommand&>(command);
  CommandViews views(c);
  Failure failure = inherited(*c.op, views.in());
  if (!failure && !c.idle) {
    Call call{CpuStream::of(stream).parallel(), views.in(), views.out(), c.workspace, c.op->name.c_str()};
    failure = call_kernel(*c.op, call, c.attrs());
  }
  settle(c, views, failure);
  discard_op(command);
}

// ---- on a GPU

void launch(Command& command, Stream& stream) {
  auto& c = static_cast<OpCommand&>(command);
  if (c.idle) return;
  auto& device = DeviceStream::of(stream);
  CommandViews views(c);
  GpuCall call{views.in(), views.out(), c.workspace, c.op->name.c_str(), c.attrs(), device.fault_of(command),
               nullptr,    nullptr};
  GpuStatus status = device.gpu().launch(c.kernel, call);
  c.fault_code = call.fault_code, c.fault_message = call.fault_message;
  if (!status.ok()) c.refused = new KernelFailure{status.code, c.op->name + ": " + status.message};
}

Failure outcome(OpCommand& c, DeviceStream& stream) {
  Fault& fault = *stream.fault_of(c);
  bool raised = fault.raised;
  if (raised) fault.raised = 0;
  if (stream.lost()) return failure_of(*c.op, stream.lost()->code, stream.lost()->message);
  if (c.refused) return std::make_shared<const KernelFailure>(*c.refused);
  if (!raised || !c.fault_code) return nullptr;
  char text[512];
  auto value = [&](int i) { return static_cast<long long>(fault.value[i]); };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"  // the launcher's own text
#pragma GCC diagnostic ignored "-Wformat-security"
  std::snprintf(text, sizeof text, c.fault_message, value(0), value(1), value(2));
#pragma GCC diagnostic pop
  return failure_of(*c.op, c.fault_code, text);
}

void retire(Command& command, Stream& stream) {
  auto& c = static_cast<OpCommand&>(command);
  CommandViews views(c);
  Failure own = outcome(c, DeviceStream::of(stream)), failure = inherited(*c.op, views.in());
  settle(c, views, failure ? failure : own);
  discard_op(command);
}

// ---- queueing

// Asked while queueing: once a block is freed, its header belongs to the JavaScript thread again. No element of a
// written view repeats, so as many bytes as the block has are all of them.
bool replaces_all(const Op& op, std::span<const View> inputs) {
  if (!op.overwrites) return false;
  for (size_t i = 0; i < inputs.size(); i++) {
    const View& v = inputs[i];
    if (v.present() && written(op, int32_t(i)) && size_t(v.size()) * bytes_of(v.dtype) != v.block->size) return false;
  }
  return true;
}

size_t record_bytes(const OpCall& call) {
  size_t bytes = sizeof(OpCommand) + attr_room(call.op);
  if (call.op.many) return bytes;
  for (const View& v : call.inputs) bytes += packed_bytes(v);
  for (const View& v : call.outputs) bytes += packed_bytes(v);
  return bytes;
}

void write_record(OpCommand& c, const OpCall& call) {
  const Op& op = call.op;
  std::unique_ptr<std::vector<View>> many;  // as long as a model has parameters: too long for the ring
  if (op.many) {
    many = std::make_unique<std::vector<View>>(call.inputs.begin(), call.inputs.end());
    many->insert(many->end(), call.outputs.begin(), call.outputs.end());
  }
  c.run = call.kernel ? launch : run_on_cpu, c.retire = call.kernel ? retire : nullptr, c.discard = discard_op;
  c.op = &op, c.workspace = call.workspace, c.many = many.release(), c.kernel = call.kernel;
  c.refused = nullptr, c.fault_code = c.fault_message = nullptr;
  c.inputs = uint32_t(call.inputs.size()), c.outputs = uint32_t(call.outputs.size());
  c.idle = writes_nothing(op, call.inputs, call.outputs), c.mends = replaces_all(op, call.inputs);
  if (op.attrs.count && call.attrs) std::memcpy(c.attrs(), call.attrs, op.attr_bytes);
  if (op.many) return;
  std::byte* to = c.views();
  for (const View& v : call.inputs) to = pack(v, to);
  for (const View& v : call.outputs) to = pack(v, to);
}

// ---- clearing

struct ClearCommand : Command {
  Block* block;
};

void write_clear(ClearCommand& c, Block* block) {
  auto clear = [](Command& command, Stream&) { static_cast<ClearCommand&>(command).block->failure = nullptr; };
  c.block = block;
  (block->device == 0 ? c.run : c.retire) = clear;
}

// ---- random counters

struct Counters {
  std::byte *seed = nullptr, *offset = nullptr;
};
// Those in the attributes of an op that takes random numbers; of others, nothing.
Counters counters_of(OpCommand& c) {
  Counters found;
  for (int i = 0; i < c.op->attrs.count; i++) {
    const AttrField& field = c.op->attrs.first[i];
    if (std::strcmp(field.name, "seed") == 0) found.seed = c.attrs() + field.offset;
    if (std::strcmp(field.name, "offset") == 0) found.offset = c.attrs() + field.offset;
  }
  return found.seed && found.offset ? found : Counters{};
}
int64_t counter_at(const std::byte* from) {
  int64_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}
void set_counter(std::byte* to, double value) {
  auto counter = int64_t(value);
  std::memcpy(to, &counter, sizeof counter);
}

}  // namespace

bool empty_view(const View& v) { return std::find(v.shape, v.shape + v.rank, 0) != v.shape + v.rank; }

bool writes_nothing(const Op& op, std::span<const View> inputs, std::span<const View> outputs) {
  for (const View& v : outputs)
    if (!empty_view(v)) return false;
  for (size_t i = 0; op.writes_inputs && i < inputs.size(); i++)
    if (inputs[i].present() && written(op, int32_t(i)) && !empty_view(inputs[i])) return false;
  return true;
}

uint64_t queue_op(Stream& stream, const OpCall& call) {
  const Op& op = call.op;
  write_record(stream.reserve<OpCommand>(record_bytes(call)), call);
  uint64_t position = stream.publish();
  for (const View& v : call.outputs) v.block->written_at = position;
  for (size_t i = 0; op.writes_inputs && i < call.inputs.size(); i++)
    if (call.inputs[i].present() && written(op, int32_t(i))) call.inputs[i].block->written_at = position;
  return position;
}

uint64_t queue_clear(Stream& stream, Block* block) {
  write_clear(stream.reserve<ClearCommand>(), block);
  return block->written_at = stream.publish();
}

// ---- queueing again

CommandList::~CommandList() {
  for (const Entry& entry : entries_)
    if (entry.op) discard_op(reinterpret_cast<OpCommand&>(lines_[entry.line]));
}

OpCommand& CommandList::op_at(size_t entry) { return reinterpret_cast<OpCommand&>(lines_[entries_[entry].line]); }

void* CommandList::room(size_t bytes) {
  size_t line = lines_.size();
  lines_.resize(line + (bytes + sizeof(Line) - 1) / sizeof(Line));
  return &lines_[line];
}

void CommandList::add(Stream& stream, size_t line, size_t bytes, bool op) {
  entries_.push_back({&stream, line, uint32_t(bytes), op});
}

void CommandList::add_op(Stream& stream, const OpCall& call) {
  size_t line = lines_.size(), bytes = record_bytes(call);
  write_record(*new (room(bytes)) OpCommand, call);
  add(stream, line, bytes, true);
}

void CommandList::add_clear(Stream& stream, Block* block) {
  size_t line = lines_.size();
  write_clear(*new (room(sizeof(ClearCommand))) ClearCommand, block);
  add(stream, line, sizeof(ClearCommand), false);
}

void CommandList::vary(const std::string& op, std::span<const std::string> attributes) {
  size_t entry = entries_.size();
  while (entry > 0 && !(entries_[entry - 1].op && op_at(entry - 1).op->name == op)) entry--;
  if (entry == 0) fail("FOVEA_ARGUMENT", "recordVary: no ", op, " was recorded; run it before");
  const AttrFields& fields = op_at(entry - 1).op->attrs;
  for (const std::string& name : attributes) {
    auto found = std::find_if(fields.first, fields.first + fields.count,
                              [&](const AttrField& field) { return name == field.name; });
    if (found == fields.first + fields.count || found->type == AttrField::Type::dtype)
      fail("FOVEA_ARGUMENT", "recordVary: ", op, " has no attribute ", name, " that is a number or a boolean");
    numbers_.push_back({entry - 1, found});
  }
}

void CommandList::set_numbers(std::span<const double> values) {
  for (size_t i = 0; i < numbers_.size(); i++) {
    const AttrField& field = *numbers_[i].field;
    std::byte* to = op_at(numbers_[i].entry).attrs() + field.offset;
    if (field.type != AttrField::Type::real && !(std::fabs(values[i]) <= 9007199254740992.0))
      fail("FOVEA_ARGUMENT", "replay: number ", i, " is ", values[i], "; ", field.name, " takes whole numbers");
    switch (field.type) {
      case AttrField::Type::boolean: *reinterpret_cast<bool*>(to) = values[i] != 0; break;
      case AttrField::Type::integer: set_counter(to, values[i]); break;
      default: std::memcpy(to, &values[i], sizeof values[i]);
    }
  }
}

void CommandList::connect(std::span<const double> draws) {
  std::map<std::pair<int64_t, int64_t>, size_t> by_counters;
  for (size_t i = 0; i + 1 < draws.size(); i += 2)
    by_counters.emplace(std::pair(int64_t(draws[i]), int64_t(draws[i + 1])), i / 2);
  for (size_t i = 0; i < entries_.size() && !by_counters.empty(); i++) {
    if (!entries_[i].op) continue;
    Counters counters = counters_of(op_at(i));
    if (!counters.seed) continue;
    auto found = by_counters.find({counter_at(counters.seed), counter_at(counters.offset)});
    if (found != by_counters.end()) random_.push_back({i, found->second});
  }
}

void CommandList::redraw(std::span<const double> draws) {
  for (const Random& random : random_) {
    Counters counters = counters_of(op_at(random.entry));
    set_counter(counters.seed, draws[2 * random.draw]), set_counter(counters.offset, draws[2 * random.draw + 1]);
  }
}

void CommandList::queue() const {
  for (const Entry& entry : entries_) {
    Command& command = entry.stream->reserve<Command>(entry.bytes);
    std::memcpy(static_cast<void*>(&command), &lines_[entry.line], entry.bytes);
    if (entry.op) {
      auto& c = static_cast<OpCommand&>(command);
      if (c.many) c.many = new std::vector<View>(*c.many);
    }
    entry.stream->publish();
  }
}

}  // namespace fovea
