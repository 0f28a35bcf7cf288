// The forward pass for a few queries and many keys, as in generation: keys and values are read once, where they lie,
// and the work is bound by memory. Included by per-instruction-set files only.
//
// A chunk is one key head and kDecodeKeys of its keys, for all queries that share them; a second pass combines the
// pieces.
#pragma once
#include "ops/attention/decode_pairs.h"
#include "ops/attention/forward.h"

namespace fovea::FOVEA_ISA {
namespace {

template <class A>
struct DecodeScratch {
  A *q, *scores, *keys, *values, *factors;
  int64_t d, e;  // padded
  FOVEA_INLINE DecodeScratch(const AttentionShape& s, const DecodePlan& plan, A* memory)
      : d(round_up(s.d, kLanes<A>)), e(round_up(s.e, kLanes<A>)) {
    q = memory, scores = q + plan.rows * attention_pad(s.d), keys = scores + plan.rows * kColumns;
    values = keys + kDecodeGroup * attention_pad(s.d), factors = values + kDecodeGroup * attention_pad(s.e);
  }
};

// From a row of keys or values to the one that is fetched while it is used, in rows. Blocks of both take turns, and the
// hardware finds either stream anew each time.
template <class T>
FOVEA_INLINE int64_t fetch_distance(int64_t width) {
  constexpr int64_t kBytes = 8192;
  return max_of(1, kBytes / max_of(1, width * int64_t(sizeof(T))));
}

// Rows of keys or values that lie `step` apart. Those in pages (paged.h) offer the same.
template <class T>
struct EvenRows {
  using Element = T;
  const T* first;
  int64_t step, ahead;  // the latter: from a row to the one that is fetched while it is used
  FOVEA_INLINE const T* operator[](int64_t r) const { return first + r * step; }
  FOVEA_INLINE const T* fetched_at(int64_t r) const { return first + r * step + ahead; }
  FOVEA_INLINE EvenRows from(int64_t r) const { return {first + r * step, step, ahead}; }
};
// Those of a head from `first` on.
template <class T>
FOVEA_INLINE EvenRows<T> even_rows(const View& x, int64_t bi, int64_t head, int64_t first) {
  const int64_t step = x.strides[2];
  return {Problem<T>::row(x, bi, head, first), step, fetch_distance<T>(x.shape[3]) * step};
}

// body(rows [0, count) as dense A, padded with 0 to `padded`): in place if they are so already.
template <class A, class Rows, class Body>
FOVEA_INLINE void with_dense_rows(const Rows& in, int64_t count, int64_t width, int64_t padded, A* buffer, Body body) {
  using T = typename Rows::Element;
  if constexpr (kSame<A, T>) {
    if (width == padded) return body(in);
  }
  for (int64_t r = 0; r < count; r++) {
    const T* ahead = in.fetched_at(r);
    for (int64_t c = 0; c < width; c += 64 / int64_t(sizeof(T))) __builtin_prefetch(ahead + c, 0, 2);
    convert_row(in[r], buffer + r * padded, width);
    for (int64_t c = width; c < padded; c++) buffer[r * padded + c] = 0;
  }
  body(EvenRows<A>{buffer, padded, 0});
}

// products[r][j lanes] = q_r . k_j in lanes, for kQ rows q, `width` apart, and keys [first, first + count), the last of
// which stands for those that are missing of a vector of lanes. A key is loaded once; with kFetch, the one ahead of it
// is fetched.
template <int kQ, bool kFetch, class A, class Rows>
void multiply_lanes(const A* q, const Rows& k, int64_t first, int64_t count, int64_t width,
                    A (&products)[kQ][kLanes<A> * kLanes<A>]) {
  constexpr int L = kLanes<A>;
  for (int64_t j = 0; j < L; j++) {
    Vec<A> sum[kQ][2] = {};
    const int64_t row = first + min_of(j, count - 1);
    const A* key = k[row];
    [[maybe_unused]] const A* next = k.fetched_at(row);
    int64_t c = 0;
    for (; c + 2 * L <= width; c += 2 * L) {
      Vec<A> k0 = load(key + c), k1 = load(key + c + L);
      if constexpr (kFetch) __builtin_prefetch(next + c, 0, 2), __builtin_prefetch(next + c + L, 0, 2);
#pragma GCC unroll 4
      for (int r = 0; r < kQ; r++)
        sum[r][0] += load(q + r * width + c) * k0, sum[r][1] += load(q + r * width + c + L) * k1;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kQ; r++) {
      if (c < width) sum[r][0] += load(q + r * width + c) * load(key + c);
      store(products[r] + j * L, sum[r][0] + sum[r][1]);
    }
  }
}
// scores[r kColumns + j] = the sum of products[r][j]: as in a transposition, whose rounds add what they bring together.
template <int kQ, class A>
FOVEA_INLINE void sum_products(const A (&products)[kQ][kLanes<A> * kLanes<A>], A* scores) {
  constexpr int L = kLanes<A>;
  using Lanes = std::make_integer_sequence<int, L>;
  for (int r = 0; r < kQ; r++) {
    Vec<A> v[L];
#pragma GCC unroll 16
    for (int j = 0; j < L; j++) v[j] = load(products[r] + j * L);
#pragma GCC unroll 4
    for (int half = L / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int j = 0; j < half; j++)
        v[j] = riffle<A, 0>(v[j], v[j + half], Lanes{}) + riffle<A, L / 2>(v[j], v[j + half], Lanes{});
    store(scores + r * kColumns, v[0]);
  }
}
// o_r += sum over j of weights[r kColumns + j] v_j, for kQ rows that lie `step` apart and kV vectors of columns from c
// on. If v holds something infinite or NaN, a weight of 0 must keep it out.
template <int kQ, int kV, bool kFetch, class A, class Rows>
FOVEA_INLINE void add_columns(const A* weights, const Rows& v, int64_t c, int64_t count, bool special, A* o,
                              int64_t step) {
  constexpr int L = kLanes<A>;
  Vec<A> sum[kQ][kV] = {};
  for (int64_t j = 0; j < count; j++) {
    const A* row = v[j] + c;
    [[maybe_unused]] const A* next = v.fetched_at(j) + c;
    Vec<A> x[kV];
#pragma GCC unroll 4
    for (int i = 0; i < kV; i++) {
      x[i] = load(row + i * L);
      if constexpr (kFetch) __builtin_prefetch(next + i * L, 0, 2);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kQ; r++) {
      A weight = weights[r * kColumns + j];
      if (special && weight == 0) continue;
#pragma GCC unroll 4
      for (int i = 0; i < kV; i++) sum[r][i] += x[i] * weight;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kQ; r++)
#pragma GCC unroll 4
    for (int i = 0; i < kV; i++) {
      A* to = o + r * step + c + i * L;
      store(to, load(to) + sum[r][i]);
    }
}
template <int kQ, bool kFetch, class A, class Rows>
void add_rows(const A* weights, Rows v, int64_t count, int64_t width, bool special, A* o, int64_t step) {
  constexpr int L = kLanes<A>;
  int64_t c = 0;
  for (; !special && c + 4 * L <= width; c += 4 * L) add_columns<kQ, 4, kFetch>(weights, v, c, count, special, o, step);
  for (; c < width; c += L) add_columns<kQ, 1, kFetch>(weights, v, c, count, special, o, step);
}

// The rows of one key head, over one piece of its keys: row r is query r % n of query head gi group + r / n.
template <class T, class Rows>
struct DecodeHead {
  using A = Compute<T>;
  using Pairs = DecodePairs<T>;
  static constexpr bool kInPlace = kSame<A, T>;  // rows are used where they lie, unless they are padded
  const Problem<T>& p;
  const DecodePlan& plan;
  const DecodeScratch<A>& mine;
  int64_t bi, gi, first;  // the piece is keys [first, first + kDecodeKeys)
  Rows keys, values;      // from `first` on
  A* results;             // o[e], then top and total behind attention_pad(e), for each row

  FOVEA_INLINE int64_t head(int64_t r) const { return gi * p.group + r / p.n; }
  FOVEA_INLINE A* o(int64_t r) const { return results + r * plan.partial; }
  FOVEA_INLINE A* top(int64_t r) const { return o(r) + attention_pad(p.e); }

  // What any row sees of the keys from j0 on. Only a pattern tells heads apart.
  Columns keys_seen(int64_t j0) const {
    Columns seen = p.keys_seen(bi, gi * p.group, 0, p.n, j0);
    for (int64_t hi = gi * p.group + 1; p.pattern.present() && hi < (gi + 1) * p.group; hi++) {
      const Columns one = p.keys_seen(bi, hi, 0, p.n, j0);
      const bool differ = one.none() || seen.none();
      if (seen.none()) seen = one;
      else if (!one.none()) seen.begin = min_of(seen.begin, one.begin), seen.count = max_of(seen.count, one.count);
      seen.edit |= one.edit || differ, seen.partly |= one.partly || differ;
    }
    return seen;
  }
  void start() const {
    for (int64_t r = 0; r < plan.rows; r++) {
      const T* query = p.row(p.q, bi, head(r), r % p.n);
      if constexpr (Pairs::kExist) {
        T* q = pairs_of_query(r);
        for (int64_t c = 0; c < pair_step(); c++) q[c] = c < p.d ? query[c] : T{};
      } else {
        A* q = mine.q + r * mine.d;
        convert_row(query, q, p.d);
        for (int64_t c = 0; c < p.d; c++) q[c] *= p.scale2;
        fill_zero(q + p.d, mine.d - p.d);
      }
      fill_zero(o(r), mine.e);
      top(r)[0] = -kInfinity<A>, top(r)[1] = 0;
    }
  }
  void score(int64_t j0, int64_t count) const {
    for (int64_t j = 0; j < count; j += kDecodeGroup) {
      const int64_t part = min_of(kDecodeGroup, count - j);
      const Rows k = keys.from(j0 - first + j);
      A* scores = mine.scores + j;
      if constexpr (Pairs::kExist) {
        score_lanes(part, scores, [&]<int kQ>(int64_t r, int64_t l, int64_t lanes, auto& products) {
          Pairs::template multiply<kQ>(pairs_of_query(r), pair_step(), k, l, lanes, p.d, products);
        });
      } else {
        with_dense_rows(k, part, p.d, mine.d, mine.keys, [&](const auto& rows) {
          score_lanes(part, scores, [&]<int kQ>(int64_t r, int64_t l, int64_t lanes, auto& products) {
            multiply_lanes<kQ, kInPlace>(mine.q + r * mine.d, rows, l, lanes, mine.d, products);
          });
        });
      }
    }
  }
  void soften(int64_t r, int64_t j0, int64_t count, const Columns& seen) const {
    int64_t i = r % p.n, padded = round_up(count, kLanes<A>);
    A* row = mine.scores + r * kColumns;
    const A factor = scale_tile(p, 1, 0, padded, row);
    cap_tile<T, A>(p, 1, 0, padded, row, nullptr);
    if (seen.edit)
      edit_scores(line_of_keys(p, bi, head(r), i, j0, {.count = count, .partly = seen.partly}), row, 0, padded);
    Vec<A> total{};
    bool any = false;
    A shrink = soften_row<T>(row, padded, factor, top(r)[0], total, any);
    top(r)[1] = top(r)[1] * shrink + total_of<A>(total);
    if (shrink != 1)
      for (int64_t c = 0; c < p.e; c++) o(r)[c] *= shrink;
    if (!p.dropout.threshold) return;
    dropout_factors(p.dropout, p.element(bi, head(r), i, j0), count, mine.factors);
    for (int64_t c = 0; c < count; c++) row[c] *= mine.factors[c];
  }
  void add_values(int64_t j0, int64_t count, bool partly) const {
    const bool in_place = kInPlace && mine.e == p.e;
    const Rows seen = values.from(j0 - first);
    bool special = false;
    if (p.edits_scores() || partly || p.visible_keys(0) < j0 + count)
      for (int64_t j = 0; j < count; j++) special |= has_special(seen[j], p.e);
    const int64_t step = in_place ? count : kDecodeGroup;
    for (int64_t j = 0; j < count; j += step) {
      const int64_t part = min_of(step, count - j);
      with_dense_rows(seen.from(j), part, p.e, mine.e, mine.values, [&](const auto& v) {
        for_rows([&]<int kQ>(int64_t r) {
          add_rows<kQ, kInPlace>(mine.scores + r * kColumns + j, v, part, mine.e, special, o(r), plan.partial);
        });
      });
    }
  }
  // The piece, block by block.
  void attend() const {
    start();
    const int64_t end = min_of(first + kDecodeKeys, p.visible_keys(p.n - 1));
    for (int64_t block = first; block < end; block += kColumns) {
      const Columns seen = keys_seen(block);
      if (seen.none()) continue;
      const int64_t j0 = block + seen.begin, count = min_of(seen.count, end - block) - seen.begin;
      score(j0, count);
      for (int64_t r = 0; r < plan.rows; r++) soften(r, j0, count, seen);
      add_values(j0, count, seen.partly);
    }
  }

 private:
  // Queries in pairs, which are scaled when they are scores.
  FOVEA_INLINE int64_t pair_step() const { return 2 * mine.d; }
  FOVEA_INLINE T* pairs_of_query(int64_t r) const { return reinterpret_cast<T*>(mine.q + r * mine.d); }
  // multiply<kQ>(r, l, lanes, products) for a vector of keys at a time, and rows [r, r + kQ).
  template <class Multiply>
  FOVEA_INLINE void score_lanes(int64_t count, A* scores, Multiply&& multiply) const {
    constexpr int L = kLanes<A>;
    for (int64_t l = 0; l < count; l += L)
      for_rows([&]<int kQ>(int64_t r) {
        A products[kQ][L * L];
        multiply.template operator()<kQ>(r, l, min_of(L, count - l), products);
        sum_products<kQ>(products, scores + r * kColumns + l);
      });
  }
  // body<kQ>(r) for rows [r, r + kQ), four at a time where there are as many.
  template <class Body>
  FOVEA_INLINE void for_rows(Body body) const {
    int64_t r = 0;
    for (; r + 4 <= plan.rows; r += 4) body.template operator()<4>(r);
    if (r + 2 <= plan.rows) body.template operator()<2>(r), r += 2;
    if (r < plan.rows) body.template operator()<1>(r);
  }
};

// o[e] and lse of one query from its pieces, which lie `step` apart.
template <class T, class A = Compute<T>>
void combine(int64_t e, int64_t pieces, const A* piece, int64_t step, T* o, A* lse) {
  int64_t width = attention_pad(e);
  A top = -kInfinity<A>, total = 0;
  for (int64_t i = 0; i < pieces; i++) top = piece[i * step + width] > top ? piece[i * step + width] : top;
  A base = top == -kInfinity<A> ? A(0) : top;
  for (int64_t i = 0; i < pieces; i++) total += exp2_of(piece[i * step + width] - base) * piece[i * step + width + 1];
  *lse = log_total(top, total);
  for (int64_t c = 0; c < e; c += kColumns) {
    int64_t count = min_of(kColumns, e - c);
    A sum[kColumns];
    fill_zero(sum, count);
    for (int64_t i = 0; i < pieces; i++) {
      A weight = total == 0 ? A(0) : exp2_of(piece[i * step + width] - base) / total;
      for (int64_t l = 0; l < count; l++) sum[l] += weight * piece[i * step + c + l];
    }
    convert_row(sum, o + c, count);
  }
}

template <class T>
void decode_attention(Call& call, const Problem<T>& p) {
  using A = Compute<T>;
  const DecodePlan plan(p);
  A *partial = call.scratch<A>(), *scratch = partial + plan.heads * plan.head;
  int64_t step = plan.rows * plan.partial;
  for_chunks(call, p.small(), plan.heads * plan.pieces, [&](int64_t chunk, int thread) {
    const int64_t at = chunk / plan.pieces, bi = at / p.g, gi = at % p.g, first = chunk % plan.pieces * kDecodeKeys;
    const DecodeScratch<A> mine(p, plan, scratch + thread * plan.thread);
    DecodeHead<T, EvenRows<T>>{p,
                               plan,
                               mine,
                               bi,
                               gi,
                               first,
                               even_rows<T>(p.k, bi, gi, first),
                               even_rows<T>(p.v, bi, gi, first),
                               partial + chunk * step}
        .attend();
  });
  for_chunks(call, p.small(), p.b * p.h * p.n, [&](int64_t row, int) {
    int64_t at = row / (p.group * p.n), r = row % (p.group * p.n);
    combine(p.e, plan.pieces, partial + at * plan.head + r * plan.partial, step, call.out[0].as<T>() + row * p.e,
            call.out[1].as<A>() + row);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
