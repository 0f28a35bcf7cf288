// Dropout factors of fragments (cuda_fragments.h): a Philox block gives four neighbouring keys, which belong to
// different lanes, so lanes compute blocks for each other and exchange words.
#pragma once
#include "ops/attention/cuda_problem.h"

namespace fovea::cuda {

__device__ __forceinline__ float kept(const AttentionProblem& p, uint32_t word) {
  return (word >> 8) >= p.threshold ? float(p.factor) : 0.0f;
}
__device__ __forceinline__ uint32_t word_of(const PhiloxBlock& block, int i) {
  return i & 2 ? (i & 1 ? block.word[3] : block.word[2]) : (i & 1 ? block.word[1] : block.word[0]);
}
// Swaps a (of lanes whose bit is set) with b (of the others) between lanes that differ in that bit.
__device__ __forceinline__ void swap_words(int bit, uint32_t& a, uint32_t& b) {
  const bool set = threadIdx.x & unsigned(bit);
  const uint32_t got = __shfl_xor_sync(0xffffffffu, set ? a : b, bit);
  a = set ? got : a, b = set ? b : got;
}

// Of the 16 x 16 scores from (row, column) on, which are multiples of 16: f[j][e] belongs to element e of group j of 8
// columns. Rows are queries and columns keys, or the other way round.
template <bool kRowsAreKeys>
__device__ __forceinline__ void fragment_factors(const AttentionProblem& p, int bi, int hi, int row, int column,
                                                 float (&f)[2][4]) {
  const int lane = int(threadIdx.x) % 32;
  row += lane / 4, column += lane % 4 * 2;
  if (p.m % 4 != 0) {  // no block begins with the first key of a row
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int r = row + i / 2 % 2 * 8, c = column + i / 4 * 8 + i % 2;
      const uint64_t element = kRowsAreKeys ? p.element(bi, hi, c, r) : p.element(bi, hi, r, c);
      f[i / 4][i % 4] = kept(p, word_of(philox(p.seed, p.offset + element / 4), int(element % 4)));
    }
    return;
  }
#pragma unroll
  for (int part = 0; part < 2; part++) {
    PhiloxBlock block;
    uint32_t(&words)[4] = block.word;
    if constexpr (kRowsAreKeys) {
      // Columns of group `part`: lane r of the four that have neighbouring keys computes element r for all.
      const int r = lane / 4 % 4;
      const uint64_t first = p.element(bi, hi, column + part * 8 + r % 2, row - r + r / 2 * 8);
      block = philox(p.seed, p.offset + first / 4);
      swap_words(4, words[0], words[1]), swap_words(4, words[2], words[3]);
      swap_words(8, words[0], words[2]), swap_words(8, words[1], words[3]);
#pragma unroll
      for (int e = 0; e < 4; e++) f[part][e] = kept(p, words[e]);
    } else {
      // Row `part`: of two lanes that share a block the even one computes that of group 0, the odd one that of group 1.
      const int odd = lane % 2;
      const uint64_t first = p.element(bi, hi, row + part * 8, column - odd * 2 + odd * 8);
      block = philox(p.seed, p.offset + first / 4);
      swap_words(1, words[0], words[2]), swap_words(1, words[1], words[3]);
#pragma unroll
      for (int i = 0; i < 4; i++) f[i / 2][part * 2 + i % 2] = kept(p, words[i]);
    }
  }
}

}  // namespace fovea::cuda
