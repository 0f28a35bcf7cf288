// How a reduction over the last axis is cut and folded, the same for every op (included by cpu.cc only).
//
// A reduction is one or two stages; a stage folds map(x, parameter) with an associative op, where the parameter of the
// second stage is the result of the first, per row (the mean for a variance, the maximum for logsumexp).
//
// Rows are walked along the axis that is dense in memory. Where the reduced axis is (or nothing is), a row is folded at
// a time: blocks of 1,024 elements in vectors, blocks pairwise, so the error grows with log n. Where a leading axis is
// dense instead (column sums), up to 1,024 neighbouring columns are folded together, row after row, 128 rows at a time.
#pragma once
#include "cpu/rows.h"
#include "ops/reduce/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kGroup = 1024;       // results computed together at most
constexpr int64_t kColumnBlock = 128;  // rows folded into a block of columns before it is added to the total
constexpr int64_t kMinColumns = 8;

// A: the type accumulated in. A group is a run of neighbouring results, a piece a part of the reduced axis.
template <class A>
class Reduction {
 public:
  Reduction(const View& x)
      : x_(x), axes_(leading_axes(x, 1)), n_(row_length(x)), stride_(row_stride(x)), outputs_(leading_size(x)) {
    int last = axes_.rank - 1;
    if (last >= 0 && axes_.strides[last] == 1 && stride_ != 1 && n_ > 1 && axes_.shape[last] >= kMinColumns)
      columns_ = axes_.shape[last];
    width_ = columns_ > 0 ? min_of(columns_, kGroup) : min_of(kGroup, row_grain(n_));
    groups_ = columns_ > 0 ? outputs_ / columns_ * ceil_div(columns_, width_) : ceil_div(outputs_, width_);
    short_ = columns_ == 0 && n_ <= kShortRow && rows_follow(axes_, n_, stride_);
    if (reduce_may_split(outputs_, outputs_ * n_) && groups_ < 2 * kReducePieces) {
      int64_t wanted = min_of(kReducePieces, max_of(1, n_ * (columns_ > 0 ? width_ : 1) / (kGrain / 2)));
      piece_ = ceil_div(ceil_div(n_, wanted), kBlock) * kBlock;
      pieces_ = ceil_div(n_, piece_);
    } else {
      piece_ = n_;
    }
  }
  int64_t n() const { return n_; }
  int64_t outputs() const { return outputs_; }
  int64_t groups() const { return groups_; }
  int64_t pieces() const { return pieces_; }
  // Groups that are worth waking a thread for.
  int64_t grain() const { return max_of(1, kGrain / max_of(1, width_ * n_)); }
  int64_t first_of(int64_t group) const {
    if (columns_ == 0) return group * width_;
    int64_t per_row = ceil_div(columns_, width_);
    return group / per_row * columns_ + group % per_row * width_;
  }
  int64_t count_of(int64_t group) const {
    if (columns_ == 0) return min_of(width_, outputs_ - group * width_);
    return min_of(width_, columns_ - group % ceil_div(columns_, width_) * width_);
  }
  // to[k] = the fold of one piece of result first_of(group) + k, its parameter being parameters[k].
  template <class Op, class Map>
  void fold(int64_t group, int64_t piece, const A* parameters, A* to, Op op, Map map) const {
    int64_t first = first_of(group), count = count_of(group), begin = piece * piece_, n = min_of(piece_, n_ - begin);
    if (columns_ > 0) return fold_columns(offset_of(axes_, first) + begin * stride_, n, count, parameters, to, op, map);
    if (short_) return fold_short_rows(first, count, parameters, to, op, map);
    for (int64_t k = 0; k < count; k++)
      to[k] = fold_row(offset_of(axes_, first + k) + begin * stride_, n, parameters ? parameters[k] : A(0), op, map);
  }

  // to[k] = the first index in result first_of(group) + k where x is wanted[k]; NaN is found, too.
  void find(int64_t group, const A* wanted, int64_t* to) const {
    int64_t first = first_of(group), count = count_of(group);
    if (columns_ > 0) return find_in_columns(offset_of(axes_, first), count, wanted, to);
    for (int64_t k = 0; k < count; k++) to[k] = find_in_row(offset_of(axes_, first + k), wanted[k]);
  }

 private:
  template <class Op, class Map>
  A fold_row(int64_t at, int64_t n, A parameter, Op op, Map map) const {
    Buffer<A> buffer;
    A partial[64];  // partial: of 2^i blocks each, as the set bits of the block number
    int depth = 0;
    Vec<A> parameters = splat<A>(parameter);
    for (int64_t begin = 0, block = 0; begin < n; begin += kBlock, block++) {
      int64_t count = min_of(kBlock, n - begin);
      const A* b = x_.block(at + begin * stride_, stride_, count, buffer);
      A value = fold_vectors<A>(
          count, op, [&](int64_t i, int64_t lanes) FOVEA_FLAT { return map(load(b + i, lanes), parameters); });
      for (int64_t bits = block; bits & 1; bits >>= 1) value = op(partial[--depth], value);
      partial[depth++] = value;
    }
    A total = depth > 0 ? partial[--depth] : Op::template identity<A>;
    while (depth > 0) total = op(partial[--depth], total);
    return total;
  }
  template <class Op, class Map>
  void fold_short_rows(int64_t first, int64_t count, const A* parameters, A* to, Op op, Map map) const {
    A buffer[kShortRow * kLanes<A>];
    for_vectors<A>(count, [&](int64_t k, int64_t lanes) FOVEA_FLAT {
      const A* b = x_.block((first + k) * n_, lanes * n_, buffer);
      const Vec<A> parameter = parameters ? load(parameters + k, lanes) : Vec<A>{};
      Vec<A> total = splat<A>(Op::template identity<A>);
      for (int64_t i = 0; i < n_; i++) total = op(total, map(load_apart(b + i, n_, lanes), parameter));
      store(to + k, total, lanes);
    });
  }
  template <class Op, class Map>
  void fold_columns(int64_t at, int64_t n, int64_t width, const A* parameters, A* to, Op op, Map map) const {
    Buffer<A, kGroup> buffer, local;
    for (int64_t j = 0; j < width; j++) to[j] = Op::template identity<A>;
    for (int64_t begin = 0; begin < n; begin += kColumnBlock) {
      for (int64_t j = 0; j < width; j++) local[j] = Op::template identity<A>;
      for (int64_t i = begin; i < min_of(n, begin + kColumnBlock); i++) {
        const A* row = x_.block(at + i * stride_, width, buffer);
        for_vectors<A>(width, [&](int64_t j, int64_t lanes) FOVEA_FLAT {
          Vec<A> parameter = parameters ? load(parameters + j, lanes) : Vec<A>{};
          store(local + j, op(load(local + j, lanes), map(load(row + j, lanes), parameter)), lanes);
        });
      }
      for_vectors<A>(width, [&](int64_t j, int64_t lanes)
                                FOVEA_FLAT { store(to + j, op(load(to + j, lanes), load(local + j, lanes)), lanes); });
    }
  }

  int64_t find_in_row(int64_t at, A wanted) const {
    Buffer<A> buffer;
    for (int64_t begin = 0; begin < n_; begin += kBlock) {
      const int64_t count = min_of(kBlock, n_ - begin);
      const A* b = x_.block(at + begin * stride_, stride_, count, buffer);
      for (int64_t i = wanted == wanted ? without(b, count, wanted) : 0; i < count; i++)
        if (same(b[i], wanted)) return begin + i;
    }
    return 0;
  }
  // How many elements at the start surely are not `wanted`, a number.
  FOVEA_INLINE static int64_t without(const A* x, int64_t count, A wanted) {
    constexpr int64_t kStep = kLanes<A>;
    const Vec<A> sought = splat<A>(wanted);
    int64_t i = 0;
    for (; i + 4 * kStep <= count; i += 4 * kStep)
      if (any_lane((load(x + i) == sought) | (load(x + i + kStep) == sought) | (load(x + i + 2 * kStep) == sought) |
                   (load(x + i + 3 * kStep) == sought)))
        break;
    return i;
  }
  void find_in_columns(int64_t at, int64_t width, const A* wanted, int64_t* to) const {
    Buffer<A, kGroup> buffer;
    for (int64_t j = 0; j < width; j++) to[j] = -1;
    for (int64_t i = 0; i < n_; i++) {
      const A* row = x_.block(at + i * stride_, width, buffer);
      for (int64_t j = 0; j < width; j++) to[j] = (to[j] < 0) & same(row[j], wanted[j]) ? i : to[j];
    }
  }
  template <class V>
  FOVEA_INLINE static auto same(V a, V b) {
    return (a == b) | ((a != a) & (b != b));
  }

  Source<A> x_;
  Axes axes_;
  int64_t n_, stride_, outputs_;
  bool short_ = false;   // short rows that follow each other
  int64_t columns_ = 0;  // of the dense leading axis; 0: row by row
  int64_t width_, groups_, piece_, pieces_ = 1;
};

// Finish: what becomes of a fold of all n elements, A -> A.
template <class Op, class Map, class Finish>
struct Stage {
  Op op;
  Map map;
  Finish finish;
};
template <class Op, class Map, class Finish>
Stage(Op, Map, Finish) -> Stage<Op, Map, Finish>;

// One stage for all groups in pieces: to[output] from parameters[output].
template <class A, class S>
void run_in_pieces(Call& call, const Reduction<A>& r, const S& stage, const A* parameters, A* to) {
  A* partial = call.scratch<A>(size_t(2 * r.outputs()) * sizeof(double));
  call.parallel.for_each(r.groups() * r.pieces(), [&](int64_t chunk, int) {
    int64_t group = chunk / r.pieces(), piece = chunk % r.pieces(), first = r.first_of(group);
    r.fold(group, piece, parameters ? parameters + first : nullptr, partial + piece * r.outputs() + first, stage.op,
           stage.map);
  });
  for (int64_t k = 0; k < r.outputs(); k++) {
    A total = partial[k];
    for (int64_t p = 1; p < r.pieces(); p++) total = stage.op(total, partial[p * r.outputs() + k]);
    to[k] = stage.finish(total);
  }
}

// done(group, first, count, a, b) takes the results of the two stages for one group, which are outputs [first, first +
// count).
template <class A, class First, class Second, class Done>
void reduce_twice(Call& call, const Reduction<A>& r, const First& first, const Second& second, Done done) {
  if (r.pieces() > 1) {
    A *a = call.scratch<A>(), *b = call.scratch<A>(size_t(r.outputs()) * sizeof(double));
    run_in_pieces(call, r, first, static_cast<const A*>(nullptr), a);
    run_in_pieces(call, r, second, static_cast<const A*>(a), b);
    return call.parallel.for_range(r.groups(), r.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; g++) done(g, r.first_of(g), r.count_of(g), a + r.first_of(g), b + r.first_of(g));
    });
  }
  call.parallel.for_range(r.groups(), r.grain(), [&](int64_t begin, int64_t end) {
    A a[kGroup], b[kGroup];
    for (int64_t group = begin; group < end; group++) {
      int64_t count = r.count_of(group);
      r.fold(group, 0, nullptr, a, first.op, first.map);
      for (int64_t k = 0; k < count; k++) a[k] = first.finish(a[k]);
      r.fold(group, 0, a, b, second.op, second.map);
      for (int64_t k = 0; k < count; k++) b[k] = second.finish(b[k]);
      done(group, r.first_of(group), count, a, b);
    }
  });
}
template <class A, class S, class Done>
void reduce_once(Call& call, const Reduction<A>& r, const S& stage, Done done) {
  if (r.pieces() > 1) {
    A* a = call.scratch<A>();
    run_in_pieces(call, r, stage, static_cast<const A*>(nullptr), a);
    return call.parallel.for_range(r.groups(), r.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; g++) done(g, r.first_of(g), r.count_of(g), a + r.first_of(g));
    });
  }
  call.parallel.for_range(r.groups(), r.grain(), [&](int64_t begin, int64_t end) {
    A a[kGroup];
    for (int64_t group = begin; group < end; group++) {
      r.fold(group, 0, nullptr, a, stage.op, stage.map);
      for (int64_t k = 0; k < r.count_of(group); k++) a[k] = stage.finish(a[k]);
      done(group, r.first_of(group), r.count_of(group), a);
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
