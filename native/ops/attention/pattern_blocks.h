// What a pattern says of a rectangle of scores and of a row of it, so that kernels neither load nor compute what no
// query sees. Included by per-instruction-set files only.
#pragma once
#include "core/kernel.h"
#include "ops/attention/pattern.h"
#include "ops/attention/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

// Queries [i0, i1) by keys [j0, j1).
struct Area {
  int64_t i0, i1, j0, j1;
};
FOVEA_INLINE Area meet(const Area& a, const Area& b) {
  return {max_of(a.i0, b.i0), min_of(a.i1, b.i1), max_of(a.j0, b.j0), min_of(a.j1, b.j1)};
}
FOVEA_INLINE Area join(const Area& a, const Area& b) {
  return {min_of(a.i0, b.i0), max_of(a.i1, b.i1), min_of(a.j0, b.j0), max_of(a.j1, b.j1)};
}
FOVEA_INLINE bool is_empty(const Area& a) { return a.i0 >= a.i1 || a.j0 >= a.j1; }
FOVEA_INLINE bool is_smaller(const Area& a, const Area& b) {
  return a.i1 - a.i0 < b.i1 - b.i0 || a.j1 - a.j0 < b.j1 - b.j0;
}

// `some`: a key may be seen, and what is seen lies in `hull`; `all`: every key is seen by every query. What is not
// known is `some` and not `all`. If nothing is seen of an area, nothing is seen of its parts.
struct Sight {
  bool some, all;
  Area hull;
};
FOVEA_INLINE Sight both_of(const Sight& a, const Sight& b) {
  const Area hull = meet(a.hull, b.hull);
  return {a.some && b.some && !is_empty(hull), a.all && b.all, hull};
}
FOVEA_INLINE Sight either_of(const Sight& a, const Sight& b) {
  const Area hull = !a.some ? b.hull : !b.some ? a.hull : join(a.hull, b.hull);
  return {a.some || b.some, a.all || b.all, hull};
}

// Steps, as bits, that show nothing or all of an area; as many as there are bits for.
struct KnownSteps {
  uint64_t none = 0, all = 0;
  FOVEA_INLINE void add(int64_t step, const Sight& sight) {
    if (step >= 64) return;
    none |= uint64_t(!sight.some) << step, all |= uint64_t(sight.all) << step;
  }
  FOVEA_INLINE static bool has(uint64_t steps, int64_t step) { return step < 64 && (steps >> step & 1) != 0; }
};

// A row of a tile of scores: bit c of word c / 64.
struct SeenBits {
  static constexpr int kWords = int(kAttentionColumns / 64);
  uint64_t word[kWords] = {};

  FOVEA_INLINE bool at(int64_t c) const { return (word[c / 64] >> (c % 64) & 1) != 0; }
  FOVEA_INLINE void set(int64_t c) { word[c / 64] |= uint64_t(1) << (c % 64); }
  // Adds [first, last), as far as it lies in the tile.
  void add(int64_t first, int64_t last) {
    for (int w = 0; w < kWords; w++) {
      const int64_t low = clamp_to(first - w * 64, 0, 64), high = clamp_to(last - w * 64, 0, 64);
      if (low >= high) continue;
      const uint64_t below = high == 64 ? ~uint64_t(0) : (uint64_t(1) << high) - 1;
      word[w] |= below & (~uint64_t(0) << low);
    }
  }
  // Column c is member first + c of a set of `size` in words.
  void copy(const int64_t* set, int64_t size, int64_t first) {
    const int64_t words = ceil_div(size, 64);
    const uint64_t last = ~uint64_t(0) >> (words * 64 - size);
    auto at = [&](int64_t w) {
      return w < 0 || w >= words ? 0 : w == words - 1 ? uint64_t(set[w]) & last : uint64_t(set[w]);
    };
    for (int w = 0; w < kWords; w++) {
      const int64_t from = first + w * 64, shift = floor_mod(from, 64), low = floor_div(from, 64);
      word[w] = shift ? at(low) >> shift | at(low + 1) << (64 - shift) : at(low);
    }
  }
};

class Pattern : public PatternProgram {
 public:
  // A program's view, which need not be present, and the mask's if it reads that. Throws FOVEA_ARGUMENT for a program
  // that would read outside of itself.
  Pattern(const Call& call, const View& program, const View* read, int64_t b, int64_t h, int64_t n, int64_t m) {
    if (!program.present()) return;
    static_cast<PatternProgram&>(*this) = pattern_program(program, read, m - n);
    check(call, program.shape[0], b, h);
  }
  FOVEA_INLINE bool reads_mask() const { return mask != nullptr; }

  // The size of the squares that the pattern is made of; 0 if there are none, or several sizes.
  int64_t square() const {
    int64_t size = 0;
    for (int64_t n = 0; n < count(); n++) {
      const PatternStep& s = step(n);
      if (s.op != PatternOp::blocks && s.op != PatternOp::cell) continue;
      if ((size != 0 && size != s.a) || position(s, 0) % s.a != 0) return 0;
      size = s.a;
    }
    return size;
  }
  Sight look(int64_t bi, int64_t hi, const Area& area, KnownSteps* known = nullptr) const {
    if (is_empty(area)) return {false, true, area};
    Sight stack[kPatternDepth];
    int top = -1;
    for (int64_t n = 0; n < count(); n++) {
      const PatternStep& s = step(n);
      if (s.op == PatternOp::both) top--, stack[top] = both_of(stack[top], stack[top + 1]);
      else if (s.op == PatternOp::either) top--, stack[top] = either_of(stack[top], stack[top + 1]);
      else if (s.op == PatternOp::complement) stack[top] = {!stack[top].all, !stack[top].some, area};
      else stack[++top] = look_at_step(s, bi, hi, area);
      if (known) known->add(n, stack[top]);
    }
    return stack[0];
  }
  // kKeys: keys [first, first + count) of query `fixed`; else queries from `first` on of key `fixed`. Right as far as
  // it lies in the area of which steps are known.
  template <bool kKeys>
  SeenBits row(int64_t bi, int64_t hi, int64_t fixed, int64_t first, int64_t count_of, const KnownSteps& known) const {
    SeenBits stack[kPatternDepth];
    int top = -1;
    for (int64_t n = 0; n < count(); n++) {
      const PatternStep& s = step(n);
      if (s.op == PatternOp::both) {
        top--;
        for (int w = 0; w < SeenBits::kWords; w++) stack[top].word[w] &= stack[top + 1].word[w];
      } else if (s.op == PatternOp::either) {
        top--;
        for (int w = 0; w < SeenBits::kWords; w++) stack[top].word[w] |= stack[top + 1].word[w];
      } else if (s.op == PatternOp::complement) {
        for (int w = 0; w < SeenBits::kWords; w++) stack[top].word[w] = ~stack[top].word[w];
      } else if (KnownSteps::has(known.none | known.all, n)) {
        stack[++top] = {};
        if (KnownSteps::has(known.all, n)) stack[top].add(0, count_of);
      } else {
        stack[++top] = row_of_step<kKeys>(s, bi, hi, fixed, first, count_of);
      }
    }
    return stack[0];
  }

 private:
  void check(const Call& call, int64_t size, int64_t b, int64_t h) const {
    auto fits = [&](int64_t at, int64_t length) { return at >= 0 && length >= 0 && at <= size - length; };
    auto batches = [&](int64_t given) { return given == 1 || given == b; };
    bool sound = size >= kPatternHeader && count() >= 1 && fits(kPatternHeader, count() * 8);
    int64_t depth = 0;
    for (int64_t n = 0; sound && n < count(); n++) {
      const PatternStep& s = step(n);
      const int64_t takes = s.op == PatternOp::complement                          ? 1
                            : s.op == PatternOp::both || s.op == PatternOp::either ? 2
                                                                                   : 0;
      sound = depth >= takes, depth += 1 - takes;
      sound = sound && depth <= kPatternDepth;
      switch (s.op) {
        case PatternOp::stride:
        case PatternOp::residue:
        case PatternOp::cell: sound = sound && s.a > 0; break;
        case PatternOp::lengths: sound = sound && batches(s.b) && fits(s.a, s.b); break;
        case PatternOp::ids: sound = sound && batches(s.e) && fits(s.a, s.b * s.e) && fits(s.c, s.d * s.e); break;
        case PatternOp::key_set:
        case PatternOp::query_set: sound = sound && fits(s.a, ceil_div(s.b, 64)); break;
        case PatternOp::blocks:
          sound = sound && s.a > 0 && (s.e == 1 || s.e == h) && fits(s.d, s.e * s.b * ceil_div(s.c, 64));
          break;
        case PatternOp::dense: sound = sound && mask; break;
        default: sound = sound && int64_t(s.op) >= 0 && int64_t(s.op) < kPatternOps;
      }
    }
    if (!sound || depth != 1) call.fail("FOVEA_ARGUMENT", "the pattern is no program for these shapes");
  }

  // ---- areas

  // Whether all of a range are members of a set; and where its members begin and end.
  struct Members {
    bool all;
    int64_t first, last;
  };
  // Of a set in words: a word at a time.
  Members members_of_set(const PatternStep& s, int64_t first, int64_t last) const {
    Members found{first >= 0 && last <= s.b, last, first};
    const int64_t end = min_of(last, s.b);
    for (int64_t x = max_of(first, 0); x < end;) {
      const int64_t next = min_of((x / 64 + 1) * 64, end), size = next - x;
      const uint64_t range = (size == 64 ? ~uint64_t(0) : (uint64_t(1) << size) - 1) << (x % 64);
      const uint64_t in = uint64_t(words[s.a + x / 64]) & range;
      found.all = found.all && in == range;
      if (in) {
        const int64_t base = x / 64 * 64;
        found.first = min_of(found.first, base + __builtin_ctzll(in)), found.last = base + 64 - __builtin_clzll(in);
      }
      x = next;
    }
    return found;
  }
  template <class In>
  FOVEA_INLINE static Members members(int64_t first, int64_t last, In&& in) {
    Members found{true, last, first};
    for (int64_t x = first; x < last; x++) {
      if (!in(x)) found.all = false;
      else found.first = min_of(found.first, x), found.last = x + 1;
    }
    return found;
  }
  FOVEA_INLINE static Sight of_keys(const Area& area, const Members& m) {
    return {m.first < m.last, m.all, {area.i0, area.i1, m.first, m.last}};
  }

  Sight look_at_step(const PatternStep& s, int64_t bi, int64_t hi, const Area& area) const {
    const int64_t offset = position(s, 0), at0 = area.i0 + offset, at1 = area.i1 + offset;
    const Sight unknown{true, false, area};
    switch (s.op) {
      case PatternOp::band: return look_at_band(s.a, s.b, offset, area);
      case PatternOp::stride: {
        // where one of the diagonals meets the area, it is a band
        const int64_t lowest = area.j0 - (at1 - 1), found = lowest + floor_mod(s.b - lowest, s.a);
        const int64_t highest = area.j1 - 1 - at0;
        if (found <= highest && found + s.a > highest) return look_at_band(found, found, offset, area);
        return {found <= highest, s.a == 1, area};
      }
      case PatternOp::residue: return look_at_residue(s, area);
      case PatternOp::cell: {
        const int64_t first = floor_div(at0, s.a), last = floor_div(at1 - 1, s.a);
        const int64_t first_key = area.j0 / s.a, last_key = (area.j1 - 1) / s.a;
        const Area hull =
            meet(area, {first_key * s.a - offset, (last_key + 1) * s.a - offset, first * s.a, (last + 1) * s.a});
        return {!is_empty(hull), first == last && first == first_key && last == last_key, hull};
      }
      case PatternOp::below: return look_below(s.a, area);
      case PatternOp::lengths: return look_below(length(s, bi), area);
      case PatternOp::ids: return look_at_ids(s, bi, offset, area);
      case PatternOp::key_set: return of_keys(area, members_of_set(s, area.j0, area.j1));
      case PatternOp::query_set: {
        Members m = members_of_set(s, at0, at1);
        m.first -= offset, m.last -= offset;
        return {m.first < m.last, m.all, {m.first, m.last, area.j0, area.j1}};
      }
      case PatternOp::blocks: return look_at_blocks(s, hi, offset, area);
      default: return unknown;
    }
  }
  FOVEA_INLINE static Sight look_below(int64_t end, const Area& area) {
    return {area.j0 < end, area.j1 <= end, meet(area, {area.i0, area.i1, area.j0, end})};
  }
  // Many keys hold every remainder.
  FOVEA_INLINE static Sight look_at_residue(const PatternStep& s, const Area& area) {
    if (area.j1 - area.j0 >= max_of(s.a, kAttentionColumns + 1)) return {s.b < s.c, s.b <= 0 && s.c >= s.a, area};
    int64_t remainder = area.j0 % s.a;
    return of_keys(area, members(area.j0, area.j1, [&](int64_t) {
                     const int64_t now = remainder;
                     remainder = now + 1 == s.a ? 0 : now + 1;
                     return now >= s.b && now < s.c;
                   }));
  }
  // low <= j - (i + offset) <= high
  FOVEA_INLINE static Sight look_at_band(int64_t low, int64_t high, int64_t offset, const Area& area) {
    const int64_t at0 = area.i0 + offset, at1 = area.i1 + offset;
    const int64_t lowest = area.j0 - (at1 - 1), highest = area.j1 - 1 - at0;
    const Area hull = meet(area, {area.j0 - high - offset, area.j1 - low - offset, at0 + low, at1 + high});
    return {highest >= low && lowest <= high && !is_empty(hull), lowest >= low && highest <= high, hull};
  }
  Sight look_at_ids(const PatternStep& s, int64_t bi, int64_t offset, const Area& area) const {
    constexpr int64_t kMost = 1024;  // of ids that are worth being looked at
    if (area.i1 - area.i0 + area.j1 - area.j0 > kMost) return {true, false, area};
    if (area.i0 + offset < 0 || area.i1 + offset > s.b || area.j1 > s.d) return {true, false, area};
    const int64_t *q = query_ids(s, bi) + offset, *k = key_ids(s, bi);
    int64_t low = q[area.i0], high = low;
    for (int64_t i = area.i0; i < area.i1; i++) low = min_of(low, q[i]), high = max_of(high, q[i]);
    const Members keys = members(area.j0, area.j1, [&](int64_t j) { return k[j] >= low && k[j] <= high; });
    Sight sight = of_keys(area, keys);
    sight.all = keys.all && low == high;
    return sight;
  }
  Sight look_at_blocks(const PatternStep& s, int64_t hi, int64_t offset, const Area& area) const {
    const int64_t first = floor_div(area.i0 + offset, s.a), last = floor_div(area.i1 - 1 + offset, s.a);
    const int64_t first_key = area.j0 / s.a, last_key = (area.j1 - 1) / s.a;
    Sight sight{false, true, {area.i1, area.i0, area.j1, area.j0}};
    for (int64_t row = first; row <= last; row++)
      for (int64_t column = first_key; column <= last_key; column++) {
        if (!in_block(s, hi, row, column)) {
          sight.all = false;
          continue;
        }
        const int64_t i = row * s.a - offset, j = column * s.a;
        sight.some = true, sight.hull = join(sight.hull, meet(area, {i, i + s.a, j, j + s.a}));
      }
    return sight;
  }

  // ---- rows

  FOVEA_INLINE static void add_residues(const PatternStep& s, int64_t start, SeenBits& bits) {
    for (int64_t period = -(start % s.a); period < kAttentionColumns; period += s.a)
      bits.add(period + s.b, period + s.c);
  }

  template <bool kKeys>
  SeenBits row_of_step(const PatternStep& s, int64_t bi, int64_t hi, int64_t fixed, int64_t first,
                       int64_t count_of) const {
    SeenBits bits;
    const int64_t offset = position(s, 0);
    // Of a column, the position of its query or key; of what is fixed, that of the other.
    const int64_t start = kKeys ? first : first + offset, other = kKeys ? fixed + offset : fixed;
    auto each = [&](auto&& sees) {
      for (int64_t c = 0; c < count_of; c++)
        if (sees(c)) bits.set(c);
    };
    switch (s.op) {
      case PatternOp::band: {
        const int64_t low = kKeys ? other + s.a : other - s.b, high = kKeys ? other + s.b : other - s.a;
        bits.add(low - start, high - start + 1);
        break;
      }
      case PatternOp::stride: {
        const int64_t wanted = kKeys ? other + s.b : other - s.b;
        for (int64_t c = floor_mod(wanted - start, s.a); c < count_of; c += s.a) bits.set(c);
        break;
      }
      case PatternOp::residue:
      case PatternOp::below:
      case PatternOp::lengths:
      case PatternOp::key_set:
        if constexpr (kKeys) {
          if (s.op == PatternOp::below) bits.add(0, s.a - start);
          else if (s.op == PatternOp::residue) add_residues(s, start, bits);
          else if (s.op == PatternOp::lengths) bits.add(0, length(s, bi) - start);
          else bits.copy(words + s.a, s.b, start);
        } else if (pattern_step_sees(*this, s, bi, hi, first, fixed)) {
          bits.add(0, count_of);
        }
        break;
      case PatternOp::query_set:
        if constexpr (!kKeys) bits.copy(words + s.a, s.b, start);
        else if (in_set(s.a, s.b, other)) bits.add(0, count_of);
        break;
      case PatternOp::cell: {
        const int64_t cell = floor_div(other, s.a) * s.a;
        bits.add(cell - start, cell + s.a - start);
        break;
      }
      case PatternOp::blocks:
        for (int64_t c = 0; c < count_of;) {
          const int64_t block = floor_div(start + c, s.a), end = (block + 1) * s.a - start;
          const int64_t across = floor_div(other, s.a);
          if (kKeys ? in_block(s, hi, across, block) : in_block(s, hi, block, across)) bits.add(c, end);
          c = end;
        }
        break;
      case PatternOp::ids: {
        const int64_t *q = query_ids(s, bi), *k = key_ids(s, bi);
        if (other < 0 || other >= (kKeys ? s.b : s.d)) break;
        const int64_t id = kKeys ? q[other] : k[other], *ids = (kKeys ? k : q) + start;
        const int64_t begin = max_of(0, -start), end = min_of(count_of, (kKeys ? s.d : s.b) - start);
        for (int64_t c = begin; c < end; c++) bits.word[c / 64] |= uint64_t(ids[c] == id) << (c % 64);
        break;
      }
      default:
        each([&](int64_t c) {
          return kKeys ? pattern_step_sees(*this, s, bi, hi, fixed, first + c)
                       : pattern_step_sees(*this, s, bi, hi, first + c, fixed);
        });
    }
    return bits;
  }
};

}  // namespace
}  // namespace fovea::FOVEA_ISA
