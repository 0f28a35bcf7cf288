// Gradients of attention in tiles, with the probabilities recomputed from lse (FlashAttention-2, Dao 2023, algorithm
// 2). Included by per-instruction-set files only.
//
//   p = 2^(s2 - log2(e) lse)   f = dropout factor   delta_i = sum_c dO_ic o_ic
//   dv = (p f)^T dO            ds = p (f dO v^T - delta)
//   dq = scale ds k            dk = scale ds^T q    dbias = ds
//
// Two passes, so that every sum has one owner and one order whatever the number of threads: blocks of keys own their
// dk and dv and walk over the queries; blocks of queries own their dq and walk over the keys. In both, strips of rows
// meet blocks of columns: rows are keys and columns queries in the first pass, the other way round in the second.
// backward_once.h does it in one pass, where it can.
#pragma once
#include "ops/attention/scores.h"

namespace fovea::FOVEA_ISA {
namespace {

// The inputs and scratch of all gradient ops.
template <class T>
struct BackwardProblem : Problem<T> {
  using A = Compute<T>;
  const View &o, &lse, &d_o;
  BackwardProblem(const Call& call, const AttentionAttrs& attrs)
      : Problem<T>(call, attrs, 8), o(call.in[5]), lse(call.in[6]), d_o(call.in[7]) {}
};

// ---- packing

// x . y over n elements
template <class T, class A = Compute<T>>
A dot_rows(const T* x, const T* y, int64_t n) {
  constexpr int L = kLanes<A>;
  Vec<A> sum{};
  int64_t c = 0;
  for (; c + L <= n; c += L) sum += load_as<A>(x + c) * load_as<A>(y + c);
  A total = total_of<A>(sum);
  for (; c < n; c++) total += value_of<A>(x[c]) * value_of<A>(y[c]);
  return total;
}
// lse, in units of log2, and delta of queries [first, end).
template <class T, class A = Compute<T>>
void prepare_queries(const BackwardProblem<T>& p, int64_t bi, int64_t hi, int64_t first, int64_t end, A* lse,
                     A* delta) {
  for (int64_t i = first; i < end; i++) {
    A x = p.lse.template as<A>()[bi * p.lse.strides[0] + hi * p.lse.strides[1] + i * p.lse.strides[2]];
    lse[i] = x == -kInfinity<A> ? kInfinity<A> : A(kLog2e) * x;  // what sees nothing: 2^(s2 - inf) = 0
    delta[i] = dot_rows(p.row(p.d_o, bi, hi, i), p.row(p.o, bi, hi, i), p.e);
  }
}
template <class T, class A = Compute<T>>
void pack_query_block(const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi, int64_t block,
                      A* packed) {
  int64_t first = block * kColumns, end = min_of(first + kColumns, p.n);
  // What sees nothing is in no tile of queries, but its strip may be one of others, too, which takes lse and delta.
  if (p.sees(bi, hi, {first, end, 0, p.m})) {
    pack_panels<T>(p.q, bi, hi, first, end, packed + first * Products<T>::depth(p.d));
    pack_panels<T>(p.d_o, bi, hi, first, end, packed + plan.d_o + first * Products<T>::depth(p.e));
    pack_row_block<T>(p.q, bi, hi, first, end, packed + plan.query_rows);
    pack_row_block<T>(p.d_o, bi, hi, first, end, packed + plan.d_o_rows);
  }
  A *lse = packed + plan.lse, *delta = packed + plan.delta;
  prepare_queries(p, bi, hi, first, end, lse, delta);
  for (int64_t i = end; i < round_up(end, kPanel<A>); i++) lse[i] = kInfinity<A>, delta[i] = 0;
}
template <class T, class A = Compute<T>>
void pack_backward_keys(const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t gi, int64_t block,
                        A* packed) {
  int64_t first = block * kColumns, end = min_of(first + kColumns, p.m);
  if (!p.group_sees(bi, gi, {0, p.n, first, end})) return;
  pack_panels<T>(p.k, bi, gi, first, end, packed + first * Products<T>::depth(p.d));
  pack_panels<T>(p.v, bi, gi, first, end, packed + plan.values + first * Products<T>::depth(p.e));
  pack_row_block<T>(p.k, bi, gi, first, end, packed + plan.key_rows);
}
// Heads [start, start + heads).
template <class T>
void pack_heads(Call& call, const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t start, int64_t heads) {
  auto* packed = call.scratch<Compute<T>>();
  int64_t key_blocks = ceil_div(p.m, kColumns), query_blocks = ceil_div(p.n, kColumns);
  int64_t each = key_blocks + query_blocks * p.group;
  for_chunks(call, p.small(), heads * each, [&](int64_t chunk, int) {
    int64_t at = start + chunk / each, i = chunk % each, bi = at / p.g, gi = at % p.g;
    auto* head = packed + (at - start) * plan.head;
    if (i < key_blocks) return pack_backward_keys(p, plan, bi, gi, i, head);
    int64_t member = (i - key_blocks) / query_blocks;
    pack_query_block(p, plan, bi, gi * p.group + member, (i - key_blocks) % query_blocks,
                     head + plan.queries + member * plan.query_head);
  });
}

// ---- tiles

// A strip of rows: keys with values, or queries with dO; and the sums that it owns.
template <class A>
struct RowStrip {
  A *x, *y;    // packed
  A *dx, *dy;  // in panels; no dy where others own it
  int64_t first, rows;
};
template <class T>
struct BackwardScratch {
  using A = Compute<T>;
  static constexpr int kRows = Products<T>::kRows;
  A *scores, *slopes, *factors, *capped;  // tiles; the last: what capping makes of gradients
  A* query_factors;  // dropout factors of kColumns queries for all keys of the strips, kColumns apart
  A* strips;
  int64_t d, e;
  FOVEA_INLINE BackwardScratch(const AttentionShape& s, A* memory) : d(s.d), e(s.e) {
    scores = memory, slopes = scores + kAttentionMaxTile, factors = slopes + kAttentionMaxTile;
    capped = factors + kAttentionMaxTile, query_factors = capped + kAttentionMaxTile,
    strips = query_factors + kColumns * kColumns;
  }
  FOVEA_INLINE BackwardScratch(const AttentionShape& s, A* scores, A* slopes, A* factors, A* capped)
      : scores(scores),
        slopes(slopes),
        factors(factors),
        capped(capped),
        query_factors(nullptr),
        strips(nullptr),
        d(s.d),
        e(s.e) {}
  FOVEA_INLINE RowStrip<A> strip(int64_t index, int64_t first, int64_t n) const {
    int64_t wide_d = attention_pad(d), wide_e = attention_pad(e);
    int64_t deep_d = Products<T>::depth(d), deep_e = Products<T>::depth(e);
    A* dx = strips + index * attention_pad(kRows * (deep_d + deep_e + wide_d + wide_e));
    A *dy = dx + kRows * wide_d, *x = dy + kRows * wide_e;
    return {x, x + kRows * deep_d, dx, dy, first, min_of(kRows, n - first)};
  }
};
// What the strips walk over.
template <class A>
struct ColumnHead {
  const A *x, *y;  // panels
  RowOperand<A> x_rows, y_rows;
  const A *lse, *delta;  // of the queries, in units of log2
  int64_t first = 0;     // the column that panels and rows begin with
};

template <class T, class A = Compute<T>>
void start_rows(const Problem<T>& p, const View& x, const View& y, int64_t bi, int64_t head, const RowStrip<A>& strip) {
  constexpr int kRows = Products<T>::kRows;
  Products<T>::pack_strip(p.row(x, bi, head, strip.first), x.strides[2], strip.rows, p.d, p.strip_factor(), strip.x);
  Products<T>::pack_strip(p.row(y, bi, head, strip.first), y.strides[2], strip.rows, p.e, A(1), strip.y);
  fill_zero(strip.dx, kRows * round_up(p.d, kPanel<A>));
  if (strip.dy) fill_zero(strip.dy, kRows * round_up(p.e, kPanel<A>));
}
template <class T, class A = Compute<T>>
void write_rows(const RowStrip<A>& strip, const A* sums, A factor, int64_t head, const View& out) {
  int64_t width = out.shape[3], first = head * out.shape[2] + strip.first;
  for (int64_t r = 0; r < strip.rows; r++)
    unpack_row<Products<T>::kRows>(sums, r, width, factor, out.as<T>() + (first + r) * width);
}

// slopes -> ds, and with kKeep factor scores -> p f, for one row and columns [begin, end). lse and delta step over the
// queries: 1 if columns are queries, 0 if the row is one.
template <class T, int kStep, bool kKeep, class A = Compute<T>>
FOVEA_INLINE void slope_row(A factor, A* scores, A* slopes, const A* factors, const A* lse, const A* delta,
                            int64_t begin, int64_t end) {
  constexpr int L = kLanes<A>;
  for (int64_t c = begin; c < end; c += L) {
    Vec<A> lse_of = kStep ? load(lse + c) : splat(*lse), delta_of = kStep ? load(delta + c) : splat(*delta);
    Vec<A> x = weight_of<T>(load(scores + c) * factor - lse_of), slope = load(slopes + c);
    if (factors) {
      Vec<A> f = load(factors + c);
      if (kKeep) store(scores + c, x * f);
      slope *= f;
    } else if (kKeep) {
      store(scores + c, x);
    }
    store(slopes + c, x * (slope - delta_of));
  }
}

// From the gradients of capped scores to those of what was capped. Those of hidden scores are 0 and stay it, whatever
// was capped.
template <class T, class A = Compute<T>>
FOVEA_INLINE void uncap_slopes(const Problem<T>& p, int64_t rows, int64_t begin, int64_t end,
                               const BackwardScratch<T>& mine) {
  if (p.cap2 == 0) return;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = r * kColumns + begin; c < r * kColumns + end; c += kLanes<A>) {
      const Vec<A> slope = load(mine.slopes + c);
      store(mine.slopes + c, select(slope == A(0), slope, slope * load(mine.capped + c)));
    }
}

// Dropout of queries [i0, i0 + kColumns) against keys from `first` on, generated where keys are neighbours.
template <class T, class A = Compute<T>>
void drop_keys(const Problem<T>& p, int64_t bi, int64_t hi, int64_t i0, int64_t first, const BackwardScratch<T>& mine) {
  int64_t count = min_of(kAttentionRows, p.m - first);
  for (int64_t c = 0; c < kColumns && i0 + c < p.n; c++)
    dropout_factors(p.dropout, p.element(bi, hi, i0 + c, first), count, mine.query_factors + c * kColumns);
}
// The same for one strip of those keys, transposed.
template <class T, class A = Compute<T>>
void drop_strip(int64_t key, int64_t rows, int64_t queries, const BackwardScratch<T>& mine) {
  constexpr int P = kPanel<A>;
  for (int64_t c = 0; c < queries; c += P)
    pack_columns<P, int(kColumns)>(mine.query_factors + c * kColumns + key, kColumns, min_of(P, queries - c),
                                   round_up(rows, kLanes<A>), A(1), mine.factors + c);
}

// Columns that nobody sees, in a tile that is read in whole vectors.
template <class A>
FOVEA_INLINE void clear_behind(int64_t rows, int64_t count, int64_t end, A* tile) {
  for (int64_t r = 0; r < rows; r++) fill_zero(tile + r * kColumns + count, end - count);
}
// dx of a strip += slopes times what the strip met.
template <class T, class A = Compute<T>>
void add_slopes(const Problem<T>& p, int64_t hi, const RowStrip<A>& strip, const ColumnHead<A>& met, int64_t first,
                const Columns& seen, const BackwardScratch<T>& mine) {
  const int64_t end = round_up(seen.count, p.kStep);
  if constexpr (!kIs16Bit<T>)
    if (p.additive()) {
      clear_behind(strip.rows, seen.count, end, mine.slopes);
      return add_additive_slopes<Products<T>::kRows>(strip.rows, p.d, strip.x, met.x + first * p.d, p.vector_of(hi),
                                                     mine.slopes, seen.begin, end, strip.dx);
    }
  Products<T>::add_product(strip.rows, seen.count - seen.begin, mine.slopes + seen.begin, met.x_rows,
                           first + seen.begin, p.d, strip.dx);
}

// Rows are keys: adds to dv and dk of a strip what queries [i0, i0 + kColumns) of one head send. `block` is the first
// key of all strips.
template <class T, class A = Compute<T>>
void send_to_keys(const Problem<T>& p, int64_t bi, int64_t hi, const ColumnHead<A>& queries, const RowStrip<A>& strip,
                  int64_t block, int64_t i0, const BackwardScratch<T>& mine) {
  const Columns columns = p.queries_seen(bi, hi, strip.first, strip.rows, i0);
  if (columns.none()) return;
  const int64_t begin = columns.begin, count = columns.count, padded = round_up(count, p.kStep);
  score_tile<T, A>(p, hi, strip.rows, strip.x, queries.x, i0, begin, padded, mine.scores);
  Products<T>::score_tile(strip.rows, p.e, strip.y, queries.y + i0 * Products<T>::depth(p.e), begin, padded,
                          mine.slopes);
  const A factor = scale_tile(p, strip.rows, begin, padded, mine.scores);
  cap_tile<T, A>(p, strip.rows, begin, padded, mine.scores, mine.capped);
  if (p.dropout.threshold) drop_strip<T>(strip.first - block, strip.rows, count, mine);
  for (int64_t r = 0; r < strip.rows; r++) {
    int64_t at = r * kColumns;
    if (columns.edit)
      edit_scores(line_of_queries(p, bi, hi, strip.first + r, i0, columns), mine.scores + at, begin, padded);
    slope_row<T, 1, true>(factor, mine.scores + at, mine.slopes + at, p.dropout.threshold ? mine.factors + at : nullptr,
                          queries.lse + i0, queries.delta + i0, begin, padded);
  }
  uncap_slopes(p, strip.rows, begin, padded, mine);
  Products<T>::add_product(strip.rows, count - begin, mine.scores + begin, queries.y_rows, i0 + begin, p.e, strip.dy);
  add_slopes(p, hi, strip, queries, i0, columns, mine);
}

// Rows are queries: ds of a strip against keys [j0, j0 + kColumns), into `slopes`, and with kKeep p f into `scores`.
// Returns the keys that are seen.
template <class T, bool kKeep = false, class A = Compute<T>>
Columns slopes_of_queries(const Problem<T>& p, int64_t bi, int64_t hi, const ColumnHead<A>& keys,
                          const RowStrip<A>& strip, int64_t j0, const BackwardScratch<T>& mine) {
  const Columns columns = p.keys_seen(bi, hi, strip.first, strip.rows, j0);
  if (columns.none()) return columns;
  const int64_t begin = columns.begin, count = columns.count, padded = round_up(count, p.kStep), at = j0 - keys.first;
  score_tile<T, A>(p, hi, strip.rows, strip.x, keys.x, at, begin, padded, mine.scores);
  Products<T>::score_tile(strip.rows, p.e, strip.y, keys.y + at * Products<T>::depth(p.e), begin, padded, mine.slopes);
  const A factor = scale_tile(p, strip.rows, begin, padded, mine.scores);
  cap_tile<T, A>(p, strip.rows, begin, padded, mine.scores, mine.capped);
  for (int64_t r = 0; r < strip.rows; r++) {
    int64_t row = r * kColumns, i = strip.first + r;
    if (columns.edit) edit_scores(line_of_keys(p, bi, hi, i, j0, columns), mine.scores + row, begin, padded);
    if (p.dropout.threshold) {
      dropout_factors(p.dropout, p.element(bi, hi, i, j0), count, mine.factors);
      fill_zero(mine.factors + count, padded - count);
    }
    slope_row<T, 0, kKeep>(factor, mine.scores + row, mine.slopes + row, p.dropout.threshold ? mine.factors : nullptr,
                           keys.lse + i, keys.delta + i, begin, padded);
  }
  return columns;
}

// ---- chunks: a block of rows of one head

template <class T, class A = Compute<T>>
ColumnHead<A> queries_of(const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi,
                         const A* packed_head) {
  const A* x = packed_head + plan.queries + hi % p.group * plan.query_head;
  return {x,
          x + plan.d_o,
          rows_of<T>(p.q, bi, hi, x + plan.query_rows),
          rows_of<T>(p.d_o, bi, hi, x + plan.d_o_rows),
          x + plan.lse,
          x + plan.delta};
}
template <class T, class A = Compute<T>>
ColumnHead<A> keys_of(const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi,
                      const A* packed_head) {
  ColumnHead<A> queries = queries_of(p, plan, bi, hi, packed_head);
  RowOperand<A> rows = rows_of<T>(p.k, bi, hi / p.group, packed_head + plan.key_rows);
  return {packed_head, packed_head + plan.values, rows, rows, queries.lse, queries.delta};
}

template <class T, class A = Compute<T>>
void gradients_of_keys(Call& call, const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t head,
                       const StripBlocks<T>& blocks, int64_t block, const A* packed, const BackwardScratch<T>& mine) {
  constexpr int kRows = Products<T>::kRows;
  int64_t bi = head / p.g, gi = head % p.g, first = block * blocks.rows_each,
          last = min_of(first + blocks.rows_each, p.m), strips = ceil_div(last - first, kRows);
  for (int64_t s = 0; s < strips; s++) start_rows(p, p.k, p.v, bi, gi, mine.strip(s, first + s * kRows, p.m));
  for (int64_t hi = gi * p.group; hi < (gi + 1) * p.group; hi++) {
    ColumnHead<A> queries = queries_of(p, plan, bi, hi, packed);
    for (int64_t i0 = p.first_query(first) / kColumns * kColumns; i0 < p.n; i0 += kColumns) {
      if (!p.sees(bi, hi, {i0, min_of(i0 + kColumns, p.n), first, last})) continue;
      if (p.dropout.threshold) drop_keys(p, bi, hi, i0, first, mine);
      for (int64_t s = 0; s < strips; s++)
        send_to_keys(p, bi, hi, queries, mine.strip(s, first + s * kRows, p.m), first, i0, mine);
    }
  }
  for (int64_t s = 0; s < strips; s++) {
    RowStrip<A> strip = mine.strip(s, first + s * kRows, p.m);
    write_rows<T>(strip, strip.dx, p.scale, head, call.out[1]), write_rows<T>(strip, strip.dy, A(1), head, call.out[2]);
  }
}
template <class T, class A = Compute<T>>
void gradients_of_queries(Call& call, const BackwardProblem<T>& p, const BackwardPlan& plan, int64_t bi, int64_t hi,
                          const StripBlocks<T>& blocks, int64_t block, const A* packed,
                          const BackwardScratch<T>& mine) {
  constexpr int kRows = Products<T>::kRows;
  ColumnHead<A> keys = keys_of(p, plan, bi, hi, packed);
  int64_t first = block * blocks.rows_each, end = min_of(first + blocks.rows_each, p.n),
          strips = ceil_div(end - first, kRows);
  for (int64_t s = 0; s < strips; s++) start_rows(p, p.q, p.d_o, bi, hi, mine.strip(s, first + s * kRows, p.n));
  for (int64_t j0 = 0; j0 < p.visible_keys(end - 1); j0 += kColumns) {
    if (!p.sees(bi, hi, {first, end, j0, min_of(j0 + kColumns, p.m)})) continue;
    for (int64_t s = 0; s < strips; s++) {
      RowStrip<A> strip = mine.strip(s, first + s * kRows, p.n);
      const Columns seen = slopes_of_queries(p, bi, hi, keys, strip, j0, mine);
      if (seen.none()) continue;
      uncap_slopes(p, strip.rows, seen.begin, round_up(seen.count, p.kStep), mine);
      add_slopes(p, hi, strip, keys, j0, seen, mine);
    }
  }
  for (int64_t s = 0; s < strips; s++) {
    RowStrip<A> strip = mine.strip(s, first + s * kRows, p.n);
    write_rows<T>(strip, strip.dx, p.scale, bi * p.h + hi, call.out[0]);
  }
}
template <class T>
void attention_gradients(Call& call, const BackwardProblem<T>& p) {
  using A = Compute<T>;
  const BackwardPlan plan(p);
  const StripBlocks<T> key_blocks(p.m), query_blocks(p.n);
  A *packed = call.scratch<A>(), *scratch = packed + plan.heads * plan.head;
  for (int64_t start = 0; start < p.b * p.g; start += plan.heads) {
    int64_t heads = min_of(plan.heads, p.b * p.g - start), keys = heads * key_blocks.count;
    pack_heads(call, p, plan, start, heads);
    for_chunks(call, p.small(), keys + heads * p.group * query_blocks.count, [&](int64_t chunk, int thread) {
      BackwardScratch<T> mine(p, scratch + thread * plan.thread);
      [[maybe_unused]] const typename Products<T>::Use use;
      if (chunk < keys) {
        int64_t head = chunk / key_blocks.count;
        return gradients_of_keys(call, p, plan, start + head, key_blocks, chunk % key_blocks.count,
                                 packed + head * plan.head, mine);
      }
      // Backwards: with causality the last queries have the most work.
      int64_t row = (chunk - keys) / query_blocks.count,
              block = query_blocks.count - 1 - (chunk - keys) % query_blocks.count;
      int64_t head = row / p.group, at = start + head, hi = at % p.g * p.group + row % p.group;
      gradients_of_queries(call, p, plan, at / p.g, hi, query_blocks, block, packed + head * plan.head, mine);
    });
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
