// Activations in int8, as the products read them: rows are cut into blocks of nearly equal height H, and a block holds,
// group of 32 k after group,
//
//   quads [H][8]   four k each, as `dot` wants them
//   start [2][H]   int32: what sums of products start from, since weights are unsigned: -bias times the sum of the
//                  quants, of each half of the group where halves have scales of their own; of the row with int8, in
//                  the first group. q4_K, whose weights are no less than 0: the sum itself, as float
//   d     [H]      float: what a quant is worth
//
// d is max |x| / 127 over 32 k, over 256 with K-quants and over the row with int8. Where some of these x is NaN or
// infinite d is NaN, and so is then the row of the result.
#pragma once
#include "core/kernel.h"
#include "ops/quantized/dot.h"
#include "ops/quantized/layout.h"

namespace fovea::FOVEA_ISA {

namespace {

constexpr int64_t kActivationBytes = 8 * kQuadBytes + 12;
static_assert(kActivationBytes <= kMaxActivationBytes);
constexpr int64_t kMaxHeight = 16;  // of any product's blocks
static_assert(kMaxRows <= kMaxHeight);

// Rows [0, rows) as blocks of at most `most`.
struct RowBlocks {
  int64_t rows, most, count;
  FOVEA_INLINE RowBlocks(int64_t rows, int64_t most) : rows(rows), most(most), count(ceil_div(rows, most)) {}
  FOVEA_INLINE int64_t begin(int64_t block) const { return rows * block / count; }
  FOVEA_INLINE int64_t height(int64_t block) const { return begin(block + 1) - begin(block); }
};

}  // namespace

// In cpu_quantize.cc, where no multiply is fused with an add: the same integers with every instruction set.
void quantize_weights(Call& call, const View& w, QuantType type, std::byte* packed);
void quantize_activations(Call& call, QuantType type, int64_t first_row, int64_t rows, int64_t most, std::byte* to);

}  // namespace fovea::FOVEA_ISA
