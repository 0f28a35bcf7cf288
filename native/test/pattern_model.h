// Programs of masks for tests, as src/ops/mask-program.ts makes them.
#pragma once
#include <random>
#include <vector>

#include "ops/attention/pattern.h"

namespace fovea::test {

// Steps and what they point to; places of tables count from the first of these.
struct PatternText {
  std::vector<PatternStep> steps;
  std::vector<int64_t> tables;

  std::vector<int64_t> words() const {
    std::vector<int64_t> all(kPatternHeader + steps.size() * 8);
    all[0] = int64_t(steps.size());
    for (size_t s = 0; s < steps.size(); s++) {
      PatternStep step = steps[s];
      const int64_t first = int64_t(all.size());
      switch (step.op) {
        case PatternOp::lengths:
        case PatternOp::key_set:
        case PatternOp::query_set: step.a += first; break;
        case PatternOp::ids: step.a += first, step.c += first; break;
        case PatternOp::blocks: step.d += first; break;
        default: break;
      }
      std::memcpy(all.data() + kPatternHeader + s * 8, &step, sizeof step);
    }
    all.insert(all.end(), tables.begin(), tables.end());
    return all;
  }
};

// Random programs whose every step is one that scores of these sizes can meet.
class RandomPattern {
 public:
  RandomPattern(uint64_t seed, int64_t b, int64_t h, int64_t n, int64_t m, bool with_mask)
      : random_(seed), b_(b), h_(h), n_(n), m_(m), with_mask_(with_mask) {}

  std::vector<int64_t> one_of(PatternOp op) {
    add_leaf(op);
    return text_.words();
  }
  std::vector<int64_t> joined(int leaves) {
    for (int i = 0; i < leaves; i++) {
      add_leaf(PatternOp(below(with_mask_ ? 11 : 10)));
      if (below(4) == 0) text_.steps.push_back({.op = PatternOp::complement});
      if (i > 0) text_.steps.push_back({.op = below(2) ? PatternOp::both : PatternOp::either});
    }
    return text_.words();
  }

 private:
  int64_t below(int64_t n) { return int64_t(random_() % uint64_t(n)); }
  int64_t table(int64_t size, int64_t most) {
    const int64_t at = int64_t(text_.tables.size());
    for (int64_t i = 0; i < size; i++) text_.tables.push_back(below(most));
    return at;
  }
  int64_t set(int64_t words) {
    const int64_t at = int64_t(text_.tables.size());
    for (int64_t i = 0; i < words; i++) text_.tables.push_back(int64_t(random_() & (below(2) ? random_() : 0x11)));
    return at;
  }
  void add_leaf(PatternOp op) {
    PatternStep s{.op = op, .aligned = below(2)};
    switch (op) {
      case PatternOp::band: s.a = -below(60), s.b = below(20); break;
      case PatternOp::stride: s.a = 1 + below(150), s.b = below(s.a); break;
      case PatternOp::residue: s.a = 1 + below(150), s.b = below(s.a), s.c = s.b + 1 + below(s.a - s.b); break;
      case PatternOp::cell: s.a = 1 + below(90); break;
      case PatternOp::below: s.a = below(m_ + 2); break;
      case PatternOp::lengths: s.b = below(2) ? b_ : 1, s.a = table(s.b, m_ + 2); break;
      case PatternOp::ids:
        s.aligned = 0, s.e = below(2) ? b_ : 1, s.b = n_, s.d = m_;
        s.a = table(s.b * s.e, 3), s.c = table(s.d * s.e, 3);
        break;
      case PatternOp::key_set:
      case PatternOp::query_set: s.b = below(m_ + 1), s.a = set(ceil_div(s.b, 64)); break;
      case PatternOp::blocks:
        s.a = 1 + below(70), s.b = ceil_div(max_of(n_, m_), s.a), s.c = ceil_div(m_, s.a), s.e = below(2) ? h_ : 1;
        s.d = set(s.e * s.b * ceil_div(s.c, 64));
        break;
      default: break;
    }
    text_.steps.push_back(s);
  }

  std::mt19937_64 random_;
  int64_t b_, h_, n_, m_;
  bool with_mask_;
  PatternText text_;
};

}  // namespace fovea::test
