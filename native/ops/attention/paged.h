// The forward pass over keys and values in pages (Kwon et al. 2023, https://arxiv.org/abs/2309.06180), read where they
// lie. Included by per-instruction-set files only.
//
// Each sequence is a decoding step by itself (decode.h): its keys are cut into pieces, and so are its queries if they
// are many. Where the rows of a piece lie is listed once for all queries of a chunk, so that pages may have any size.
// How a sequence is cut depends on itself alone: its results have the same bits in every batch. Sequences are taken in
// rounds, as many as there is room for results of their chunks.
#pragma once
#include "core/ragged.h"
#include "ops/attention/decode.h"

namespace fovea::FOVEA_ISA {
namespace {

// Rows wherever they lie.
template <class T>
struct ListedRows {
  using Element = T;
  const T* const* row;
  int64_t ahead;  // as of EvenRows, but counted in rows: those behind the last are listed, too
  FOVEA_INLINE const T* operator[](int64_t r) const { return row[r]; }
  FOVEA_INLINE const T* fetched_at(int64_t r) const { return row[r + ahead]; }
  FOVEA_INLINE ListedRows from(int64_t r) const { return {row + r, ahead}; }
};
// Those of one piece of a sequence's keys, or of its values: [first, first + kDecodeKeys), of `keys` that it has.
template <class T>
class RowList {
 public:
  RowList(const View& pages, const int64_t* table, int64_t gi, int64_t first, int64_t keys)
      : ahead_(min_of(fetch_distance<T>(pages.shape[3]), kColumns)) {
    if (first >= keys) return;
    const int64_t size = pages.shape[2], wanted = min_of(kDecodeKeys, keys - first) + ahead_;
    int64_t listed = 0;
    for (int64_t j = first, end = min_of(first + wanted, keys); j < end;) {
      const int64_t t = j / size, stop = min_of((t + 1) * size, end);
      const T* row = Problem<T>::row(pages, table[t], gi, j - t * size);
      for (; j < stop; j++, row += pages.strides[2]) row_[listed++] = row;
    }
    for (; listed < wanted; listed++) row_[listed] = row_[listed - 1];
  }
  FOVEA_INLINE ListedRows<T> rows() const { return {row_, ahead_}; }

 private:
  int64_t ahead_;
  const T* row_[kDecodeKeys + kColumns];
};

// Some queries of a sequence, and its keys up to that of the last of them, as inputs of `attention`. Of k and v only
// the shapes mean anything.
struct SequenceInputs {
  View views[8];  // the last five are not present
  SequenceInputs(const Call& call, int64_t bi, int64_t first, int64_t queries, int64_t keys) {
    for (int i = 0; i < 3; i++) views[i] = call.in[i];
    View &q = views[0], &k = views[1], &v = views[2];
    q.data += (bi * q.strides[0] + first * q.strides[2]) * int64_t(bytes_of(q.dtype));
    q.shape[0] = k.shape[0] = v.shape[0] = 1;
    q.shape[2] = queries, k.shape[2] = v.shape[2] = keys;
  }
  template <class T>
  FOVEA_INLINE Problem<T> problem(const Call& whole, const PagedAttentionAttrs& attrs) const {
    const Call call{whole.parallel, {views, 8}, whole.out, whole.workspace, whole.op};
    return Problem<T>(call, {.scale = attrs.scale, .causal = 2, .softcap = attrs.softcap}, 5);
  }
};

template <class T>
struct PagedSequences {
  using A = Compute<T>;
  Call& call;
  const PagedAttentionAttrs& attrs;
  const AttentionShape shape;  // its m is the size of a page
  const PagedPlan plan;
  int64_t* begin;    // of each sequence's chunks, and behind the last
  int64_t* lengths;  // and pages, as they were checked: another thread may write to a shared tensor meanwhile
  int64_t* table;
  A *results, *scratch;

  PagedSequences(Call& c, const PagedAttentionAttrs& a)
      : call(c),
        attrs(a),
        shape(c.in[0], c.in[1], c.in[2]),
        plan(paged_plan(c.in)),
        begin(c.scratch<int64_t>()),
        lengths(begin + shape.b + 1),
        table(lengths + shape.b),
        results(c.scratch<A>(size_t(plan.integers))),
        scratch(results + plan.heads * plan.head) {}

  FOVEA_INLINE int64_t* pages_of(int64_t bi) const { return table + bi * call.in[3].shape[1]; }
  FOVEA_INLINE int64_t pieces(int64_t bi) const { return ceil_div(lengths[bi], kDecodeKeys); }
  FOVEA_INLINE int64_t queries_of(int64_t block) const { return min_of(plan.queries, shape.n - block * plan.queries); }
  FOVEA_INLINE int64_t step() const { return plan.rows * plan.partial; }  // from one chunk's results to the next's

  // Finds the integers, and returns how many keys there are. Throws FOVEA_INDEX for what would be read elsewhere.
  int64_t count_chunks() const {
    int64_t keys = 0;
    begin[0] = 0;
    for (int64_t bi = 0; bi < shape.b; bi++) {
      read_sequence(bi);
      keys += lengths[bi], begin[bi + 1] = begin[bi] + shape.g * pieces(bi) * plan.blocks;
    }
    return keys;
  }
  void read_sequence(int64_t bi) const {
    using Shown = long long;
    const View &given = call.in[3], &given_lengths = call.in[4];
    const int64_t keys = integer_at(given_lengths, bi * given_lengths.strides[0]);
    const int64_t size = shape.m, width = given.shape[1], pages = call.in[1].shape[0];
    if (keys < 0 || keys > width * size)
      call.fail("FOVEA_INDEX",
                "lengths[%lld] is %lld, but its row of pageTable has %lld pages of %lld positions; pass 0 to %lld",
                Shown(bi), Shown(keys), Shown(width), Shown(size), Shown(width * size));
    lengths[bi] = keys;
    for (int64_t t = 0; t * size < keys; t++) {
      const int64_t page = integer_at(given, bi * given.strides[0] + t * given.strides[1]);
      if (page < 0 || page >= pages)
        call.fail("FOVEA_INDEX",
                  "pageTable[%lld][%lld] is %lld, but there are %lld pages; as far as the %lld positions of "
                  "lengths[%lld] reach, entries run from 0 to pages - 1",
                  Shown(bi), Shown(t), Shown(page), Shown(pages), Shown(keys), Shown(bi));
      pages_of(bi)[t] = page;
    }
  }

  // Chunks of a sequence are in the order of key heads, pieces, blocks of queries: neighbours read the same keys.
  void attend(int64_t chunk, int64_t bi, A* to, int thread) const {
    const int64_t place = (chunk - begin[bi]) / plan.blocks, block = (chunk - begin[bi]) % plan.blocks;
    const int64_t gi = place / pieces(bi), first = place % pieces(bi) * kDecodeKeys;
    const int64_t i0 = block * plan.queries, queries = queries_of(block);
    const int64_t keys = max_of(0, lengths[bi] - shape.n + i0 + queries);
    const SequenceInputs inputs(call, bi, i0, queries, keys);
    const Problem<T> p = inputs.problem<T>(call, attrs);
    const DecodePlan own(p);
    const DecodeScratch<A> mine(p, own, scratch + thread * plan.thread);
    const RowList<T> k(call.in[1], pages_of(bi), gi, first, keys), v(call.in[2], pages_of(bi), gi, first, keys);
    DecodeHead<T, ListedRows<T>>{p, own, mine, 0, gi, first, k.rows(), v.rows(), to}.attend();
  }
  // o and lse of query i of a head, from the results of its chunks, of which those of the sequence begin at `from`.
  void finish(int64_t bi, int64_t hi, int64_t i, const A* from) const {
    const int64_t block = i / plan.queries, row = hi % shape.group * queries_of(block) + i % plan.queries;
    const int64_t chunk = hi / shape.group * pieces(bi) * plan.blocks + block, at = (bi * shape.h + hi) * shape.n + i;
    combine(shape.e, pieces(bi), from + chunk * step() + row * plan.partial, plan.blocks * step(),
            call.out[0].as<T>() + at * shape.e, call.out[1].as<A>() + at);
  }
  // Sequences [b0, b1), whose chunks there is room for.
  void round(int64_t b0, int64_t b1, bool small) const {
    const int64_t h = shape.h, n = shape.n;
    for_chunks(call, small, begin[b1] - begin[b0], [&](int64_t at, int thread) {
      const int64_t chunk = begin[b0] + at;
      attend(chunk, group_of(begin, b0, b1, chunk), results + at * step(), thread);
    });
    for_chunks(call, small, (b1 - b0) * h * n, [&](int64_t at, int) {
      const int64_t bi = b0 + at / (h * n);
      finish(bi, at / n % h, at % n, results + (begin[bi] - begin[b0]) * step());
    });
  }
};

template <class T>
void attend_pages(Call& call, const PagedAttentionAttrs& attrs) {
  const PagedSequences<T> all(call, attrs);
  const AttentionShape& s = all.shape;
  if (s.b * s.h * s.n == 0) return;
  SequenceInputs(call, 0, 0, s.n, s.n).problem<T>(call, attrs);  // checks the attributes
  const bool small = s.h * s.n * all.count_chunks() * (s.d + s.e) < 1 << 18;
  for (int64_t b0 = 0, b1 = 0; b0 < s.b; b0 = b1) {
    for (b1 = b0 + 1; b1 < s.b && all.begin[b1 + 1] - all.begin[b0] <= all.plan.chunks(); b1++) {}
    all.round(b0, b1, small);
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
