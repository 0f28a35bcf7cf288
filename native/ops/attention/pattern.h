// Which keys a query sees, as a small program: what a mask of src/ops/mask.ts becomes. The same for every device.
//
// A program is a tensor of int64: the number of its steps, kPatternHeader - 1 words of padding, the steps, then tables.
// Steps come in postfix order, so that `and` and `or` join the two results before them. I is the position of query i
// among the keys: i, or i + m - n in a step that is `aligned` at the bottom right.
#pragma once
#include "core/arithmetic.h"
#include "core/view.h"

namespace fovea {

// Numbered as in src/ops/mask-program.ts. `at` are offsets of tables in words; `set` tables have 64 members a word.
enum class PatternOp : int64_t {
  band,        // a <= j - I <= b
  stride,      // (j - I) mod a = b
  residue,     // b <= j mod a < c
  cell,        // floor(I / a) = floor(j / a)
  below,       // j < a
  lengths,     // j < table[batch], table at a of b batches
  ids,         // equal numbers: of queries at a, b of them, of keys at c, d of them; e batches
  key_set,     // j is in the set at a of b members
  query_set,   // I is in the set at a of b members
  blocks,      // block (I / a, j / a) of b x c is in the set at d, whose rows are whole words; e heads
  dense,       // the kernel's mask
  both,        // of the two before
  either,      // of the two before
  complement,  // of the one before
};
constexpr int64_t kPatternOps = 14, kPatternHeader = 8, kPatternDepth = 16;

struct PatternStep {
  PatternOp op;
  int64_t aligned = 0;
  int64_t a = 0, b = 0, c = 0, d = 0, e = 0, unused = 0;
};
static_assert(sizeof(PatternStep) == 8 * sizeof(int64_t));

// A checked program; the kernel's mask for its `dense` steps, with strides.
struct PatternProgram {
  const int64_t* words = nullptr;  // nullptr: there is none, and the mask means itself
  const Bool* mask = nullptr;
  int64_t mask_batch = 0, mask_head = 0, mask_query = 0, mask_key = 0;
  int64_t shift = 0;  // m - n

  FOVEA_INLINE bool present() const { return words != nullptr; }
  FOVEA_INLINE int64_t count() const { return words[0]; }
  FOVEA_INLINE const PatternStep& step(int64_t s) const {
    return reinterpret_cast<const PatternStep*>(words + kPatternHeader)[s];
  }
  FOVEA_INLINE int64_t position(const PatternStep& s, int64_t i) const { return s.aligned ? i + shift : i; }
  FOVEA_INLINE int64_t length(const PatternStep& s, int64_t bi) const { return words[s.a + (s.b > 1 ? bi : 0)]; }
  FOVEA_INLINE const int64_t* query_ids(const PatternStep& s, int64_t bi) const {
    return words + s.a + (s.e > 1 ? bi * s.b : 0);
  }
  FOVEA_INLINE const int64_t* key_ids(const PatternStep& s, int64_t bi) const {
    return words + s.c + (s.e > 1 ? bi * s.d : 0);
  }
  FOVEA_INLINE bool in_set(int64_t at, int64_t size, int64_t member) const {
    return member >= 0 && member < size && (words[at + member / 64] >> (member % 64) & 1) != 0;
  }
  FOVEA_INLINE bool in_block(const PatternStep& s, int64_t hi, int64_t row, int64_t column) const {
    if (row < 0 || row >= s.b || column < 0 || column >= s.c) return false;
    const int64_t words_of_row = ceil_div(s.c, 64), head = s.e > 1 ? hi : 0;
    return in_set(s.d + (head * s.b + row) * words_of_row, s.c, column);
  }
  FOVEA_INLINE bool dense(int64_t bi, int64_t hi, int64_t i, int64_t j) const {
    return mask[bi * mask_batch + hi * mask_head + i * mask_query + j * mask_key].value != 0;
  }
};

// A program's view, and the mask's that it reads, if it does.
FOVEA_HOST_INLINE PatternProgram pattern_program(const View& program, const View* read, int64_t shift) {
  PatternProgram p;
  p.words = program.as<int64_t>(), p.shift = shift;
  if (!read || !read->present()) return p;
  p.mask = read->as<Bool>(), p.mask_batch = read->strides[0], p.mask_head = read->strides[1];
  p.mask_query = read->strides[2], p.mask_key = read->strides[3];
  return p;
}

// Of x by y > 0, rounded down.
FOVEA_INLINE int64_t floor_div(int64_t x, int64_t y) { return x >= 0 ? x / y : -((-x + y - 1) / y); }
FOVEA_INLINE int64_t floor_mod(int64_t x, int64_t y) { return x - floor_div(x, y) * y; }

FOVEA_INLINE bool pattern_step_sees(const PatternProgram& p, const PatternStep& s, int64_t bi, int64_t hi, int64_t i,
                                    int64_t j) {
  const int64_t at = p.position(s, i);
  switch (s.op) {
    case PatternOp::band: return j - at >= s.a && j - at <= s.b;
    case PatternOp::stride: return floor_mod(j - at, s.a) == s.b;
    case PatternOp::residue: return j % s.a >= s.b && j % s.a < s.c;
    case PatternOp::cell: return floor_div(at, s.a) == j / s.a;
    case PatternOp::below: return j < s.a;
    case PatternOp::lengths: return j < p.length(s, bi);
    case PatternOp::ids: return at >= 0 && at < s.b && j < s.d && p.query_ids(s, bi)[at] == p.key_ids(s, bi)[j];
    case PatternOp::key_set: return p.in_set(s.a, s.b, j);
    case PatternOp::query_set: return p.in_set(s.a, s.b, at);
    case PatternOp::blocks: return p.in_block(s, hi, floor_div(at, s.a), j / s.a);
    case PatternOp::dense: return p.dense(bi, hi, i, j);
    default: return false;
  }
}
// Whether query i sees key j.
FOVEA_INLINE bool pattern_sees(const PatternProgram& p, int64_t bi, int64_t hi, int64_t i, int64_t j) {
  uint32_t stack = 0;  // the last result is the lowest bit
  for (int64_t n = 0; n < p.count(); n++) {
    const PatternStep& s = p.step(n);
    const uint32_t rest = stack >> 2 << 1, last = stack & 1, before = stack >> 1 & 1;
    if (s.op == PatternOp::both) stack = rest | (last & before);
    else if (s.op == PatternOp::either) stack = rest | last | before;
    else if (s.op == PatternOp::complement) stack ^= 1;
    else stack = stack << 1 | uint32_t(pattern_step_sees(p, s, bi, hi, i, j));
  }
  return (stack & 1) != 0;
}

// Throws where the mask does not have every query and key, or a row is asked for that is not there.
template <class Call, class Attrs>
FOVEA_HOST_INLINE void check_visible(const Call& call, const Attrs& attrs, const View& mask) {
  const int64_t expected[] = {attrs.batch, attrs.heads, attrs.queries, attrs.keys};
  for (int axis = 0; mask.present() && axis < 4; axis++)
    if (mask.shape[axis] != expected[axis])
      call.fail("FOVEA_SHAPE", "expected a mask for every query and key; expand it");
  if (attrs.first < 0 || attrs.first + attrs.rows > attrs.queries)
    call.fail("FOVEA_ARGUMENT", "there is no such row of %lld queries", static_cast<long long>(attrs.queries));
}

}  // namespace fovea
