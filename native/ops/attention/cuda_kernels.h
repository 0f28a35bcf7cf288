// What the files of attention's kernels offer cuda.cu. T is the storage type of q.
#pragma once
#include "ops/attention/cuda_problem.h"

namespace fovea::cuda {

// cuda_simt.cu: everything.
template <class T>
void attention_simt(const CudaCall& call, const AttentionProblem& p);
template <class T>
void attention_backward_simt(const CudaCall& call, const BackwardProblem& p);
template <class T>
void attention_bias_backward_simt(const CudaCall& call, const BackwardProblem& p);
// What the gradients of scores need of each query: BackwardProblem::row_lse and row_delta.
template <class T>
void attention_row_statistics(const CudaCall& call, const BackwardProblem& p);

// cuda_visible.cu: what a pattern says of every key.
void attention_visible(const CudaCall& call, const VisibleAttrs& attrs);

// cuda_decode.cu: a few queries, if suits_decoding() (cuda_decode.h); cuda_decode_sm80.cu if suits_decoding_sm80().
template <class T>
void attention_decode(const CudaCall& call, const AttentionProblem& p);
template <class T>
void attention_decode_sm80(const CudaCall& call, const AttentionProblem& p);

// cuda_sm80.cu, cuda_sm80_backward.cu: 16-bit rows of up to kTensorCoreWidth elements that cp.async can copy.
constexpr int64_t kTensorCoreWidth = 128;
template <class T>
void attention_sm80(const CudaCall& call, const AttentionProblem& p);
template <class T>
void attention_backward_sm80(const CudaCall& call, const BackwardProblem& p);
// cuda_sm90.cu: the same rows, on devices of capability 90, if suits_sm90().
bool suits_sm90(const AttentionProblem& p, Views in);
template <class T>
void attention_sm90(const CudaCall& call, const AttentionProblem& p);
// cuda_backward_sm90.cu: their gradients, if suits_backward_sm90().
bool suits_backward_sm90(const AttentionProblem& p, Views in);
template <class T>
void attention_backward_sm90(const CudaCall& call, const BackwardProblem& p);

}  // namespace fovea::cuda
