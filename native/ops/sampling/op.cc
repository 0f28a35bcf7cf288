// The next token of a language model, drawn from softmax(logits / temperature) over the topK largest, of these the
// smallest set whose probabilities reach topP (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751), of these what
// has at least minP of the largest probability (Nguyen et al. 2024, https://arxiv.org/abs/2407.01082).
#include "core/registry.h"
#include "ops/families.h"
#include "ops/sampling/workspace.h"

namespace fovea {
namespace {

size_t sample_workspace(Views in, Views, const void* attrs, int threads) {
  return size_t(threads) * size_t(SampleScratch(in[0].dim(1), *static_cast<const SampleAttrs*>(attrs)).bytes);
}

}  // namespace

void declare_sampling(Registry& r) {
  // ids: -1 where a row's largest logit is NaN or infinite
  r.add<SampleAttrs>("sampleTokens", "logits:b n -> ids:b", "float -> int64")
      .with(Layout::dense_rows)
      .with(sample_workspace);
}

}  // namespace fovea
