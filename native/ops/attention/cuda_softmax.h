// Online softmax of the scores that a warp holds in fragments (cuda_fragments.h), for the tensor-core kernels.
#pragma once
#include "ops/attention/cuda_fragments.h"

namespace fovea::cuda {

// Of rows lane / 4 and lane / 4 + 8: the highest score so far, and the sum of 2^(s2 - top) over this thread's columns.
struct RowSoftmax {
  float top[2] = {-kInfinity<float>, -kInfinity<float>}, total[2] = {0, 0};
};

// Turns scores, which times `scale` are s2, into 2^(s2 - top). `scale` is positive; top is not scaled. shrink: the
// factors for what was summed with an older top.
template <int kGroups>
__device__ __forceinline__ void soften(float (&s)[kGroups][4], float scale, RowSoftmax& rows, float (&shrink)[2]) {
  float base[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float highest = rows.top[half];
#pragma unroll
    for (int j = 0; j < kGroups; j++) highest = fmaxf(highest, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
    highest = across_quad(highest, [](float a, float b) { return fmaxf(a, b); });
    base[half] = highest == -kInfinity<float> ? 0 : highest * scale;  // -inf - -inf would be NaN
    shrink[half] = exp2_fast(rows.top[half] * scale - base[half]);
    rows.top[half] = highest, rows.total[half] *= shrink[half];
  }
#pragma unroll
  for (int j = 0; j < kGroups; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      s[j][i] = exp2_fast(s[j][i] * scale - base[i / 2]);
      rows.total[i / 2] += s[j][i];
    }
}
template <int kGroups>
__device__ __forceinline__ void shrink_sums(float (&o)[kGroups][4], const float (&shrink)[2]) {
#pragma unroll
  for (int j = 0; j < kGroups; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) o[j][i] *= shrink[i / 2];
}
// Sums up the totals, writes lse of rows `first` + lane / 4 and that + 8, and gives the factors for their o.
__device__ __forceinline__ void finish_rows(const RowSoftmax& rows, float scale, float* lse, int first, int count,
                                            float (&factors)[2]) {
  const int lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float total = across_quad(rows.total[half], [](float a, float b) { return a + b; });
    const int row = first + lane / 4 + half * 8;
    if (lane % 4 == 0 && row < count) lse[row] = log_total(rows.top[half] * scale, total);
    factors[half] = total == 0 ? 0 : 1 / total;
  }
}

// Hides keys from rows first + lane / 4 and that + 8; the fragment's first key is j0.
template <int kGroups>
__device__ __forceinline__ void hide_keys(const AttentionProblem& p, int first, int j0, float (&s)[kGroups][4]) {
  const int lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int visible = visible_columns(p, first + lane / 4 + half * 8, j0 + lane % 4 * 2);
#pragma unroll
    for (int j = 0; j < kGroups; j++)
#pragma unroll
      for (int c = 0; c < 2; c++)
        if (j * 8 + c >= visible) s[j][2 * half + c] = -kInfinity<float>;
  }
}
// The same with bias and mask, to products that become s2.
template <class T, int kGroups>
__device__ __forceinline__ void edit_keys(const AttentionProblem& p, const HeadEdits<T>& edits, int first, int j0,
                                          float (&s)[kGroups][4]) {
  const int lane = int(threadIdx.x) % 32;
  const float scale = float(p.scale * kLog2e);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int i = first + lane / 4 + half * 8, at = j0 + lane % 4 * 2;
    const int visible = i < int(p.n) ? visible_columns(p, i, at) : 0;
#pragma unroll
    for (int j = 0; j < kGroups; j++)
#pragma unroll
      for (int c = 0; c < 2; c++) {
        float& score = s[j][2 * half + c];
        score = j * 8 + c < visible ? edits.apply(i, at + j * 8 + c, score * scale) : -kInfinity<float>;
      }
  }
}

}  // namespace fovea::cuda
