// The forward pass for a few queries and many keys, as in generation: keys and values are read once, where they lie,
// and the work is bound by memory. Included by per-instruction-set files only.
//
// A chunk is one key head and kDecodeKeys of its keys, for all queries that share them; a second pass combines the
// pieces.
#pragma once
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

// From a row of keys or values to the one that is fetched while it is used. Blocks of both take turns, and the hardware
// finds either stream anew each time.
template <class T>
FOVEA_INLINE int64_t fetch_distance(int64_t stride, int64_t width) {
  constexpr int64_t kBytes = 8192;
  return max_of(1, kBytes / max_of(1, width * int64_t(sizeof(T)))) * stride;
}

// Rows [0, count) as dense A, padded with 0 to `padded`: in place if they are so already.
template <class A, class T>
FOVEA_INLINE RowOperand<A> dense_rows(const T* in, int64_t stride, int64_t count, int64_t width, int64_t padded,
                                      A* buffer) {
  if constexpr (kSame<A, T>) {
    if (width == padded) return {in, stride, 0};
  }
  const T* ahead = in + fetch_distance<T>(stride, width);
  for (int64_t r = 0; r < count; r++) {
    for (int64_t c = 0; c < width; c += 64 / int64_t(sizeof(T))) __builtin_prefetch(ahead + r * stride + c, 0, 2);
    convert_row(in + r * stride, buffer + r * padded, width);
    for (int64_t c = width; c < padded; c++) buffer[r * padded + c] = 0;
  }
  return {buffer, padded, 0};
}

// scores[r kColumns + j] = q_r . k_j for kQ rows q, `width` apart, and j < count <= lanes. A key is loaded once; with
// kFetch, what lies `ahead` of it is fetched.
template <int kQ, bool kFetch, class A>
void dot_lanes(const A* q, const RowOperand<A>& k, int64_t ahead, int64_t first, int64_t count, int64_t width,
               A* scores) {
  constexpr int L = kLanes<A>;
  A products[kQ][L * L];
  for (int64_t j = 0; j < L; j++) {
    Vec<A> sum[kQ][2] = {};
    const A* key = k.data + (first + min_of(j, count - 1)) * k.row;
    int64_t c = 0;
    for (; c + 2 * L <= width; c += 2 * L) {
      Vec<A> k0 = load(key + c), k1 = load(key + c + L);
      if constexpr (kFetch) __builtin_prefetch(key + ahead + c, 0, 2), __builtin_prefetch(key + ahead + c + L, 0, 2);
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
  for (int r = 0; r < kQ; r++) {
    Vec<A> v[L];
#pragma GCC unroll 16
    for (int j = 0; j < L; j++) v[j] = load(products[r] + j * L);
    transpose<A>(v);
#pragma GCC unroll 4
    for (int half = L / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int j = 0; j < half; j++) v[j] += v[j + half];
    store(scores + r * kColumns, v[0]);
  }
}
// o_r += sum over j of weights[r kColumns + j] v_j, for kQ rows that lie `step` apart and kV vectors of columns. If v
// holds something infinite or NaN, a weight of 0 must keep it out.
template <int kQ, int kV, bool kFetch, class A>
FOVEA_INLINE void add_columns(const A* weights, const A* v, int64_t v_step, int64_t ahead, int64_t count, bool special,
                              A* o, int64_t step) {
  constexpr int L = kLanes<A>;
  Vec<A> sum[kQ][kV] = {};
  for (int64_t j = 0; j < count; j++, v += v_step) {
    Vec<A> x[kV];
#pragma GCC unroll 4
    for (int i = 0; i < kV; i++) {
      x[i] = load(v + i * L);
      if constexpr (kFetch) __builtin_prefetch(v + ahead + i * L, 0, 2);
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
    for (int i = 0; i < kV; i++) store(o + r * step + i * L, load(o + r * step + i * L) + sum[r][i]);
}
template <int kQ, bool kFetch, class A>
void add_rows(const A* weights, const RowOperand<A>& v, int64_t ahead, int64_t count, int64_t width, bool special, A* o,
              int64_t step) {
  constexpr int L = kLanes<A>;
  int64_t c = 0;
  for (; !special && c + 4 * L <= width; c += 4 * L)
    add_columns<kQ, 4, kFetch>(weights, v.data + c, v.row, ahead, count, special, o + c, step);
  for (; c < width; c += L) add_columns<kQ, 1, kFetch>(weights, v.data + c, v.row, ahead, count, special, o + c, step);
}

// The rows of one key head: row r is query r % n of query head gi group + r / n.
template <class T>
struct DecodeHead {
  using A = Compute<T>;
  static constexpr bool kInPlace = kSame<A, T>;  // rows are used where they lie, unless they are padded
  const Problem<T>& p;
  const DecodePlan& plan;
  const DecodeScratch<A>& mine;
  int64_t bi, gi;
  A* results;  // o[e], then top and total behind attention_pad(e), for each row

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
      A* q = mine.q + r * mine.d;
      convert_row(p.row(p.q, bi, head(r), r % p.n), q, p.d);
      for (int64_t c = 0; c < p.d; c++) q[c] *= p.scale2;
      fill_zero(q + p.d, mine.d - p.d), fill_zero(o(r), mine.e);
      top(r)[0] = -kInfinity<A>, top(r)[1] = 0;
    }
  }
  void score(int64_t j0, int64_t keys) const {
    constexpr int L = kLanes<A>;
    const int64_t ahead = mine.d == p.d ? fetch_distance<T>(p.k.strides[2], p.d) : 0;
    for (int64_t j = 0; j < keys; j += kDecodeGroup) {
      int64_t count = min_of(kDecodeGroup, keys - j);
      RowOperand<A> k = dense_rows(p.row(p.k, bi, gi, j0 + j), p.k.strides[2], count, p.d, mine.d, mine.keys);
      for (int64_t l = 0; l < count; l += L)
        for_rows([&]<int kQ>(int64_t r) {
          dot_lanes<kQ, kInPlace>(mine.q + r * mine.d, k, ahead, l, min_of(L, count - l), mine.d,
                                  mine.scores + r * kColumns + j + l);
        });
    }
  }
  void soften(int64_t r, int64_t j0, int64_t keys, const Columns& seen) const {
    int64_t i = r % p.n, padded = round_up(keys, kLanes<A>);
    A* row = mine.scores + r * kColumns;
    if (p.cap2 != 0) cap_scores<A>(p.cap2, row, nullptr, 0, padded);
    if (seen.edit)
      edit_scores(line_of_keys(p, bi, head(r), i, j0, {.count = keys, .partly = seen.partly}), row, 0, padded);
    Vec<A> total{};
    bool any = false;
    A shrink = soften_row<T>(row, padded, A(1), top(r)[0], total, any);
    top(r)[1] = top(r)[1] * shrink + total_of<A>(total);
    if (shrink != 1)
      for (int64_t c = 0; c < p.e; c++) o(r)[c] *= shrink;
    if (!p.dropout.threshold) return;
    dropout_factors(p.dropout, p.element(bi, head(r), i, j0), keys, mine.factors);
    for (int64_t c = 0; c < keys; c++) row[c] *= mine.factors[c];
  }
  void add_values(int64_t j0, int64_t keys, bool partly) const {
    bool in_place = kInPlace && mine.e == p.e, special = false;
    if (p.edits_scores() || partly || p.visible_keys(0) < j0 + keys)
      for (int64_t j = j0; j < j0 + keys; j++) special |= has_special(p.row(p.v, bi, gi, j), p.e);
    int64_t step = in_place ? keys : kDecodeGroup, ahead = in_place ? fetch_distance<T>(p.v.strides[2], p.e) : 0;
    for (int64_t j = 0; j < keys; j += step) {
      int64_t count = min_of(step, keys - j);
      RowOperand<A> v = dense_rows(p.row(p.v, bi, gi, j0 + j), p.v.strides[2], count, p.e, mine.e, mine.values);
      for_rows([&]<int kQ>(int64_t r) {
        add_rows<kQ, kInPlace>(mine.scores + r * kColumns + j, v, ahead, count, mine.e, special, o(r), plan.partial);
      });
    }
  }

 private:
  // body<kQ>(r) for rows [r, r + kQ), four at a time where there are as many.
  template <class Body>
  FOVEA_INLINE void for_rows(Body body) const {
    int64_t r = 0;
    for (; r + 4 <= plan.rows; r += 4) body.template operator()<4>(r);
    if (r + 2 <= plan.rows) body.template operator()<2>(r), r += 2;
    if (r < plan.rows) body.template operator()<1>(r);
  }
};

// o and lse of one query from its pieces, which lie `step` apart.
template <class T, class A = Compute<T>>
void combine(const Problem<T>& p, const DecodePlan& plan, const A* piece, int64_t step, T* o, A* lse) {
  int64_t width = attention_pad(p.e);
  A top = -kInfinity<A>, total = 0;
  for (int64_t i = 0; i < plan.pieces; i++) top = piece[i * step + width] > top ? piece[i * step + width] : top;
  A base = top == -kInfinity<A> ? A(0) : top;
  for (int64_t i = 0; i < plan.pieces; i++)
    total += exp2_of(piece[i * step + width] - base) * piece[i * step + width + 1];
  *lse = log_total(top, total);
  for (int64_t c = 0; c < p.e; c += kColumns) {
    int64_t count = min_of(kColumns, p.e - c);
    A sum[kColumns];
    fill_zero(sum, count);
    for (int64_t i = 0; i < plan.pieces; i++) {
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
    int64_t at = chunk / plan.pieces, first = chunk % plan.pieces * kDecodeKeys;
    DecodeScratch<A> mine(p, plan, scratch + thread * plan.thread);
    DecodeHead<T> head{p, plan, mine, at / p.g, at % p.g, partial + chunk * step};
    head.start();
    int64_t end = min_of(first + kDecodeKeys, p.visible_keys(p.n - 1));
    for (int64_t block = first; block < end; block += kColumns) {
      const Columns seen = head.keys_seen(block);
      if (seen.none()) continue;
      const int64_t j0 = block + seen.begin, keys = min_of(seen.count, end - block) - seen.begin;
      head.score(j0, keys);
      for (int64_t r = 0; r < plan.rows; r++) head.soften(r, j0, keys, seen);
      head.add_values(j0, keys, seen.partly);
    }
  });
  for_chunks(call, p.small(), p.b * p.h * p.n, [&](int64_t row, int) {
    int64_t at = row / (p.group * p.n), r = row % (p.group * p.n);
    combine(p, plan, partial + at * plan.head + r * plan.partial, step, call.out[0].as<T>() + row * p.e,
            call.out[1].as<A>() + row);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
