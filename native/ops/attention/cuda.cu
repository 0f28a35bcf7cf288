// Attention on CUDA: see op.cc for what it computes, cuda_problem.h for what the kernels share. This file checks the
// attributes and chooses a kernel.
#include "ops/attention/cuda_decode.h"
#include "ops/attention/cuda_kernels.h"

namespace fovea::cuda {
namespace {

void check(const CudaCall& call, const AttentionAttrs& attrs) {
  if (attrs.causal < 0 || attrs.causal > 2)
    call.fail("FOVEA_ARGUMENT", "causal is %lld; pass 0 (no), 1 (top left) or 2 (bottom right)",
              static_cast<long long>(attrs.causal));
  if (!(attrs.dropoutP >= 0 && attrs.dropoutP <= 1))
    call.fail("FOVEA_ARGUMENT", "dropoutP is %g; pass a probability from 0 to 1", attrs.dropoutP);
  if (attrs.softcap != 0) call.fail("FOVEA_UNSUPPORTED", "there is no kernel that caps scores");
}
// The pattern, the bias by distance and the vector of additive scores are the inputs from `first` on.
void refuse_terms(const CudaCall& call, int first) {
  const char* terms[] = {"that asks a pattern", "with a bias by distance", "of additive scores"};
  for (int i = 0; i < 3; i++)
    if (call.in[first + i].present()) call.fail("FOVEA_UNSUPPORTED", "there is no kernel %s", terms[i]);
}

// Rows that cp.async copies and that fit the tiles of the tensor-core kernels, which count in 32 bits.
template <class T>
bool suits_tensor_cores(const AttentionProblem& p, std::initializer_list<Heads> operands) {
  constexpr int64_t kMost = int64_t(1) << 30;
  bool suits = sizeof(T) == 2 && p.n < kMost && p.m < kMost;
  for (int64_t width : {p.d, p.e}) suits = suits && width > 0 && width % 8 == 0 && width <= kTensorCoreWidth;
  for (const Heads& x : operands) suits = suits && x.aligned(16, sizeof(T)) && x.row < kMost;
  for (const Heads& x : {p.bias, p.mask}) suits = suits && x.row < kMost;
  return suits && p.bias_column < kMost && p.mask_column < kMost;
}

enum class Choice { simt, decode, tensor_cores };
template <class T>
Choice choose(const AttentionProblem& p, Dtype dtype, const DeviceLimits& device) {
  constexpr int64_t kRows = 16;  // that share a key head: with more of them, decoding computes more than it reads
  const bool tensor_cores = suits_tensor_cores<T>(p, {p.q, p.k, p.v});
  const bool enough_blocks = tensor_cores && p.group * p.n > kRows && p.b * p.h >= device.multiprocessors;
  if (suits_decoding(p, dtype) && !enough_blocks) return Choice::decode;
  return tensor_cores ? Choice::tensor_cores : Choice::simt;
}

void attention(const CudaCall& call, const AttentionAttrs& attrs) {
  check(call, attrs), refuse_terms(call, 5);
  const AttentionProblem p(call.in, attrs);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    switch (choose<T>(p, call.in[0].dtype, call.device)) {
      case Choice::decode:
        if constexpr (sizeof(T) == 2)
          if (suits_decoding_sm80(p, call.in[0].dtype)) return attention_decode_sm80<T>(call, p);
        return attention_decode<T>(call, p);
      case Choice::tensor_cores:
        if constexpr (sizeof(T) == 2) {
          if (call.device.capability == 90 && suits_sm90(p, call.in)) attention_sm90<T>(call, p);
          else attention_sm80<T>(call, p);
        }
        return;
      case Choice::simt: return attention_simt<T>(call, p);
    }
  });
}
void attention_backward(const CudaCall& call, const AttentionAttrs& attrs) {
  check(call, attrs), refuse_terms(call, 8);
  const BackwardProblem p(call, attrs);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    attention_row_statistics<T>(call, p);
    if constexpr (sizeof(T) == 2)
      if (suits_tensor_cores<T>(p, {p.q, p.k, p.v, p.d_o})) {
        if (call.device.capability == 90 && suits_backward_sm90(p, call.in)) attention_backward_sm90<T>(call, p);
        else attention_backward_sm80<T>(call, p);
        return;
      }
    attention_backward_simt<T>(call, p);
  });
}
void attention_bias_backward(const CudaCall& call, const AttentionAttrs& attrs) {
  check(call, attrs), refuse_terms(call, 8);
  const BackwardProblem p(call, attrs);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    attention_row_statistics<T>(call, p);
    attention_bias_backward_simt<T>(call, p);
  });
}

// DecodePlan's partial results.
size_t forward_workspace(Views in, Views, const void* attrs, const DeviceLimits& device) {
  const AttentionProblem p(in, *static_cast<const AttentionAttrs*>(attrs));
  const Dtype dtype = in[0].dtype;
  if (!suits_decoding(p, dtype)) return 0;
  return size_t(DecodePlan(p, dtype, device).partial_elements(p)) * kDtypeBytes[int(accumulator_of(dtype))];
}
// BackwardProblem's row_lse and row_delta.
size_t backward_workspace(Views in, Views, const void*, const DeviceLimits&) {
  return 2 * size_t(in[6].size()) * kDtypeBytes[int(in[6].dtype)];
}

}  // namespace

FOVEA_CUDA_KERNELS(attention, FOVEA_CUDA_KERNEL_WITH("attention", attention, AttentionAttrs, forward_workspace),
                   FOVEA_CUDA_KERNEL_WITH("attentionBackward", attention_backward, AttentionAttrs, backward_workspace),
                   FOVEA_CUDA_KERNEL_WITH("attentionBiasBackward", attention_bias_backward, AttentionAttrs,
                                          backward_workspace),
                   FOVEA_CUDA_KERNEL("attentionVisible", attention_visible, VisibleAttrs))

}  // namespace fovea::cuda
