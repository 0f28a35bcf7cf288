// Gradients of attention in one pass: five products for each tile of scores where the two passes of backward.h take
// seven. Included by per-instruction-set files only.
//
// A chunk is a block of kColumns keys, which owns its dk and dv and walks over blocks of queries: strips of queries
// make their tiles of p f and ds and add to their own dq; then the tiles of all strips, read across, are added to dk
// and dv. So a dq is summed by many chunks. They do so in the order of the keys, as each waits until the block before
// it has passed the queries in question; chunks of different heads take turns, so that there is seldom anything to
// wait for.
#pragma once
#include "ops/attention/backward.h"

namespace fovea::FOVEA_ISA {
namespace {

// A query head, as it is kept while all blocks of keys pass.
template <class T>
struct QueryHead {
  using A = Compute<T>;
  static constexpr int kRows = Products<T>::kRows;
  A *lse, *delta, *query_rows, *d_o_rows, *strips;
  int64_t deep_d, deep_e, wide_d, n;

  FOVEA_INLINE QueryHead(const AttentionShape& s, const OncePlan& plan, A* head, int64_t hi)
      : deep_d(Products<T>::depth(s.d)), deep_e(Products<T>::depth(s.e)), wide_d(attention_pad(s.d)), n(s.n) {
    lse = head + plan.queries + hi % s.group * plan.query_head;
    delta = lse + plan.delta, query_rows = lse + plan.query_rows, d_o_rows = lse + plan.d_o_rows,
    strips = lse + plan.strips;
  }
  FOVEA_INLINE RowStrip<A> strip(int64_t first) const {
    // Packing writes up to a vector behind a strip, of which the next may be another thread's.
    const int64_t size = round_up(kRows * (deep_d + deep_e + wide_d), kLanes<A>) + kLanes<A>;
    A* dx = strips + first / kRows * size;
    A *x = dx + kRows * wide_d, *y = x + kRows * deep_d;
    return {x, y, dx, nullptr, first, min_of(kRows, n - first)};
  }
};

// Queries [first, end) of a head, whole strips but for the last.
template <class T>
void prepare_query_head(const BackwardProblem<T>& p, int64_t bi, int64_t hi, const QueryHead<T>& head, int64_t first,
                        int64_t end) {
  prepare_queries(p, bi, hi, first, end, head.lse, head.delta);
  pack_row_block<T>(p.q, bi, hi, first, end, head.query_rows);
  pack_row_block<T>(p.d_o, bi, hi, first, end, head.d_o_rows);
  for (int64_t i = first; i < end; i += head.kRows) start_rows(p, p.q, p.d_o, bi, hi, head.strip(i));
}

// A block of keys, and what meets it.
template <class T>
struct KeyBlock {
  using A = Compute<T>;
  static constexpr int64_t kRows = Products<T>::kRows, P = kPanel<A>, kGroups = kAcrossRows / kAcross;
  static_assert(kAcrossRows <= kColumns + kAttentionMaxStrip);
  const BackwardProblem<T>& p;
  const OncePlan& plan;
  A* memory;
  int64_t bi, gi, j0, end;

  FOVEA_INLINE KeyBlock(const BackwardProblem<T>& p, const OncePlan& plan, A* memory, int64_t bi, int64_t gi,
                        int64_t block)
      : p(p), plan(plan), memory(memory), bi(bi), gi(gi), j0(block * kColumns), end(min_of(j0 + kColumns, p.m)) {}
  FOVEA_INLINE bool is_seen() const { return p.group_sees(bi, gi, {0, p.n, j0, end}); }
  FOVEA_INLINE bool is_seen(int64_t hi, int64_t first, int64_t last) const {
    return last > p.first_query(j0) && p.sees(bi, hi, {first, last, j0, end});
  }
  void pack() const {
    pack_panels<T>(p.k, bi, gi, j0, end, memory + plan.keys),
        pack_panels<T>(p.v, bi, gi, j0, end, memory + plan.values);
    if (!rows_in_place<A, T>(p.k))
      Products<T>::pack_rows(p.row(p.k, bi, gi, j0), p.k.strides[2], 0, end - j0, p.d, kColumns,
                             memory + plan.key_rows);
  }
  void clear_sums() const {
    fill_zero(memory + plan.dk, kAcrossRows * round_up(p.d, P)),
        fill_zero(memory + plan.dv, kAcrossRows * round_up(p.e, P));
  }
  void write_sums(const View& dk, const View& dv) const {
    const int64_t at = (bi * p.g + gi) * p.m + j0;
    for (int64_t r = 0; r < end - j0; r++) {
      unpack_row<kAcrossRows>(memory + plan.dk, r, p.d, p.scale, dk.as<T>() + (at + r) * p.d);
      unpack_row<kAcrossRows>(memory + plan.dv, r, p.e, A(1), dv.as<T>() + (at + r) * p.e);
    }
  }
  // Queries [first, last) of a head, at most kAttentionRows.
  void meet(int64_t hi, const QueryHead<T>& queries, int64_t first, int64_t last) const {
    const ColumnHead<A> keys = column_head(queries);
    // Of each group of columns that are multiplied together: the strips that see any.
    int64_t begins[kGroups], ends[kGroups] = {};
    for (int64_t i = first, s = 0; i < last; i += kRows, s++) {
      const RowStrip<A> strip = queries.strip(i);
      const BackwardScratch<T> tiles(p, tile(0, s), tile(plan.slopes, s), memory + plan.factors, memory + plan.capped);
      const Columns seen = slopes_of_queries<T, true>(p, bi, hi, keys, strip, j0, tiles);
      if (!seen.none()) {
        uncap_slopes(p, strip.rows, seen.begin, round_up(seen.count, p.kStep), tiles);
        add_slopes(p, hi, strip, keys, 0, seen, tiles);
        for (int64_t g = seen.begin / kAcross; g * kAcross < seen.count; g++) {
          if (ends[g] == 0) begins[g] = s;
          ends[g] = s + 1;
        }
      }
      clear_around(strip.rows, seen, tiles.scores), clear_around(strip.rows, seen, tiles.slopes);
    }
    const int64_t rows = last - first;
    A* buffer = memory + plan.across;
    const A* weights = Products<T>::across(rows, memory, buffer);
    const A* slopes = Products<T>::across(rows, memory + plan.slopes, buffer + kAttentionRows * kColumns / 2);
    const RowOperand<A> q = rows_of<T>(p.q, bi, hi, queries.query_rows),
                        d_o = rows_of<T>(p.d_o, bi, hi, queries.d_o_rows);
    for (int64_t g = 0; g < kGroups; g++) {
      if (ends[g] == 0) continue;
      const int64_t begin = begins[g] * kRows, end = min_of(ends[g] * kRows, rows), column = g * kAcross;
      Products<T>::add_across(weights, begin, end, column, d_o, first + begin, p.e, memory + plan.dv);
      Products<T>::add_across(slopes, begin, end, column, q, first + begin, p.d, memory + plan.dk);
    }
  }

 private:
  FOVEA_INLINE A* tile(int64_t tiles, int64_t strip) const { return memory + tiles + strip * kRows * kColumns; }
  ColumnHead<A> column_head(const QueryHead<T>& queries) const {
    const RowOperand<A> packed = Products<T>::packed_rows(memory + plan.key_rows, kColumns);
    RowOperand<A> rows = rows_of<T>(p.k, bi, gi, memory + plan.key_rows);
    if (rows_in_place<A, T>(p.k)) rows.data += j0 * rows.row;
    else rows = packed;
    return {memory + plan.keys, memory + plan.values, rows, rows, queries.lse, queries.delta, j0};
  }
  // What a strip does not see of its tile.
  FOVEA_INLINE static void clear_around(int64_t rows, const Columns& seen, A* tile) {
    const int64_t begin = seen.none() ? 0 : seen.begin, count = max_of(seen.count, 0);
    for (int64_t r = 0; r < rows; r++)
      fill_zero(tile + r * kColumns, begin), fill_zero(tile + r * kColumns + count, kColumns - count);
  }
};

// The blocks of keys of all heads of a round, and in the memory of a head how many blocks of queries each has passed.
template <class T>
struct OncePass {
  using A = Compute<T>;
  Call& call;
  const BackwardProblem<T>& p;
  const OncePlan& plan;
  const StripBlocks<T> blocks;  // of queries
  A* packed;
  int64_t start, heads;

  FOVEA_INLINE int64_t key_blocks() const { return ceil_div(p.m, kColumns); }
  FOVEA_INLINE int64_t* passed(int64_t head) const { return reinterpret_cast<int64_t*>(packed + head * plan.head); }
  FOVEA_INLINE QueryHead<T> queries_of(int64_t head, int64_t hi) const {
    return {p, plan, packed + head * plan.head, hi};
  }
  // body(bi, hi, head, first, last) for all blocks of queries.
  template <class Body>
  void for_queries(Body&& body) const {
    for_chunks(call, p.small(), heads * p.group * blocks.count, [&](int64_t chunk, int) {
      const int64_t row = chunk / blocks.count, at = start + row / p.group, first = chunk % blocks.count * rows();
      const int64_t hi = at % p.g * p.group + row % p.group;
      body(at / p.g, hi, queries_of(row / p.group, hi), first, min_of(first + rows(), p.n));
    });
  }
  void prepare() const {
    for (int64_t head = 0; head < heads; head++)
      for (int64_t block = 0; block < key_blocks(); block++) passed(head)[block] = 0;
    for_queries([&](int64_t bi, int64_t hi, const QueryHead<T>& head, int64_t first, int64_t last) {
      prepare_query_head(p, bi, hi, head, first, last);
    });
  }
  void run(A* scratch) const {
    for_chunks(call, p.small(), key_blocks() * heads, [&](int64_t chunk, int thread) {
      const int64_t block = chunk / heads, head = chunk % heads, at = start + head;
      const auto key_block = [&](int64_t i) {
        return KeyBlock<T>(p, plan, scratch + thread * plan.thread, at / p.g, at % p.g, i);
      };
      const KeyBlock<T> keys = key_block(block);
      keys.clear_sums();
      if (keys.is_seen()) {
        int64_t before = block - 1;
        while (before >= 0 && !key_block(before).is_seen()) before--;
        keys.pack(), meet_queries(keys, head, block, before);
      }
      keys.write_sums(call.out[1], call.out[2]);
    });
  }
  void write_queries() const {
    for_queries([&](int64_t bi, int64_t hi, const QueryHead<T>& head, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i += head.kRows)
        write_rows<T>(head.strip(i), head.strip(i).dx, p.scale, bi * p.h + hi, call.out[0]);
    });
  }

 private:
  FOVEA_INLINE int64_t rows() const { return blocks.rows_each; }
  // Behind block `before`, if there is one.
  void meet_queries(const KeyBlock<T>& keys, int64_t head, int64_t block, int64_t before) const {
    int64_t* progress = passed(head);
    int64_t count = 0;
    for (int64_t hi = keys.gi * p.group; hi < (keys.gi + 1) * p.group; hi++) {
      const QueryHead<T> queries = queries_of(head, hi);
      for (int64_t first = 0; first < p.n; first += rows()) {
        const int64_t last = min_of(first + rows(), p.n);
        if (before >= 0) call.parallel.await(progress[before], count + 1);
        if (keys.is_seen(hi, first, last)) keys.meet(hi, queries, first, last);
        Parallel::announce(progress[block], ++count);
      }
    }
  }
};

template <class T>
void gradients_in_one_pass(Call& call, const BackwardProblem<T>& p) {
  const OncePlan plan(p, p.q, p.d_o);
  auto* packed = call.scratch<Compute<T>>();
  for (int64_t start = 0; start < p.b * p.g; start += plan.heads) {
    const OncePass<T> pass{call, p, plan, StripBlocks<T>(p.n), packed, start, min_of(plan.heads, p.b * p.g - start)};
    pass.prepare(), pass.run(packed + plan.heads * plan.head), pass.write_queries();
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
