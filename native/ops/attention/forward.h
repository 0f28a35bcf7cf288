// The forward pass in tiles (FlashAttention-2, Dao 2023, algorithm 1). Included by per-instruction-set files only.
//
// Keys (transposed, in panels) and values of a head are packed once. Then a chunk of work is a block of queries of
// one head: for every block of kColumns keys, each strip of kRows queries computes its tile of scores, turns it into
// 2^(s2 - top) and adds the tile times the values to its o, rescaled whenever the row's maximum has moved.
#pragma once
#include "ops/attention/softmax_row.h"

namespace fovea::FOVEA_ISA {
namespace {

// Some element is infinite or NaN: all bits of its exponent are set.
template <class Bits, class T>
FOVEA_INLINE bool has_exponent(const T* x, int64_t n, Bits exponent) {
  Bits found = 0;
  for (int64_t i = 0; i < n; i++) {
    Bits bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    found |= Bits((bits & exponent) == exponent);
  }
  return found != 0;
}
FOVEA_INLINE bool has_special(const float* x, int64_t n) { return has_exponent<uint32_t>(x, n, 0x7f800000u); }
FOVEA_INLINE bool has_special(const double* x, int64_t n) { return has_exponent<uint64_t>(x, n, 0x7ff0000000000000u); }
FOVEA_INLINE bool has_special(const Half* x, int64_t n) { return has_exponent<uint16_t>(x, n, 0x7c00u); }
FOVEA_INLINE bool has_special(const Bfloat16* x, int64_t n) { return has_exponent<uint16_t>(x, n, 0x7f80u); }

// What the queries of a head look at.
template <class A>
struct KeyHead {
  const A* keys;  // transposed, in panels
  RowOperand<A> values;
  const uint8_t* special;  // for each block of keys: some value is infinite or NaN
};
template <class T>
KeyHead<Compute<T>> key_head(const Problem<T>& p, const ForwardPlan& plan, const Compute<T>* packed, int64_t bi,
                             int64_t gi) {
  return {packed, rows_of<T>(p.v, bi, gi, packed + plan.values), reinterpret_cast<const uint8_t*>(packed + plan.flags)};
}
template <class T, class A = Compute<T>>
void pack_key_block(const Problem<T>& p, const ForwardPlan& plan, int64_t bi, int64_t gi, int64_t block, A* packed) {
  int64_t j0 = block * kColumns, end = min_of(j0 + kColumns, p.m);
  if (!p.group_sees(bi, gi, {0, p.n, j0, end})) return;  // then no tile needs it
  pack_panels<T>(p.k, bi, gi, j0, end, packed + j0 * Products<T>::depth(p.d));
  pack_row_block<T>(p.v, bi, gi, j0, end, packed + plan.values);
  bool special = false;
  if (p.hides())
    for (int64_t j = j0; j < end; j++) special |= has_special(p.row(p.v, bi, gi, j), p.e);
  reinterpret_cast<uint8_t*>(packed + plan.flags)[block] = special;
}

// A strip of kRows queries and what is known of them so far.
template <class A>
struct QueryStrip {
  A* q;      // packed
  A* o;      // [panel][kRows][P]
  A* top;    // [kRows]
  A* total;  // [kRows][lanes]
  int64_t first, rows;
};
// Where a thread keeps its strips, tile and dropout factors.
template <class T>
struct ForwardScratch {
  using A = Compute<T>;
  static constexpr int kRows = Products<T>::kRows;
  A *strips, *tile, *factors;
  int64_t d, e;  // as packed, and padded
  FOVEA_INLINE ForwardScratch(const AttentionShape& s, A* memory) : d(Products<T>::depth(s.d)), e(attention_pad(s.e)) {
    tile = memory, factors = tile + kAttentionMaxTile, strips = factors + kColumns;
  }
  FOVEA_INLINE QueryStrip<A> strip(int64_t index, int64_t first, int64_t last) const {
    int64_t size = attention_pad(kRows * (e + kLanes<A> + d + 1));
    A* o = strips + index * size;
    A *total = o + kRows * e, *q = total + kRows * kLanes<A>;
    return {q, o, q + kRows * d, total, first, min_of(kRows, last - first)};
  }
};

// One tile: the strip meets keys [j0, j0 + kColumns).
template <class T, class A = Compute<T>>
void attend(const Problem<T>& p, int64_t bi, int64_t hi, const KeyHead<A>& head, const QueryStrip<A>& strip, int64_t j0,
            A* tile, A* factors) {
  constexpr int P = kPanel<A>, kRows = Products<T>::kRows;
  const Columns columns = p.keys_seen(bi, hi, strip.first, strip.rows, j0);
  if (columns.none()) return;
  const int64_t begin = columns.begin, padded = round_up(columns.count, p.kStep);
  score_tile<T, A>(p, hi, strip.rows, strip.q, head.keys, j0, begin, padded, tile);
  const A factor = scale_tile(p, strip.rows, begin, padded, tile);
  cap_tile<T, A>(p, strip.rows, begin, padded, tile, nullptr);
  bool any = false;
  for (int64_t r = 0; r < strip.rows; r++) {
    int64_t i = strip.first + r;
    A* row = tile + r * kColumns;
    if (columns.edit) edit_scores(line_of_keys(p, bi, hi, i, j0, columns), row, begin, padded);
    Vec<A> total = load(strip.total + r * kLanes<A>);
    A shrink = soften_row<T>(row + begin, padded - begin, factor, strip.top[r], total, any);
    store(strip.total + r * kLanes<A>, total);
    if (shrink != 1)
      for (int64_t c = 0; c < p.e; c += P) {
        A* o = strip.o + c * kRows + r * P;
        store(o, load(o) * shrink), store(o + P / 2, load(o + P / 2) * shrink);
      }
    if (p.dropout.threshold) {
      dropout_factors(p.dropout, p.element(bi, hi, i, j0), columns.count, factors);
      for (int64_t c = begin; c < columns.count; c++) row[c] *= factors[c];
    }
  }
  if (!any) return;
  // A hidden key must not show, and must not change a bit, when its value becomes infinite. Rare.
  const auto add = head.special[j0 / kColumns] ? Products<T>::add_visible : Products<T>::add_product;
  add(strip.rows, columns.count - begin, tile + begin, head.values, j0 + begin, p.e, strip.o);
}

template <class T, class A = Compute<T>>
void start_strip(const Problem<T>& p, int64_t bi, int64_t hi, const QueryStrip<A>& strip) {
  constexpr int kRows = Products<T>::kRows;
  Products<T>::pack_strip(p.row(p.q, bi, hi, strip.first), p.q.strides[2], strip.rows, p.d, p.strip_factor(), strip.q);
  fill_zero(strip.o, kRows * round_up(p.e, kPanel<A>));
  fill_zero(strip.total, kRows * kLanes<A>);
  for (int r = 0; r < kRows; r++) strip.top[r] = -kInfinity<A>;
}
template <class T, class A = Compute<T>>
void finish_strip(const Problem<T>& p, int64_t bi, int64_t hi, const QueryStrip<A>& strip, const View& o,
                  const View& lse) {
  for (int64_t r = 0; r < strip.rows; r++) {
    int64_t at = (bi * p.h + hi) * p.n + strip.first + r;
    A total = total_of<A>(load(strip.total + r * kLanes<A>));
    unpack_row<Products<T>::kRows>(strip.o, r, p.e, total == 0 ? A(0) : 1 / total, o.as<T>() + at * p.e);
    lse.as<A>()[at] = log_total(strip.top[r], total);
  }
}

// Rounds of as many heads as are packed at a time.
template <class T>
void tiled_attention(Call& call, const Problem<T>& p) {
  using A = Compute<T>;
  constexpr int kRows = Products<T>::kRows;
  const ForwardPlan plan(p);
  const StripBlocks<T> blocks(p.n, p.pattern.present() ? p.pattern.square() : 0);
  A *packed = call.scratch<A>(), *scratch = packed + plan.heads * plan.head;
  int64_t seen = p.visible_keys(p.n - 1), key_blocks = ceil_div(seen, kColumns);
  for (int64_t start = 0; start < p.b * p.g; start += plan.heads) {
    int64_t heads = min_of(plan.heads, p.b * p.g - start);
    for_chunks(call, p.small(), heads * key_blocks, [&](int64_t chunk, int) {
      int64_t head = chunk / key_blocks, at = start + head;
      pack_key_block(p, plan, at / p.g, at % p.g, chunk % key_blocks, packed + head * plan.head);
    });
    for_chunks(call, p.small(), heads * p.group * blocks.count, [&](int64_t chunk, int thread) {
      int64_t head = chunk / blocks.count / p.group, at = start + head, bi = at / p.g, gi = at % p.g;
      int64_t hi = gi * p.group + chunk / blocks.count % p.group;
      // Backwards: with causality the last queries have the most work, which is best begun first.
      int64_t first = (blocks.count - 1 - chunk % blocks.count) * blocks.rows_each;
      int64_t last = min_of(first + blocks.rows_each, p.n), strips = ceil_div(last - first, kRows);
      ForwardScratch<T> mine(p, scratch + thread * plan.thread);
      [[maybe_unused]] const typename Products<T>::Use use;
      KeyHead<A> keys = key_head(p, plan, packed + head * plan.head, bi, gi);
      for (int64_t s = 0; s < strips; s++) start_strip(p, bi, hi, mine.strip(s, first + s * kRows, last));
      int64_t end = p.visible_keys(last - 1);
      const auto next = [&](int64_t j0) { return p.next_seen(bi, hi, first, last, j0, end); };
      for (int64_t j0 = next(0); j0 < end; j0 = next(j0 + kColumns))
        for (int64_t s = 0; s < strips; s++)
          attend(p, bi, hi, keys, mine.strip(s, first + s * kRows, last), j0, mine.tile, mine.factors);
      for (int64_t s = 0; s < strips; s++)
        finish_strip(p, bi, hi, mine.strip(s, first + s * kRows, last), call.out[0], call.out[1]);
    });
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
