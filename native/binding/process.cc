// What the binary is, what it can do and how much memory it holds: called rarely, hence written with node-addon-api.
#include <limits>
#include <sstream>

// A failing call throws a C++ exception, which cold() turns into ours; one that can no longer be thrown into a closing
// environment is dropped instead of ending the process.
#define NAPI_CPP_EXCEPTIONS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#include <napi.h>

#include "binding/arguments.h"
#include "core/budget.h"
#include "core/gpu_plugin.h"
#include "core/machine.h"
#include "cpu/isa.h"

namespace fovea {
namespace {

template <class Body>
napi_value cold(Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    fail("FOVEA_CLOSING", "fovea: this thread is shutting down; start no further work in it");
  }
}

// ---- description of the ops, as JSON

std::string json_number(double value) {
  if (value == std::numeric_limits<double>::infinity()) return "1e999";  // JSON.parse reads it as Infinity
  if (value == -std::numeric_limits<double>::infinity()) return "-1e999";
  std::ostringstream text;
  text.precision(17);
  text << value;
  return text.str();
}

// `each(item)` of all items, joined by commas, in brackets.
template <class Items, class Each>
std::string json_list(const Items& items, Each&& each) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() > 1 ? "," : "") + each(item);
  return text + "]";
}

std::string json_attr(const AttrField& field, const std::byte* defaults) {
  constexpr const char* kTypes[] = {"boolean", "integer", "real", "dtype"};
  const std::byte* at = defaults + field.offset;
  std::string value;
  switch (field.type) {
    case AttrField::Type::boolean: value = *reinterpret_cast<const bool*>(at) ? "true" : "false"; break;
    case AttrField::Type::integer: value = std::to_string(*reinterpret_cast<const int64_t*>(at)); break;
    case AttrField::Type::real: value = json_number(*reinterpret_cast<const double*>(at)); break;
    case AttrField::Type::dtype: value = std::to_string(int(*reinterpret_cast<const Dtype*>(at))); break;
  }
  return R"({"name":")" + std::string(field.name) + R"(","type":")" + kTypes[int(field.type)] + R"(","default":)" +
         value + "}";
}

std::string json_op(const Op& op) {
  alignas(16) std::byte defaults[Registry::kMaxAttrBytes];
  op.default_attrs(defaults);
  auto flag = [](bool value) { return std::string(value ? "true" : "false"); };
  auto input = [&](const ShapeRule::Tensor& t) {
    return R"({"name":")" + t.name + R"(","optional":)" + flag(t.optional) + R"(,"written":)" + flag(t.written) + "}";
  };
  auto output = [](const ShapeRule::Tensor& t) { return "\"" + t.name + "\""; };
  auto attr = [&](const AttrField& field) { return json_attr(field, defaults); };
  return R"({"name":")" + op.name + R"(","axes":")" + op.rule.axes() + R"(","types":")" + op.rule.types() +
         R"(","many":)" + flag(op.many) + R"(,"attrs":)" +
         json_list(std::span(op.attrs.first, size_t(op.attrs.count)), attr) + R"(,"inputs":)" +
         json_list(op.rule.inputs(), input) + R"(,"outputs":)" + json_list(op.rule.outputs(), output) +
         R"(,"devices":[)" + (op.kernel ? "\"cpu\"" : "") + "]}";
}

napi_value describe(Runtime&, Arguments& args) {
  return cold(
      [&] { return Napi::String::New(args.env, json_list(registry().ops(), [](auto& op) { return json_op(*op); })); });
}

// ---- what it runs on

Napi::Array strings(Napi::Env env, const std::vector<std::string>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); i++) array.Set(i, list[i]);
  return array;
}

napi_value info(Runtime& runtime, Arguments& args) {
  return cold([&]() -> napi_value {
    Napi::Env env(args.env);
    std::vector<std::string> isas;
    for (const Isa& isa : compiled_isas())
      if (machine_supports(isa.name)) isas.push_back(isa.name);
    auto limits = Napi::Object::New(env);
    limits.Set("rank", kMaxRank);
    limits.Set("tensors", double(SlotTable::kMaxSlots));
    limits.Set("memoryBytes", double(Budget::process().limit()));
    limits.Set("queueBytes", double(Stream::kCapacity));
    limits.Set("sweepBytes", double(Runtime::kSweepBytes));
    limits.Set("sweepTensors", double(Runtime::kSweepSlots));
    auto object = Napi::Object::New(env);
    object.Set("version", FOVEA_VERSION);
    object.Set("isa", isa_name());
    object.Set("isas", strings(env, isas));
    object.Set("threads", runtime.cpu().stream().threads());
    object.Set("cpuFeatures", strings(env, cpu_features()));
    object.Set("limits", limits);
    return object;
  });
}

// memory(device)
napi_value memory(Runtime& runtime, Arguments& args) {
  return cold([&]() -> napi_value {
    Place& place = args.place(runtime, 0);
    auto object = Napi::Object::New(args.env);
    object.Set("liveTensors", double(runtime.slots.live()));
    object.Set("liveBytes", double(place.allocator().live_bytes()));
    object.Set("reservedBytes", double(place.taken()));
    object.Set("peakBytes", double(place.allocator().peak_bytes()));
    object.Set("mappedBytes", place.number == 0 ? double(MappedFile::total_bytes()) : 0);
    object.Set("sweeps", double(runtime.sweeps()));
    object.Set("swept", double(runtime.swept()));
    object.Set("limitBytes", double(place.limit()));
    return object;
  });
}

// ---- GPUs

// gpus(path of the plugin) -> [{ name, capability, multiprocessors, memory }]; throws FOVEA_DEVICE where there is none
napi_value gpus(Runtime&, Arguments& args) {
  return cold([&]() -> napi_value {
    Napi::Env env(args.env);
    if (args.type(0) != napi_string) args.refuse(0, "a path");
    const GpuPlugin& plugin = gpu_plugin(Napi::String(env, args.values[0]).Utf8Value());
    GpuStatus status;
    int count = plugin.count(status);
    if (count <= 0) fail(status.code, status.message);
    auto list = Napi::Array::New(env, size_t(count));
    for (int i = 0; i < count; i++) {
      GpuDescription gpu;
      status = plugin.describe(i, gpu);
      if (!status.ok()) fail(status.code, status.message);
      auto object = Napi::Object::New(env);
      object.Set("name", gpu.name);
      object.Set("capability", gpu.capability);
      object.Set("multiprocessors", gpu.multiprocessors);
      object.Set("memory", double(gpu.memory));
      list.Set(uint32_t(i), object);
    }
    return list;
  });
}

// openDevice(number) -> the names of the ops that have a kernel there
napi_value open_device(Runtime& runtime, Arguments& args) {
  return cold([&]() -> napi_value {
    Place& place = runtime.place(args.size(0));
    std::vector<std::string> names;
    for (auto& op : registry().ops())
      if (place.number == 0 ? op->kernel != nullptr : static_cast<GpuPlace&>(place).kernel(*op) != nullptr)
        names.push_back(op->name);
    return strings(args.env, names);
  });
}

// ---- control

napi_value reset_peak(Runtime& runtime, Arguments&) {
  for (auto& place : runtime.places())
    if (place) place->allocator().reset_peak();
  return nullptr;
}
napi_value set_limit(Runtime&, Arguments& args) {
  Budget::process().set_limit(args.size(0));
  return nullptr;
}
napi_value trim(Runtime& runtime, Arguments&) {
  runtime.trim();
  return nullptr;
}
napi_value sweep(Runtime& runtime, Arguments& args) { return number(args.env, runtime.sweep()); }
napi_value set_error_class(Runtime& runtime, Arguments& args) {
  if (args.type(0) != napi_function) args.refuse(0, "the class of fovea's errors");
  runtime.set_error_class(args.values[0]);
  return nullptr;
}

}  // namespace

void export_process(Exports& exports) {
  exports.add("memory", entry<memory>);
  exports.add("resetPeak", entry<reset_peak>);
  exports.add("setLimit", entry<set_limit>);
  exports.add("trim", entry<trim>);
  exports.add("sweep", entry<sweep>);
  exports.add("describe", entry<describe>);
  exports.add("info", entry<info>);
  exports.add("gpus", entry<gpus>);
  exports.add("openDevice", entry<open_device>);
  exports.add("setErrorClass", entry<set_error_class>);
}

}  // namespace fovea
