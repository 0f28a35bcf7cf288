// Products of groups of rows, as op.cc sizes their workspace and grouped.h runs them. How many rows a group has is
// known only when the kernel runs: what is planned here is an upper bound over all that could come.
#pragma once
#include "ops/matmul/plan.h"

namespace fovea {

constexpr int64_t kGroupRows = 336;     // of A packed at a time by one task, which packs its panels of B for them alone
constexpr int64_t kTasksPerThread = 4;  // at least, where there is enough to do, so that unequal tasks even out

// One product for each group g of neighbouring rows; `whole` is that of a group of all rows.
struct GroupedProblem {
  MatmulProblem whole;
  bool sums_rows;  // rows are k, as in c[g] = a_g^T b_g; else they are m
  int64_t groups, rows;
  struct Place {
    int64_t row = 0, group = 0;  // elements from one row, and from one group, to the next
    FOVEA_INLINE int64_t at(int64_t first_row, int64_t g) const { return first_row * row + g * group; }
  };
  Place a{}, b{}, c{};

  FOVEA_INLINE MatmulProblem of(int64_t group_rows) const {
    MatmulProblem p = whole;
    (sums_rows ? p.k : p.m) = group_rows;
    if (better_transposed(p)) transpose_problem(p);
    return p;
  }
};

// sums_rows: in a [t, m], b [t, n], out c [groups, m, n]; else in a [t, k], b [groups, k, n], out c [t, n].
FOVEA_INLINE GroupedProblem grouped_problem(Views in, const View& out, bool sums_rows, const MatmulCuts& cuts) {
  const View &a = in[0], &b = in[1];
  GroupedProblem all{.whole = {}, .sums_rows = sums_rows, .groups = in[2].dim(0), .rows = a.dim(0)};
  MatmulProblem& p = all.whole;
  p.m = a.dim(sums_rows ? 1 : 0), p.n = out.dim(-1), p.k = a.dim(sums_rows ? 0 : 1);
  p.a_row = a.stride(sums_rows ? 1 : 0), p.a_k = a.stride(sums_rows ? 0 : 1);
  p.b_k = b.stride(-2), p.b_column = p.n == 1 ? 1 : b.stride(-1);
  p.c_row = p.n, p.c_column = 1;
  p.set_dtype(out.dtype);
  p.cuts = cuts;
  all.a.row = a.stride(0);
  (sums_rows ? all.b.row : all.b.group) = b.stride(0);
  (sums_rows ? all.c.group : all.c.row) = sums_rows ? p.m * p.n : p.n;
  return all;
}

// Shared: two numbers for each group, and two behind the last. Per thread: [packed A or a copy of few rows][packed B]
// [unfinished sums].
FOVEA_INLINE MatmulPlan grouped_plan(const GroupedProblem& all) {
  MatmulPlan plan{};
  const MatmulProblem& p = all.whole;
  plan.shared_bytes = round_up(2 * (all.groups + 1) * int64_t(sizeof(int64_t)), 64);
  MatmulProblem deepest = p;  // one pass over k packs no more than this
  deepest.k = min_of(p.k, p.cuts.whole_bytes / (p.cuts.packed_bytes ? p.cuts.packed_bytes : p.bytes));
  const int64_t longer = max_of(p.m, p.n), rows = min_of(kGroupRows, longer);
  const bool may_be_skinny = !all.sums_rows || min_of(p.m, p.n) <= kMaxSkinnyRows;
  plan.b_offset = packed_a_bytes(deepest, rows, 1);
  if (may_be_skinny) plan.b_offset = max_of(plan.b_offset, round_up(kMaxSkinnyRows * p.k * p.bytes, 64));
  plan.sums_offset = plan.b_offset + packed_b_bytes(deepest, kPanelGroup * kMaxTileColumns, deepest.depth());
  const int64_t columns = min_of(kColumnChunk, longer);
  plan.thread_bytes = plan.sums_offset + max_of(sums_bytes(p, rows, columns), sums_bytes(deepest, rows, columns));
  return plan;
}

}  // namespace fovea
