#pragma once
#include "core/kernel.h"

namespace fovea {

// embeddingBackward sorts the ids by row: where each row's run starts (rows + 1), then the positions, as int64.
size_t embedding_backward_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
