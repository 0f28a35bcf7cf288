// What tests give attention, and where it puts its results.
#pragma once
#include <algorithm>

#include "ops/attention/attrs.h"
#include "test/harness.h"
#include "test/pattern_model.h"

namespace fovea::test {

struct AttentionCase {
  int64_t b, h, g, n, m, d, e;
  AttentionAttrs attrs = {};
  Dtype dtype = Dtype::f32;
  // Axes of b, h, n, m along which bias and mask repeat; empty: not given.
  std::vector<bool> bias = {}, mask = {};
  // How the elements of q, k, v and dO lie: as [b, h, n, d]; as [b, n, h, d]; the latter with rows that are no
  // multiples of 16 bytes apart.
  enum Rows { dense, strided, misaligned } rows = dense;
  std::vector<int64_t> pattern = {};  // a program; empty: not given
  int64_t distances = 0;              // size of the bias by distance; 0: not given
  bool one_distance = false;          // for all heads
  bool additive = false;              // scores are sums of tanh
};

// Bias, mask and dropout at once.
inline AttentionCase edited_attention(Dtype dtype) {
  const std::vector<bool> heads = {false, true, false, false}, queries = {false, false, true, false};
  return {1, 2, 1, 21, 33, 20, 12, {.scale = 0.25, .dropoutP = 0.3, .seed = 9}, dtype, heads, queries};
}
// Every choice of axes, by number: body(axes, those along which something repeats, the rest).
template <class Body>
void for_each_axes(const Body& body) {
  for (int axes = 0; axes < 16; axes++) {
    std::vector<bool> some = {(axes & 1) != 0, (axes & 2) != 0, (axes & 4) != 0, (axes & 8) != 0}, rest = some;
    rest.flip();
    body(axes, some, rest);
  }
}

inline Tensor attention_operand(const AttentionCase& c, std::vector<int64_t> shape, uint64_t seed) {
  if (c.rows == AttentionCase::dense) return Tensor::random(c.dtype, shape, seed, -1.5, 1.5);
  std::vector<int64_t> wide = shape;
  if (c.rows == AttentionCase::misaligned) wide[3]++;
  Tensor t = Tensor::strided(c.dtype, wide, {0, 2, 1, 3});
  t.view.shape[3] = shape[3];
  t.fill_random(seed, -1.5, 1.5);
  return t;
}

struct AttentionInputs {
  Tensor q, k, v, d_o, bias, mask, pattern, distance, vector;
  explicit AttentionInputs(const AttentionCase& c)
      : q(attention_operand(c, {c.b, c.h, c.n, c.d}, 1)),
        k(attention_operand(c, {c.b, c.g, c.m, c.d}, 2)),
        v(attention_operand(c, {c.b, c.g, c.m, c.e}, 3)),
        d_o(attention_operand(c, {c.b, c.h, c.n, c.e}, 4)) {
    if (!c.bias.empty()) bias = Tensor::expanded(c.dtype, {c.b, c.h, c.n, c.m}, c.bias), bias.fill_random(5);
    if (!c.mask.empty()) {
      mask = Tensor::expanded(Dtype::boolean, {c.b, c.h, c.n, c.m}, c.mask);
      mask.fill_random(6);
    }
    if (!c.pattern.empty()) {
      pattern = Tensor(Dtype::i64, {int64_t(c.pattern.size())});
      std::memcpy(pattern.view.data, c.pattern.data(), c.pattern.size() * sizeof(int64_t));
    }
    if (c.distances) {
      distance = Tensor::expanded(accumulator_of(c.dtype), {c.h, c.distances}, {c.one_distance, false});
      distance.fill_random(7, -1, 1);
    }
    if (c.additive) vector = Tensor::random(accumulator_of(c.dtype), {c.h, c.d}, 8, -1, 1);
  }
  template <class T>
  Tensor* optional(const std::vector<T>& given, Tensor& t) const {
    return given.empty() ? nullptr : &t;
  }
  std::vector<Tensor*> scores(const AttentionCase& c) {
    return {&q, &k, &v, optional(c.bias, bias), optional(c.mask, mask)};
  }
  std::vector<Tensor*> forward(const AttentionCase& c) {
    std::vector<Tensor*> inputs = scores(c);
    add_terms(c, inputs);
    return inputs;
  }
  void add_terms(const AttentionCase& c, std::vector<Tensor*>& inputs) {
    inputs.push_back(optional(c.pattern, pattern));
    inputs.push_back(c.distances ? &distance : nullptr), inputs.push_back(c.additive ? &vector : nullptr);
  }
  // Where the bias of score (i, j) is in the table of its head.
  static int64_t distance_at(const AttentionCase& c, int64_t head, int64_t i, int64_t j) {
    const int64_t at = j - i - (c.attrs.distanceAligned ? c.m - c.n : 0) + c.attrs.distanceZero;
    return head * c.distances + std::clamp<int64_t>(at, 0, c.distances - 1);
  }
  // The program as the model asks it.
  PatternProgram program(const AttentionCase& c) const {
    if (c.pattern.empty()) return {};
    return pattern_program(pattern.view, c.attrs.maskInPattern ? &mask.view : nullptr, c.m - c.n);
  }
};

struct AttentionOutputs {
  Tensor o, lse, dq, dk, dv, dbias, ddistance, dvector;
  explicit AttentionOutputs(const AttentionCase& c)
      : o(c.dtype, {c.b, c.h, c.n, c.e}),
        lse(accumulator_of(c.dtype), {c.b, c.h, c.n}),
        dq(c.dtype, {c.b, c.h, c.n, c.d}),
        dk(c.dtype, {c.b, c.g, c.m, c.d}),
        dv(c.dtype, {c.b, c.g, c.m, c.e}),
        dbias(c.dtype, {c.b, c.h, c.n, c.m}),
        ddistance(accumulator_of(c.dtype), {c.b, c.h, c.distances}),
        dvector(accumulator_of(c.dtype), {c.b, c.h, c.d}) {}
};

}  // namespace fovea::test
