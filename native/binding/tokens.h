// The tokens of shared tensors as JavaScript sees them: [id, nonce, nonce, dtype, ...shape], plain numbers that
// postMessage can carry.
#pragma once
#include <node_api.h>

#include "core/shared_storage.h"

namespace fovea {

napi_value token_array(napi_env env, const SharedToken& token, const View& view);
// From an array of numbers or a Float64Array. Throws FOVEA_ARGUMENT for anything else.
SharedToken token_from(napi_env env, napi_value value, const char* function);

}  // namespace fovea
