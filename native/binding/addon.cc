// What Node calls when it loads fovea.node: a runtime for the environment, and its functions.
#include <node_api.h>

#include "binding/arguments.h"
#include "core/budget.h"

namespace fovea {

void Exports::add(const char* name, napi_callback callback) {
  napi_value function = nullptr;
  must(napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, const_cast<char*>(name), &function));
  must(napi_set_named_property(env, object, name, function));
}

}  // namespace fovea

NAPI_MODULE_INIT() {
  using namespace fovea;
  try {
    registry();                        // throws where FOVEA_ISA names what this machine cannot run,
    Budget::process().limit();         // and this where FOVEA_MEMORY_LIMIT_MB is no number
    auto* runtime = new Runtime(env);  // owned by the cleanup hook that it registers
    must(napi_set_instance_data(env, runtime, nullptr, nullptr));
    Exports list{env, exports};
    export_tensors(list);
    export_storage(list);
    export_process(list);
    export_recordings(list);
    export_profiling(list);
    return exports;
  } catch (const Error& error) {
    return throw_error(env, error.code, error.what());
  } catch (const std::exception& error) { return throw_error(env, "FOVEA_INTERNAL", error.what()); }
}
