// The arguments of one call from JavaScript, checked as they are read, and the frame that every entry runs in.
#pragma once
#include <node_api.h>

#include <cmath>
#include <exception>
#include <string>

#include "binding/runtime.h"

namespace fovea {

struct Arguments {
  static constexpr size_t kMost = 40;  // op number, owners, inputs, attributes

  napi_env env;
  const char* function;  // the name of the entry, for messages
  size_t count = kMost;
  napi_value values[kMost];

  template <class... Parts>
  [[noreturn]] __attribute__((noinline)) void refuse(size_t i, const Parts&... expected) const {
    fail("FOVEA_ARGUMENT", function, ": argument ", i + 1, " must be ", expected...,
         i < count ? "" : ", but it is missing");
  }

  double real(size_t i, const char* expected = "a number") const {
    double value = 0;
    if (i >= count || napi_get_value_double(env, values[i], &value) != napi_ok) [[unlikely]]
      refuse(i, expected);
    return value;
  }
  // Up to 2^53, beyond which a number in JavaScript is no longer exact.
  int64_t whole(size_t i, const char* expected = "a whole number") const {
    double value = real(i, expected);
    if (!(std::fabs(value) <= 9007199254740992.0) || value != double(int64_t(value))) [[unlikely]]
      refuse(i, expected);
    return int64_t(value);
  }
  int32_t handle(size_t i) const {
    double value = real(i, "the handle of a tensor");
    if (!(value >= 0 && value <= 2147483647.0) || value != double(int32_t(value))) [[unlikely]]
      refuse(i, "the handle of a tensor");
    return int32_t(value);
  }
  size_t size(size_t i) const {
    int64_t value = whole(i, "a whole number of at least 0");
    if (value < 0) refuse(i, "a whole number of at least 0");
    return size_t(value);
  }
  // The device of a number, which is opened where it is not yet; the CPU where it is left out.
  Place& place(Runtime& runtime, size_t i) const {
    return type(i) == napi_undefined ? runtime.cpu() : runtime.place(size(i));
  }
  bool boolean(size_t i) const {
    bool value = false;
    if (i >= count || napi_get_value_bool(env, values[i], &value) != napi_ok) refuse(i, "a boolean");
    return value;
  }
  Dtype dtype(size_t i) const {
    double value = real(i, "a dtype code");
    if (!(value >= 0 && value < kDtypes) || value != std::floor(value))
      refuse(i, "a dtype code from 0 to ", kDtypes - 1);
    return Dtype(int(value));
  }
  napi_valuetype type(size_t i) const {
    napi_valuetype type = napi_undefined;
    if (i < count) must(napi_typeof(env, values[i], &type));
    return type;
  }
  // The object that will own a new handle; nullptr for null: the handle is freed by hand.
  napi_value owner(size_t i) const {
    napi_valuetype found = type(i);
    if (found == napi_object) [[likely]]
      return values[i];
    if (found != napi_null) refuse(i, "an object or null");
    return nullptr;
  }
  std::string text(size_t i, const char* expected) const {
    size_t length = 0;
    if (type(i) != napi_string || napi_get_value_string_utf8(env, values[i], nullptr, 0, &length) != napi_ok)
      refuse(i, expected);
    std::string value(length, '\0');
    must(napi_get_value_string_utf8(env, values[i], value.data(), length + 1, &length));
    return value;
  }
  napi_value at(size_t i, const char* expected) const {
    if (i >= count) refuse(i, expected);
    return values[i];
  }
  // A shape (and strides) of `rank` axes, from scratch: [shape..., strides...]. Without strides: dense.
  View shape(Runtime& runtime, size_t rank_argument, Dtype dtype, bool with_strides = false) const;
};

// Runs `body`, and never lets a C++ exception out.
template <napi_value (*Body)(Runtime&, Arguments&)>
napi_value entry(napi_env env, napi_callback_info info) {
  Arguments arguments;
  void* name = nullptr;
  arguments.env = env;
  try {
    must(napi_get_cb_info(env, info, &arguments.count, arguments.values, nullptr, &name));
    arguments.function = static_cast<const char*>(name);
    return Body(Runtime::of(env), arguments);
  } catch (const Error& error) { return throw_error(env, error.code, error.what()); } catch (const std::bad_alloc&) {
    return throw_error(
        env, "FOVEA_OUT_OF_MEMORY",
        std::string(arguments.function) + ": the system refused memory; dispose tensors or use smaller ones");
  } catch (const std::exception& error) { return throw_error(env, "FOVEA_INTERNAL", error.what()); } catch (...) {
    return throw_error(env, "FOVEA_INTERNAL", "unknown exception");
  }
}

struct Exports {
  napi_env env;
  napi_value object;
  void add(const char* name, napi_callback callback);  // throws FOVEA_CLOSING
};

void export_tensors(Exports& exports);     // tensors.cc: run, views, reads
void export_storage(Exports& exports);     // storage.cc: shared tensors, mapped files
void export_process(Exports& exports);     // process.cc: memory, description, limits
void export_recordings(Exports& exports);  // recording.cc: steps that are kept and queued again
void export_profiling(Exports& exports);   // profiling.cc: what is queued, and when it runs

}  // namespace fovea
