// What a pattern says of every key (see pattern.h), one answer a thread.
#include "cuda/index.h"
#include "ops/attention/cuda_kernels.h"
#include "ops/attention/pattern.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void write_visible(PatternProgram pattern, Bool* seen, int64_t size, int64_t heads, int64_t rows,
                              int64_t keys, int64_t first) {
  for (int64_t at = first_item(); at < size; at += item_step()) {
    const int64_t row = at / keys, head = row / rows;
    seen[at].value = pattern_sees(pattern, head / heads, head % heads, first + row % rows, at % keys);
  }
}

}  // namespace

void attention_visible(const CudaCall& call, const VisibleAttrs& attrs) {
  const View &seen = call.out[0], &mask = call.in[1];
  check_visible(call, attrs, mask);
  // TypeScript made the program and has checked it.
  const PatternProgram pattern = pattern_program(call.in[0], &mask, attrs.keys - attrs.queries);
  const Config config{{blocks_for(seen.size(), kThreads, call.device)}, {kThreads}};
  call.launch(write_visible, config, pattern, seen.as<Bool>(), seen.size(), attrs.heads, attrs.rows, attrs.keys,
              attrs.first);
}

}  // namespace fovea::cuda
