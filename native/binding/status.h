// Node-API statuses and errors.
//
// A terminating worker makes almost any Node-API call fail, at any moment, and leaves its result unset: handing such a
// value to V8 crashes. So results start as nullptr, and every status goes through must() or is looked at on the spot.
#pragma once
#include <node_api.h>

#include <string>

#include "core/check.h"

namespace fovea {

inline void must(napi_status status) {
  if (status != napi_ok) [[unlikely]]
    fail("FOVEA_CLOSING", "fovea: this thread is shutting down (Node-API status ", int(status),
         "); start no further work in it");
}

// An instance of the class that setErrorClass gave, with `code` and `message`; nullptr when the environment is closing.
napi_value make_error(napi_env env, const char* code, const std::string& message);
// Leaves the error pending in JavaScript; returns what the entry then returns.
napi_value throw_error(napi_env env, const char* code, const std::string& message);

inline napi_value number(napi_env env, double value) {
  napi_value result = nullptr;
  must(napi_create_double(env, value, &result));
  return result;
}
inline napi_value integer(napi_env env, int32_t value) {
  napi_value result = nullptr;
  must(napi_create_int32(env, value, &result));
  return result;
}

// Closes itself; JavaScript values made inside are collectable afterwards.
class HandleScope {
 public:
  explicit HandleScope(napi_env env) : env_(env) { must(napi_open_handle_scope(env, &scope_)); }
  ~HandleScope() { napi_close_handle_scope(env_, scope_); }
  HandleScope(const HandleScope&) = delete;
  HandleScope& operator=(const HandleScope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope scope_ = nullptr;
};

}  // namespace fovea
