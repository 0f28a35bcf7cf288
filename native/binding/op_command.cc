#include "binding/op_command.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "binding/op_record.h"
#include "core/check.h"
#include "core/cpu_stream.h"
#include "core/device_stream.h"

namespace fovea {

void discard_op(Command& command) {
  auto& c = static_cast<OpCommand&>(command);
  delete c.many;
  delete c.refused;
}

namespace {

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

}  // namespace

bool empty_view(const View& v) { return std::find(v.shape, v.shape + v.rank, 0) != v.shape + v.rank; }

bool writes_nothing(const Op& op, std::span<const View> inputs, std::span<const View> outputs) {
  for (const View& v : outputs)
    if (!empty_view(v)) return false;
  for (size_t i = 0; op.writes_inputs && i < inputs.size(); i++)
    if (inputs[i].present() && written(op, int32_t(i)) && !empty_view(inputs[i])) return false;
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
  c.op = &op, c.workspace = call.workspace ? call.workspace->data : nullptr, c.many = many.release(),
  c.kernel = call.kernel;
  c.refused = nullptr, c.fault_code = c.fault_message = nullptr;
  c.inputs = uint32_t(call.inputs.size()), c.outputs = uint32_t(call.outputs.size());
  c.idle = writes_nothing(op, call.inputs, call.outputs), c.mends = replaces_all(op, call.inputs);
  if (op.attrs.count && call.attrs) std::memcpy(c.attrs(), call.attrs, op.attr_bytes);
  if (op.many) return;
  std::byte* to = c.views();
  for (const View& v : call.inputs) to = pack(v, to);
  for (const View& v : call.outputs) to = pack(v, to);
}

void write_clear(ClearCommand& c, Block* block) {
  auto clear = [](Command& command, Stream&) { static_cast<ClearCommand&>(command).block->failure = nullptr; };
  c.block = block;
  (block->device == 0 ? c.run : c.retire) = clear;
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

}  // namespace fovea
