// How attention cuts its work and lays out its workspace: by shape only, the same for every instruction set. Offsets
// and sizes are in elements of the type that is computed in (float, or double for float64).
#pragma once
#include "core/arithmetic.h"
#include "core/kernel.h"

namespace fovea {

constexpr int64_t kAttentionColumns = 128;  // columns of a tile of scores
constexpr int64_t kAttentionRows = 112;     // at most so many rows share a pass over the columns
constexpr int64_t kAttentionMaxPanel = 32;  // packed operands are padded to the widest panel of any instruction set
constexpr int64_t kAttentionMaxStrip = 32;  // rows of a strip
constexpr int64_t kAttentionMaxTile = kAttentionMaxStrip * kAttentionColumns;
constexpr int64_t kAttentionMaxStrips = 20;   // parts of those rows, each aligned to a panel
constexpr int64_t kDecodeQueries = 4;         // up to so many queries, keys and values are streamed instead of packed
constexpr int64_t kDecodeKeys = 512;          // keys of one piece of a decoding step
constexpr int64_t kDecodeGroup = 16;          // keys converted at a time
constexpr int64_t kPagedRows = 32;            // of a chunk over pages, unless one query has more
constexpr int64_t kAttentionRound = 1 << 20;  // elements packed at a time, if that is more than one head

FOVEA_INLINE int64_t attention_pad(int64_t n) { return round_up(n, kAttentionMaxPanel); }
// Elements that are packed of a row of n at most: tile registers take 16-bit elements in pairs, 32 at a time.
FOVEA_INLINE int64_t attention_depth(int64_t n) { return max_of(n, attention_pad(n) / 2); }

// Whether rows that are read a panel at a time can be read where they lie: no conversion or padding, and close enough
// for the L1 cache.
FOVEA_INLINE bool attention_in_place(const View& rows, int64_t panel) {
  const int64_t width = rows.shape[3];
  return (rows.dtype == Dtype::f32 || rows.dtype == Dtype::f64) && width > 0 && width % panel == 0 &&
         rows.strides[2] == width && width * int64_t(bytes_of(rows.dtype)) <= 256;
}

struct AttentionShape {
  int64_t b, h, g, n, m, d, e;
  int64_t group;      // query heads that share a key head
  bool packs_values;  // with some instruction set
  FOVEA_INLINE AttentionShape(const View& q, const View& k, const View& v)
      : b(q.shape[0]),
        h(q.shape[1]),
        g(k.shape[1]),
        n(q.shape[2]),
        m(k.shape[2]),
        d(q.shape[3]),
        e(v.shape[3]),
        group(g > 0 ? h / g : 0),
        packs_values(!attention_in_place(v, kAttentionMaxPanel)) {}
  FOVEA_INLINE bool decodes() const { return n <= kDecodeQueries; }
};

struct AttentionPlan {
  int64_t head = 0;    // what is packed of one key head (and its query heads, for gradients)
  int64_t heads = 0;   // key heads packed at a time
  int64_t thread = 0;  // scratch of one thread
  FOVEA_INLINE void choose_heads(const AttentionShape& s) { choose_heads(1, s.b * s.g); }
  FOVEA_INLINE void choose_heads(int64_t least, int64_t all) {
    heads = min_of(max_of(least, head > 0 ? kAttentionRound / head : 1), all);
  }
  FOVEA_INLINE int64_t elements(int threads) const { return head * heads + thread * threads; }
};

struct ForwardPlan : AttentionPlan {
  int64_t values, flags;  // inside a head, behind the keys
  FOVEA_INLINE explicit ForwardPlan(const AttentionShape& s) {
    int64_t blocks = (s.m + kAttentionColumns - 1) / kAttentionColumns;
    values = attention_pad(s.m) * attention_depth(s.d);
    flags = values + (s.packs_values ? attention_pad(s.m) * attention_pad(s.e) : 0);
    head = flags + attention_pad(blocks);
    choose_heads(s);
    thread = kAttentionRows * (attention_depth(s.d) + attention_pad(s.e) + 1 + kAttentionMaxPanel / 2) +
             kAttentionMaxTile + kAttentionColumns;
    thread = attention_pad(thread) + kAttentionMaxStrips * kAttentionMaxPanel;
  }
};

// heads = all, head = the partial results of a key head: for each piece of the keys and each row o[e], top, total.
struct DecodePlan : AttentionPlan {
  int64_t pieces, rows, partial;
  FOVEA_INLINE explicit DecodePlan(const AttentionShape& s) {
    pieces = (s.m + kDecodeKeys - 1) / kDecodeKeys;
    rows = s.group * s.n;
    partial = attention_pad(s.e) + kAttentionMaxPanel;
    head = pieces * rows * partial;
    heads = s.b * s.g;
    thread = rows * (attention_pad(s.d) + kAttentionColumns) +
             kDecodeGroup * (attention_pad(s.d) + attention_pad(s.e)) + kAttentionColumns;
    thread += kAttentionMaxPanel;
  }
};

// Over pages: `m` positions are as many as the tables reach, of which a sequence uses what its length says. A chunk is
// `queries` queries of a key head and a piece of its keys; `heads` times `pieces` chunks of whole sequences have room
// for their results at a time, those of one sequence at least. In front is where each sequence's chunks begin.
struct PagedPlan : DecodePlan {
  int64_t blocks, queries;  // chunks for all queries, and how many each has
  int64_t integers;         // bytes: where chunks begin, lengths and pages, in front of all else
  FOVEA_INLINE PagedPlan(const AttentionShape& s, int64_t pages)
      : DecodePlan(chunk(s, pages * s.m)), blocks(blocks_of(s)) {
    queries = ceil_div(s.n, blocks);
    choose_heads(s.g * blocks, s.b * s.g * blocks);
    integers = round_up((s.b * (2 + pages) + 1) * int64_t(sizeof(int64_t)), 64);
  }
  FOVEA_INLINE int64_t chunks() const { return heads * pieces; }

 private:
  static FOVEA_INLINE int64_t blocks_of(const AttentionShape& s) {
    return max_of(1, ceil_div(s.n, max_of(1, kPagedRows / max_of(1, s.group))));
  }
  static FOVEA_INLINE AttentionShape chunk(AttentionShape s, int64_t m) {
    s.n = ceil_div(s.n, blocks_of(s)), s.m = m;
    return s;
  }
};

// Of q, keys, values and the table of pages.
FOVEA_INLINE PagedPlan paged_plan(Views in) { return {AttentionShape(in[0], in[1], in[2]), in[3].shape[1]}; }

// A key head's part: transposed keys and values, rows of keys; then for each of its query heads transposed queries
// and dO, rows of both, lse and delta.
struct BackwardPlan : AttentionPlan {
  int64_t values, key_rows, queries;              // inside a head; the transposed keys are at 0
  int64_t d_o, query_rows, d_o_rows, lse, delta;  // inside a query head; the transposed queries are at 0
  int64_t query_head;
  FOVEA_INLINE explicit BackwardPlan(const AttentionShape& s) {
    int64_t n = attention_pad(s.n), m = attention_pad(s.m), d = attention_pad(s.d), e = attention_pad(s.e);
    int64_t deep_d = attention_depth(s.d), deep_e = attention_depth(s.e);
    d_o = n * deep_d, query_rows = d_o + n * deep_e, d_o_rows = query_rows + n * d, lse = d_o_rows + n * e,
    delta = lse + n, query_head = delta + n;
    values = m * deep_d, key_rows = values + m * deep_e, queries = key_rows + m * d;
    head = queries + s.group * query_head;
    choose_heads(s);
    thread = attention_pad(kAttentionRows * (deep_d + deep_e + d + e)) + 4 * kAttentionMaxTile +
             kAttentionMaxStrips * kAttentionMaxPanel;
    thread += kAttentionColumns * kAttentionColumns;
  }
};

// Gradients in one pass (backward_once.h): head = a key head's progress, then for each of its query heads lse and
// delta, rows of queries and dO unless they are read in place, and strips of both with their dq. thread = tiles of
// scores of a block of queries, a block of keys, and its sums.
struct OncePlan : AttentionPlan {
  int64_t queries, delta, query_rows, d_o_rows, strips, query_head;  // inside a head; the last inside a query head
  int64_t slopes, capped, factors, across, keys, values, key_rows, dk, dv;  // inside a thread; the scores are at 0
  FOVEA_INLINE OncePlan(const AttentionShape& s, const View& q, const View& d_o) {
    constexpr int64_t kTiles = kAttentionRows * kAttentionColumns, kSums = kAttentionColumns + kAttentionMaxStrip;
    int64_t n = attention_pad(s.n), d = attention_pad(s.d), e = attention_pad(s.e);
    int64_t deep_d = attention_depth(s.d), deep_e = attention_depth(s.e);
    queries = attention_pad((s.m + kAttentionColumns - 1) / kAttentionColumns * 2);
    delta = n, query_rows = delta + n, d_o_rows = query_rows + (attention_in_place(q, kAttentionMaxPanel) ? 0 : n * d);
    strips = d_o_rows + (attention_in_place(d_o, kAttentionMaxPanel) ? 0 : n * e);
    // Each strip of at least six rows is aligned to a vector, and has one more behind.
    query_head = attention_pad(strips + (n + kAttentionMaxStrip) * (deep_d + deep_e + d + 4));
    head = queries + s.group * query_head;
    choose_heads(s);
    slopes = kTiles, capped = slopes + kTiles, factors = capped + kAttentionMaxTile,
    across = factors + kAttentionMaxTile, keys = across + kTiles, values = keys + kAttentionColumns * deep_d,
    key_rows = values + kAttentionColumns * deep_e, dk = key_rows + kAttentionColumns * d, dv = dk + kSums * d,
    thread = attention_pad(dv + kSums * e + kAttentionMaxPanel);
  }
};

size_t attention_workspace(Views in, Views out, const void* attrs, int threads);
size_t attention_gradients_workspace(Views in, Views out, const void* attrs, int threads);
size_t attention_backward_workspace(Views in, Views out, const void* attrs, int threads);
size_t paged_attention_workspace(Views in, Views out, const void* attrs, int threads);

}  // namespace fovea
