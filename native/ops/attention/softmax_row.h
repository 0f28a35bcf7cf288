// One row of softmax, key block by key block: with s2 the scores in units of log2, what has been summed so far are
// 2^(s2 - top), and the weights are divided by their total at the end (Milakov & Gimelshein 2018). Included by
// per-instruction-set files only.
#pragma once
#include "ops/attention/scores.h"

namespace fovea::FOVEA_ISA {
namespace {

// Whether some lane is above the limit; NaN is above nothing.
template <class A>
FOVEA_INLINE bool any_above(Vec<A> x, A limit) {
#if defined(__AVX512F__)
  if constexpr (kSame<A, float>) return _mm512_cmp_ps_mask(x, splat(limit), _CMP_GT_OQ) != 0;
  else return _mm512_cmp_pd_mask(x, splat(limit), _CMP_GT_OQ) != 0;
#else
  return highest_of<A>(x) > limit;
#endif
}

// How far scores may be above what stands for the largest: their weights are at most 2^kSlack, and it moves rarely.
template <class A>
constexpr A kSlack = 8;

// With s2 = factor row the scores seen so far: top >= max s2 - kSlack, one of them; total = sum of 2^(s2 - top), in
// lanes. Turns whole vectors, row[0, width), into 2^(s2 - top). Returns the factor for what was summed with an older
// top; 1 if it did not move. `any` is set unless all keys so far are hidden from this row.
template <class T, class A>
FOVEA_INLINE A soften_row(A* row, int64_t width, A factor, A& top, Vec<A>& total, bool& any) {
  constexpr int L = kLanes<A>;
  Vec<A> high0 = load(row), high1 = load(row + width - L);
  for (int64_t c = L; c + 2 * L <= width; c += 2 * L)
    high0 = max(high0, load(row + c)), high1 = max(high1, load(row + c + L));
  const Vec<A> high = max(high0, high1) * factor;
  A shrink = 1;
  if (any_above(high, top + kSlack<A>)) {
    const A highest = highest_of<A>(high);
    if (top != -kInfinity<A>) shrink = exp2_of(top - highest), total *= shrink;
    top = highest;
  }
  A base = top == -kInfinity<A> ? A(0) : top;  // -inf - -inf would be NaN
  Vec<A> sum0{}, sum1{};
  int64_t c = 0;
  for (; c + 2 * L <= width; c += 2 * L) {
    Vec<A> p0 = weight_of<T>(load(row + c) * factor - base), p1 = weight_of<T>(load(row + c + L) * factor - base);
    sum0 += p0, sum1 += p1;
    store(row + c, p0), store(row + c + L, p1);
  }
  if (c < width) {
    const Vec<A> p0 = weight_of<T>(load(row + c) * factor - base);
    sum0 += p0;
    store(row + c, p0);
  }
  total += sum0 + sum1;
  any |= top != -kInfinity<A> || total_of<A>(sum0 + sum1) != 0;
  return shrink;
}
// lse = ln sum e^s
template <class A>
FOVEA_INLINE A log_total(A top, A total) {
  return total == 0 ? -kInfinity<A> : A(kLn2) * top + log_of(total);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
