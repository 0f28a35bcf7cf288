#include "binding/tokens.h"

#include <cmath>

#include "binding/status.h"

namespace fovea {
namespace {

constexpr uint32_t kNamed = 3;  // numbers that name the storage; the rest is for the reader

[[noreturn]] void refuse(const char* function) {
  fail("FOVEA_ARGUMENT", function, ": token must be the array of numbers that share() gave; pass it on unchanged");
}

uint32_t word_of(double value, const char* function) {
  if (!(value >= 0 && value <= 4294967295.0) || value != std::floor(value)) refuse(function);
  return uint32_t(value);
}

double element(napi_env env, napi_value array, uint32_t index, const char* function) {
  napi_value item = nullptr;
  double value = 0;
  if (napi_get_element(env, array, index, &item) != napi_ok || napi_get_value_double(env, item, &value) != napi_ok)
    refuse(function);
  return value;
}

}  // namespace

napi_value token_array(napi_env env, const SharedToken& token, const View& view) {
  napi_value array = nullptr;
  must(napi_create_array(env, &array));
  uint32_t at = 0;
  auto push = [&](double value) { must(napi_set_element(env, array, at++, number(env, value))); };
  push(token.id), push(token.nonce_high), push(token.nonce_low), push(double(view.dtype));
  for (int i = 0; i < view.rank; i++) push(double(view.shape[i]));
  return array;
}

SharedToken token_from(napi_env env, napi_value value, const char* function) {
  bool is_array = false, is_typed = false;
  must(napi_is_array(env, value, &is_array));
  must(napi_is_typedarray(env, value, &is_typed));
  if (!is_array && !is_typed) refuse(function);
  uint32_t words[kNamed];
  for (uint32_t i = 0; i < kNamed; i++) words[i] = word_of(element(env, value, i, function), function);
  return {words[0], words[1], words[2]};
}

}  // namespace fovea
