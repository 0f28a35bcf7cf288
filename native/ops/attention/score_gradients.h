// Gradients of what is added to scores: ds for each score, or summed by distance. Included by per-instruction-set files
// only.
#pragma once
#include "ops/attention/backward.h"

namespace fovea::FOVEA_ISA {
namespace {

// The walk of gradients_of_queries, but ds itself is what is wanted.
template <class T, class A = Compute<T>>
void gradients_of_bias(Call& call, const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi,
                       const StripBlocks<T>& blocks, int64_t block, const A* packed, const BackwardScratch<T>& mine) {
  constexpr int kRows = Products<T>::kRows;
  ColumnHead<A> keys = keys_of(p, plan, bi, hi, packed);
  int64_t first = block * blocks.rows_each, end = min_of(first + blocks.rows_each, p.n);
  for (int64_t i = first; i < end; i += kRows) {
    RowStrip<A> strip = mine.strip(0, i, p.n);
    start_rows(p, p.q, p.d_o, bi, hi, strip);
    for (int64_t j0 = 0; j0 < p.m; j0 += kColumns) {
      const Columns seen = slopes_of_queries(p, bi, hi, keys, strip, j0, mine);
      const int64_t width = min_of(kColumns, p.m - j0), end = max_of(seen.count, 0);
      for (int64_t r = 0; r < strip.rows; r++) {
        A* row = mine.slopes + r * kColumns;
        fill_zero(row, min_of(seen.begin, width)), fill_zero(row + end, width - end);
        convert_row(row, call.out[0].as<T>() + p.element(bi, hi, i + r, j0), width);
      }
    }
  }
}

// The same walk over all queries of a head: sum(strip, j0, seen) for each tile.
template <class T, class A = Compute<T>, class Sum>
void sum_slopes(const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi, const A* packed,
                const BackwardScratch<T>& mine, Sum&& sum) {
  constexpr int kRows = Products<T>::kRows;
  const ColumnHead<A> keys = keys_of(p, plan, bi, hi, packed);
  for (int64_t i = 0; i < p.n; i += kRows) {
    RowStrip<A> strip = mine.strip(0, i, p.n);
    start_rows(p, p.q, p.d_o, bi, hi, strip);
    for (int64_t j0 = 0; j0 < p.visible_keys(i + strip.rows - 1); j0 += kColumns) {
      const Columns seen = slopes_of_queries(p, bi, hi, keys, strip, j0, mine);
      if (!seen.none()) sum(strip, keys, j0, seen);
    }
  }
}
// ds summed by distance.
template <class T, class A = Compute<T>>
void gradients_of_distances(Call& call, const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi,
                            const A* packed, const BackwardScratch<T>& mine) {
  const int64_t size = p.distance.shape[1];
  A* sums = call.out[0].template as<A>() + (bi * p.h + hi) * size;
  fill_zero(sums, size);
  sum_slopes(p, plan, bi, hi, packed, mine,
             [&](const RowStrip<A>& strip, const ColumnHead<A>&, int64_t j0, const Columns& seen) {
               for (int64_t r = 0; r < strip.rows; r++) {
                 const A* row = mine.slopes + r * kColumns;
                 for_distances(p.distance_zero + j0 - (strip.first + r), 1, size, seen.begin, seen.count,
                               [&](int64_t first, int64_t last, int64_t place, int64_t step) {
                                 for (int64_t c = first; c < last; c++) sums[place + (c - first) * step] += row[c];
                               });
               }
             });
}
template <class T, class A = Compute<T>>
void gradients_of_vector(Call& call, const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi,
                         const A* packed, const BackwardScratch<T>& mine) {
  A* sums = call.out[0].template as<A>() + (bi * p.h + hi) * p.d;
  fill_zero(sums, p.d);
  if constexpr (!kIs16Bit<T>)
    sum_slopes(p, plan, bi, hi, packed, mine,
               [&](const RowStrip<A>& strip, const ColumnHead<A>& keys, int64_t j0, const Columns& seen) {
                 const int64_t end = round_up(seen.count, p.kStep);
                 uncap_slopes(p, strip.rows, seen.begin, end, mine);
                 clear_behind(strip.rows, seen.count, end, mine.slopes);
                 add_vector_slopes<Products<T>::kRows>(strip.rows, p.d, strip.x, keys.x + j0 * p.d, mine.slopes,
                                                       seen.begin, end, p.scale, sums);
               });
}

// body(bi, hi, chunk, packed, mine) for `chunks` parts of each query head.
template <class T, class Body>
void for_score_gradients(Call& call, const BackwardProblem<T>& p, int64_t chunks, Body&& body) {
  using A = Compute<T>;
  const BackwardPlan plan(p);
  A *packed = call.scratch<A>(), *scratch = packed + plan.heads * plan.head;
  for (int64_t start = 0; start < p.b * p.g; start += plan.heads) {
    int64_t heads = min_of(plan.heads, p.b * p.g - start);
    pack_heads(call, p, plan, start, heads);
    for_chunks(call, p.small(), heads * p.group * chunks, [&](int64_t chunk, int thread) {
      BackwardScratch<T> mine(p, scratch + thread * plan.thread);
      [[maybe_unused]] const typename Products<T>::Use use;
      int64_t row = chunk / chunks, head = row / p.group, at = start + head, hi = at % p.g * p.group + row % p.group;
      body(plan, at / p.g, hi, chunk % chunks, packed + head * plan.head, mine);
    });
  }
}
template <class T>
void bias_gradient(Call& call, const BackwardProblem<T>& p) {
  const StripBlocks<T> blocks(p.n);
  for_score_gradients(
      call, p, blocks.count,
      [&](const BackwardPlan& plan, int64_t bi, int64_t hi, int64_t block, const auto* packed,
          const BackwardScratch<T>& mine) { gradients_of_bias(call, p, plan, bi, hi, blocks, block, packed, mine); });
}
// Of a whole head at a time: of its bias by distance, or of its vector.
template <class T, class Kernel>
void head_gradient(Call& call, const BackwardProblem<T>& p, Kernel&& gradients) {
  for_score_gradients(call, p, 1,
                      [&](const BackwardPlan& plan, int64_t bi, int64_t hi, int64_t, const auto* packed,
                          const BackwardScratch<T>& mine) { gradients(call, p, plan, bi, hi, packed, mine); });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
