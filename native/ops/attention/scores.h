// What becomes of raw scores: soft cap, biases, mask, causality, pattern and dropout. Included by per-instruction-set
// files only.
//
// Scores are kept in units of log2: s2 = log2(e) (scale q k^T + bias), so that softmax takes 2^x and not e^x.
#pragma once
#include "core/random.h"
#include "ops/attention/additive.h"
#include "ops/attention/attrs.h"
#include "ops/attention/pattern_blocks.h"
#include "ops/attention/tile.h"
#include "ops/attention/tile_pairs.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453;
template <class A>
constexpr A kInfinity = A(__builtin_inf());

// Element (i, j) is kept iff its random number u >= p, that is iff the integer 2^24 u >= ceil(2^24 p).
struct Dropout {
  uint64_t seed, offset;
  uint32_t threshold;  // 0: none
  double factor;       // of what is kept
};

using Words = Vec<uint64_t>;
// Random words of W consecutive Philox blocks, in order; a 64-bit lane computes one block (see core/random.h).
FOVEA_INLINE Words multiply_words(Words a, uint64_t b) {
#if defined(__AVX512F__)
  return Words(_mm512_mul_epu32(__m512i(a), _mm512_set1_epi64(int64_t(b))));
#elif defined(__AVX2__)
  return Words(_mm256_mul_epu32(__m256i(a), _mm256_set1_epi64x(int64_t(b))));
#else
  return a * b;
#endif
}
FOVEA_INLINE void random_words(uint64_t seed, uint64_t block, uint32_t* out) {
  constexpr int W = kVectorBytes / 8;
  constexpr uint64_t kLow = 0xffffffffu;
  Words counter;
  for (int i = 0; i < W; i++) counter[i] = block + uint64_t(i);
  Words c0 = counter & kLow, c1 = counter >> 32, c2{}, c3{};
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    Words p0 = multiply_words(c0, 0xD2511F53u), p1 = multiply_words(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ k0, c2 = (p0 >> 32) ^ c3 ^ k1;
    c1 = p1 & kLow, c3 = p0 & kLow;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  using Lanes = std::make_integer_sequence<int, W>;
  const Words low = riffle<uint64_t, 0>(c0 | c1 << 32, c2 | c3 << 32, Lanes{});
  const Words high = riffle<uint64_t, W / 2>(c0 | c1 << 32, c2 | c3 << 32, Lanes{});
  __builtin_memcpy(out, &low, sizeof low);
  __builtin_memcpy(out + 2 * W, &high, sizeof high);
}
// out[t] = factor or 0 for the `count` <= kColumns elements from `first` on.
template <class A>
void dropout_factors(const Dropout& drop, uint64_t first, int64_t count, A* out) {
  constexpr int kBatch = kVectorBytes / 2;  // words at a time
  uint32_t words[kColumns + 2 * kBatch];
  int64_t skip = int64_t(first % 4);
  for (int64_t t = 0; t < skip + count; t += kBatch)
    random_words(drop.seed, drop.offset + first / 4 + uint64_t(t) / 4, words + t);
  const A factor = A(drop.factor);
  for (int64_t t = 0; t < count; t++) out[t] = (words[skip + t] >> 8) >= drop.threshold ? factor : A(0);
}

// The columns of a tile that a strip meets: what any of its rows may see lies in [begin, count), and begin is a
// multiple of Products<T>::kStep.
struct Columns {
  int64_t begin = 0, count = 0;  // count 0: nothing is seen
  bool edit = false;             // some scores get a bias or are hidden
  bool partly = false;           // the pattern hides some of them
  KnownSteps known{};            // of the pattern
  FOVEA_INLINE bool none() const { return count <= 0; }
};

// The inputs that all three ops share.
template <class T>
struct Problem : AttentionShape {
  using A = Compute<T>;
  static constexpr int64_t kStep = Products<T>::kStep;
  const View &q, &k, &v, &bias, &mask;
  Pattern pattern;
  const View &distance, &vector;
  int64_t causal, distance_zero;  // the latter: place of score (0, 0) in the bias by distance
  A scale, scale2;                // for scores, and for scores in units of log2
  A cap2;                         // the soft cap in those units; 0: none
  Dropout dropout;

  // The pattern, the bias by distance and the vector come behind the inputs that the ops share otherwise.
  Problem(const Call& call, const AttentionAttrs& attrs, int pattern_input)
      : AttentionShape(call.in[0], call.in[1], call.in[2]),
        q(call.in[0]),
        k(call.in[1]),
        v(call.in[2]),
        bias(call.in[3]),
        mask(call.in[4]),
        pattern(call, call.in[pattern_input], attrs.maskInPattern ? &mask : nullptr, b, h, n, m),
        distance(call.in[pattern_input + 1]),
        vector(call.in[pattern_input + 2]),
        causal(attrs.causal),
        distance_zero(attrs.distanceZero - (attrs.distanceAligned ? m - n : 0)),
        scale(A(attrs.scale)),
        scale2(A(attrs.scale * kLog2e)),
        cap2(A(attrs.softcap * kLog2e)) {
    if (!(attrs.softcap >= 0)) call.fail("FOVEA_ARGUMENT", "softcap is %g; pass a positive number", attrs.softcap);
    if (distance.present() && distance.shape[1] == 0)
      call.fail("FOVEA_SHAPE", "the bias by distance is empty; give it a value at least");
    if (causal < 0 || causal > 2)
      call.fail("FOVEA_ARGUMENT", "causal is %lld; pass 0 (no), 1 (top left) or 2 (bottom right)", (long long)causal);
    if (additive() && kIs16Bit<T>) call.fail("FOVEA_DTYPE", "additive scores have no kernel of 16 bits; pass float32");
    double p = attrs.dropoutP;
    if (!(p >= 0 && p <= 1)) call.fail("FOVEA_ARGUMENT", "dropoutP is %g; pass a probability from 0 to 1", p);
    dropout = {uint64_t(attrs.seed), uint64_t(attrs.offset), uint32_t(__builtin_ceil(p * 0x1p24)),
               p < 1 ? 1 / (1 - p) : 0};
  }
  static FOVEA_INLINE const T* row(const View& x, int64_t bi, int64_t head, int64_t i) {
    return x.as<T>() + bi * x.strides[0] + head * x.strides[1] + i * x.strides[2];
  }
  // Query i sees keys [0, visible_keys(i)); key j is seen by queries [first_query(j), n).
  FOVEA_INLINE int64_t shift() const { return causal == 2 ? m - n : 0; }
  FOVEA_INLINE int64_t visible_keys(int64_t i) const { return causal ? clamp_to(i + 1 + shift(), 0, m) : m; }
  FOVEA_INLINE int64_t first_query(int64_t j) const { return causal ? clamp_to(j - shift(), 0, n) : 0; }
  FOVEA_INLINE bool additive() const { return vector.present(); }
  FOVEA_INLINE const A* vector_of(int64_t hi) const { return vector.template as<A>() + hi * vector.strides[0]; }
  // What strips are packed with: additive scores are scaled when they are whole.
  FOVEA_INLINE A strip_factor() const { return additive() ? A(1) : scale2; }
  // A mask that the pattern reads means nothing by itself.
  FOVEA_INLINE bool edits_scores() const {
    return bias.present() || distance.present() || (mask.present() && !pattern.reads_mask());
  }
  // Some key may be hidden from some query.
  FOVEA_INLINE bool hides() const { return causal || edits_scores() || pattern.present(); }
  // What queries [i, i + rows) of a head see of the keys from j0 on.
  FOVEA_INLINE Columns keys_seen(int64_t bi, int64_t hi, int64_t i, int64_t rows, int64_t j0) const {
    Columns columns{.count = min_of(kColumns, visible_keys(i + rows - 1) - j0)};
    if (columns.none()) return columns;
    columns.edit = edits_scores() || round_up(columns.count, kStep) > visible_keys(i) - j0;
    if (pattern.present()) {
      const Area area{i, i + rows, j0, j0 + columns.count};
      const Sight sight = pattern.look(bi, hi, area, &columns.known);
      narrow(columns, sight, sight.hull.j0 - j0, sight.hull.j1 - j0);
      show_hull(columns, bi, hi, area, {i, i + rows, j0 + columns.begin, j0 + columns.count});
    }
    return columns;
  }
  // Which queries from i0 on of a head see any of the keys [j, j + rows).
  FOVEA_INLINE Columns queries_seen(int64_t bi, int64_t hi, int64_t j, int64_t rows, int64_t i0) const {
    const int64_t first = max_of(0, first_query(j) - i0);
    Columns columns{.begin = first / kStep * kStep, .count = min_of(kColumns, n - i0)};
    if (first >= columns.count) return {};
    columns.edit = edits_scores() || columns.begin < first_query(j + rows - 1) - i0;
    if (pattern.present()) {
      const Area area{i0 + first, i0 + columns.count, j, j + rows};
      const Sight sight = pattern.look(bi, hi, area, &columns.known);
      narrow(columns, sight, sight.hull.i0 - i0, sight.hull.i1 - i0);
      show_hull(columns, bi, hi, area, {i0 + columns.begin, i0 + columns.count, j, j + rows});
    }
    return columns;
  }
  // Whether the pattern may show anything of an area to a query head, or to one of those of key head gi.
  FOVEA_INLINE bool sees(int64_t bi, int64_t hi, const Area& area) const {
    return !pattern.present() || pattern.look(bi, hi, area).some;
  }
  // The first block of keys from j0 on, of those before `end`, of which queries [i0, i1) may see any. Where there is
  // nothing in many blocks, they are looked at together.
  FOVEA_INLINE int64_t next_seen(int64_t bi, int64_t hi, int64_t i0, int64_t i1, int64_t j0, int64_t end) const {
    constexpr int64_t kMany = 8 * kColumns;
    while (j0 < end) {
      if (j0 % kMany == 0 && !sees(bi, hi, {i0, i1, j0, min_of(j0 + kMany, end)})) j0 += kMany;
      else if (!sees(bi, hi, {i0, i1, j0, min_of(j0 + kColumns, end)})) j0 += kColumns;
      else break;
    }
    return j0;
  }
  FOVEA_INLINE bool group_sees(int64_t bi, int64_t gi, const Area& area) const {
    for (int64_t hi = gi * group; hi < (gi + 1) * group; hi++)
      if (sees(bi, hi, area)) return true;
    return false;
  }
  FOVEA_INLINE bool small() const { return b * h * n * m * (d + e) < 1 << 18; }
  // The number of score (i, j) for dropout.
  FOVEA_INLINE uint64_t element(int64_t bi, int64_t hi, int64_t i, int64_t j) const {
    return (uint64_t(bi * h + hi) * uint64_t(n) + uint64_t(i)) * uint64_t(m) + uint64_t(j);
  }

 private:
  FOVEA_INLINE static void narrow(Columns& columns, const Sight& sight, int64_t first, int64_t last) {
    columns.begin = max_of(columns.begin, first / kStep * kStep), columns.count = sight.some ? last : 0;
    columns.partly = !sight.all;
  }
  // What is left of an area that is seen in part may be seen as a whole. Then nothing has to be hidden of it.
  FOVEA_INLINE void show_hull(Columns& columns, int64_t bi, int64_t hi, const Area& area, const Area& left) const {
    if (columns.partly && !columns.none() && is_smaller(left, area) && columns.count % kStep == 0)
      columns.partly = !pattern.look(bi, hi, left).all;
    columns.edit |= columns.partly;
  }
};

// ---- biases by distance

// A stretch of columns whose places in the table of a head go up, or down, by one from column to column. body(first,
// last, place, step) gets the columns [first, last) from `place` on; beyond the ends of the table, step is 0.
template <class Body>
FOVEA_INLINE void for_distances(int64_t place, int64_t step, int64_t size, int64_t first, int64_t last, Body&& body) {
  const int64_t before = step > 0 ? -place : place - (size - 1), behind = step > 0 ? size - place : place + 1;
  const int64_t inside = clamp_to(before, first, max_of(first, last)),
                outside = clamp_to(behind, inside, max_of(inside, last));
  if (first < inside) body(first, inside, step > 0 ? 0 : size - 1, int64_t(0));
  if (inside < outside) body(inside, outside, place + step * inside, step);
  if (outside < last) body(outside, last, step > 0 ? size - 1 : 0, int64_t(0));
}

// ---- packing, by blocks of rows of a head

// A transposed block of rows [first, end) in panels, the first of which begins at `packed`.
template <class T, class A = Compute<T>>
void pack_panels(const View& x, int64_t bi, int64_t head, int64_t first, int64_t end, A* packed) {
  constexpr int P = kPanel<A>;
  int64_t width = x.shape[3];
  for (int64_t i = first; i < end; i += P)
    Products<T>::pack_panel(Problem<T>::row(x, bi, head, i), x.strides[2], min_of(P, end - i), width,
                            packed + (i - first) * Products<T>::depth(width));
}
template <class T, class A = Compute<T>>
void pack_row_block(const View& x, int64_t bi, int64_t head, int64_t first, int64_t end, A* packed) {
  if (rows_in_place<A, T>(x)) return;
  Products<T>::pack_rows(Problem<T>::row(x, bi, head, first), x.strides[2], first, end - first, x.shape[3], x.shape[2],
                         packed);
}
template <class T, class A = Compute<T>>
RowOperand<A> rows_of(const View& x, int64_t bi, int64_t head, const A* packed) {
  if constexpr (kSame<A, T>) {
    if (rows_in_place<A, T>(x)) return {Problem<T>::row(x, bi, head, 0), x.shape[3], kPanel<A>};
  }
  return Products<T>::packed_rows(packed, x.shape[2]);
}

// ---- scores

// A row of a tile of scores: keys of one query, or queries of one key, from score (i, j) on.
template <class T>
struct Line {
  const T* bias = nullptr;
  const Bool* mask = nullptr;
  const Compute<T>* distance = nullptr;  // the table of this head
  int64_t bias_step = 0, mask_step = 0, distance_step = 0;
  int64_t distance_place = 0, distance_size = 0;  // of column 0
  int64_t first, last;                            // columns outside of [first, last) are hidden
  bool partly = false;                            // and so are those that are not `seen`
  SeenBits seen{};
};
template <class T>
FOVEA_INLINE Line<T> line_at(const Problem<T>& p, int64_t bi, int64_t hi, int64_t i, int64_t j, int axis,
                             const Columns& columns, int64_t first, int64_t last) {
  Line<T> line{.first = max_of(first, columns.begin), .last = min_of(last, columns.count), .partly = columns.partly};
  const View &bias = p.bias, &mask = p.mask;
  if (bias.present()) line.bias = p.row(bias, bi, hi, i) + j * bias.strides[3], line.bias_step = bias.strides[axis];
  if (mask.present() && !p.pattern.reads_mask()) {
    line.mask =
        mask.as<Bool>() + bi * mask.strides[0] + hi * mask.strides[1] + i * mask.strides[2] + j * mask.strides[3];
    line.mask_step = mask.strides[axis];
  }
  if (p.distance.present()) {
    line.distance = p.distance.template as<Compute<T>>() + hi * p.distance.strides[0];
    line.distance_step = axis == 3 ? 1 : -1, line.distance_size = p.distance.shape[1];
    line.distance_place = p.distance_zero + j - i;
  }
  return line;
}
// The keys from j0 on of query i; the queries from i0 on of key j.
template <class T>
FOVEA_INLINE Line<T> line_of_keys(const Problem<T>& p, int64_t bi, int64_t hi, int64_t i, int64_t j0,
                                  const Columns& columns) {
  Line<T> line = line_at(p, bi, hi, i, j0, 3, columns, 0, clamp_to(p.visible_keys(i) - j0, 0, columns.count));
  if (line.partly) line.seen = p.pattern.template row<true>(bi, hi, i, j0, columns.count, columns.known);
  return line;
}
template <class T>
FOVEA_INLINE Line<T> line_of_queries(const Problem<T>& p, int64_t bi, int64_t hi, int64_t j, int64_t i0,
                                     const Columns& columns) {
  Line<T> line = line_at(p, bi, hi, i0, j, 2, columns, clamp_to(p.first_query(j) - i0, 0, columns.count), kColumns);
  if (line.partly) line.seen = p.pattern.template row<false>(bi, hi, j, i0, columns.count, columns.known);
  return line;
}
// Hides in row[begin, end), whole vectors, what is not `seen`.
template <class A>
FOVEA_INLINE void hide_unseen(const SeenBits& seen, A* row, int64_t begin, int64_t end) {
  constexpr int L = kLanes<A>;
  using Bits = decltype(Vec<A>{} < Vec<A>{});
  Bits lane;
  for (int i = 0; i < L; i++) lane[i] = 1 << i;
  for (int64_t c = begin; c < end; c += L) {
    const auto bits = decltype(lane[0] + 0)(seen.word[c / 64] >> (c % 64) & ((uint64_t(1) << L) - 1));
    store(row + c, select((lane & (Bits{} + bits)) != 0, load(row + c), splat(-kInfinity<A>)));
  }
}
// Adds the bias and hides what may not be seen, in row[begin, end).
template <class T, class A>
void edit_scores(const Line<T>& line, A* row, int64_t begin, int64_t end) {
  if (line.bias) {
    A buffer[kColumns];
    const int64_t count = line.last - line.first;
    const A* bias = row_as<A>(line.bias + line.first * line.bias_step, line.bias_step, max_of(count, 0), buffer);
    for (int64_t c = 0; c < count; c++) row[line.first + c] += A(kLog2e) * bias[c];
  }
  if (line.distance)
    for_distances(line.distance_place, line.distance_step, line.distance_size, line.first, line.last,
                  [&](int64_t first, int64_t last, int64_t place, int64_t step) {
                    for (int64_t c = first; c < last; c++)
                      row[c] += A(kLog2e) * line.distance[place + (c - first) * step];
                  });
  if (line.mask && line.mask_step == 1) {
    for (int64_t c = line.first; c < line.last; c++) row[c] = line.mask[c].value ? row[c] : -kInfinity<A>;
  } else if (line.mask) {
    for (int64_t c = line.first; c < line.last; c++)
      if (!line.mask[c * line.mask_step].value) row[c] = -kInfinity<A>;
  }
  if (line.partly) hide_unseen(line.seen, row, begin, end);
  for (int64_t c = begin; c < min_of(line.first, end); c++) row[c] = -kInfinity<A>;
  for (int64_t c = max_of(line.last, begin); c < end; c++) row[c] = -kInfinity<A>;
}

// A tile of products becomes scores, but for the factor that is returned. A bias needs it before, and so does the
// largest score of a row if the factor turns their order.
template <class T, class A>
FOVEA_INLINE A scale_tile(const Problem<T>& p, int64_t rows, int64_t begin, int64_t end, A* tile) {
  if (Products<T>::kScalesStrips && !p.additive()) return 1;
  if (!p.bias.present() && !p.distance.present() && p.cap2 == 0 && p.scale2 > 0) return p.scale2;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = begin; c < end; c++) tile[r * kColumns + c] *= p.scale2;
  return 1;
}

// Caps scaled scores in row[begin, end), whole vectors. `slopes`, if given, gets the factors of their gradients.
template <class A>
void cap_scores(A cap2, A* row, A* slopes, int64_t begin, int64_t end) {
  for (int64_t c = begin; c < end; c += kLanes<A>) {
    const Vec<A> t = tanh_of(load(row + c) / cap2);
    store(row + c, t * cap2);
    if (slopes) store(slopes + c, 1 - t * t);
  }
}
// The same for a tile, if scores are capped.
template <class T, class A>
FOVEA_INLINE void cap_tile(const Problem<T>& p, int64_t rows, int64_t begin, int64_t end, A* tile, A* slopes) {
  if (p.cap2 == 0) return;
  for (int64_t r = 0; r < rows; r++)
    cap_scores(p.cap2, tile + r * kColumns, slopes ? slopes + r * kColumns : nullptr, begin, end);
}

// Scores of a strip of a head against columns from `first` on, before the factor of scale_tile().
template <class T, class A>
FOVEA_INLINE void score_tile(const Problem<T>& p, int64_t hi, int64_t rows, const A* strip, const A* panels,
                             int64_t first, int64_t begin, int64_t end, A* tile) {
  const A* columns = panels + first * Products<T>::depth(p.d);
  if constexpr (!kIs16Bit<T>)
    if (p.additive())
      return additive_tile<Products<T>::kRows>(rows, p.d, strip, columns, p.vector_of(hi), begin, end, tile);
  Products<T>::score_tile(rows, p.d, strip, columns, begin, end, tile);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
