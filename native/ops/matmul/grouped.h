// y_g = x_g weights[g], or c[g] = a_g^T b_g, for groups g of neighbouring rows, as in a mixture of experts. Rows
// [offs[g - 1], offs[g]) are those of group g, the first of which begins at row 0.
//
// All groups are one list of tasks, each a block of rows times a chunk of columns of one group, so that threads are
// busy however rows are spread. A task packs its operands for itself; a group of up to eight rows streams its weights
// where they lie (skinny.h). A group's product has the bits of one that is multiplied alone.
#pragma once
#include "core/ragged.h"
#include "ops/matmul/grouped_plan.h"
#include "ops/matmul/skinny.h"
#include "ops/matmul/tiles.h"

namespace fovea::FOVEA_ISA {
namespace {

// Where each group's rows begin, and behind the last, where they end.
void read_offsets(const Call& call, const View& offs, int64_t rows, int64_t* begin) {
  const int64_t groups = offs.dim(0);
  begin[0] = 0;
  for (int64_t g = 0; g < groups; g++) {
    const int64_t end = integer_at(offs, g * offs.stride(0));
    if (end < begin[g])
      call.fail("FOVEA_INDEX",
                "offs[%lld] is %lld, but its group begins at row %lld; offsets are where groups end, "
                "and must not decrease",
                static_cast<long long>(g), static_cast<long long>(end), static_cast<long long>(begin[g]));
    if (end > rows)
      call.fail("FOVEA_INDEX", "offs[%lld] is %lld, but there are %lld rows", static_cast<long long>(g),
                static_cast<long long>(end), static_cast<long long>(rows));
    begin[g + 1] = end;
  }
  if (begin[groups] != rows)
    call.fail("FOVEA_INDEX", "offs ends at %lld, but there are %lld rows; the last group must end with them",
              static_cast<long long>(begin[groups]), static_cast<long long>(rows));
}

// How one group's product is cut into tasks.
struct GroupCut {
  bool skinny;
  int64_t row_chunks, column_chunks, columns;  // columns: of a chunk, where skinny
  FOVEA_INLINE int64_t tasks() const { return row_chunks * column_chunks; }
};
// `wanted`: tasks that this group should give.
template <class S>
FOVEA_INLINE GroupCut cut_group(const MatmulProblem& p, int64_t wanted) {
  if (p.m == 0) return {false, 0, 0, 0};
  if (p.k == 0) return {false, 1, 1, 0};
  if (is_skinny(p)) {
    const int64_t columns = skinny_columns<S>(p);
    return {true, 1, ceil_div(p.n, columns), columns};
  }
  const int64_t rows = ceil_div(p.m, kGroupRows), least = ceil_div(p.n, kColumnChunk);
  wanted = min_of(wanted, p.m * p.n * p.k / p.cuts.task);
  return {false, rows, max_of(least, min_of(ceil_div(wanted, rows), ceil_div(p.n, 2 * kMaxTileColumns))), 0};
}

template <class S>
struct Groups {
  const GroupedProblem& all;
  const MatmulPlan& plan;
  const Memory memory;
  const S *a, *b;
  S* c;
  int64_t *begin, *first_task;  // of each group, and behind the last
  int64_t wanted;               // tasks, of all groups

  FOVEA_INLINE int64_t rows(int64_t g) const { return begin[g + 1] - begin[g]; }
  FOVEA_INLINE GroupCut cut(const MatmulProblem& p, int64_t g) const {
    return cut_group<S>(p, ceil_div(wanted * rows(g), max_of(1, all.rows)));
  }
  void count_tasks() {
    first_task[0] = 0;
    for (int64_t g = 0; g < all.groups; g++) first_task[g + 1] = first_task[g] + cut(all.of(rows(g)), g).tasks();
  }
  void run(int64_t task, int thread) const {
    const int64_t g = group_of(first_task, 0, all.groups, task);
    const MatmulProblem p = all.of(rows(g));
    MatmulProblem written = p;
    if (p.transposed) transpose_problem(written);
    const S *left = a + all.a.at(begin[g], g), *right = b + all.b.at(begin[g], g);
    const Product<S> product{p,
                             written,
                             p.transposed ? right : left,
                             p.transposed ? left : right,
                             nullptr,
                             nullptr,
                             c + all.c.at(begin[g], g),
                             1,
                             0,
                             MatmulActivation::none};
    if (p.k == 0) {
      __builtin_memset(product.c, 0, size_t(p.m * p.n) * sizeof(S));
      return;
    }
    run_part(product, cut(p, g), task - first_task[g], thread);
  }
  void run_part(const Product<S>& product, const GroupCut& cut, int64_t part, int thread) const {
    const MatmulProblem& p = product.shape;
    if (cut.skinny) {
      const int64_t column = part * cut.columns;
      return multiply_skinny(product, column, min_of(cut.columns, p.n - column), memory.own<Compute<S>>(thread, 0),
                             false);
    }
    multiply_apart(product, part, cut.row_chunks, cut.column_chunks, plan, memory, thread);
  }
};

template <class S>
void multiply_groups(Call& call, const GroupedProblem& all) {
  const MatmulPlan plan = grouped_plan(all);
  const Memory memory{call.workspace, plan};
  int64_t *begin = memory.shared<int64_t>(), *first_task = begin + all.groups + 1;
  read_offsets(call, call.in[2], all.rows, begin);
  if (call.out[0].size() == 0) return;
  const MatmulProblem& p = all.whole;
  Groups<S> groups{all,
                   plan,
                   memory,
                   call.in[0].as<S>(),
                   call.in[1].as<S>(),
                   call.out[0].as<S>(),
                   begin,
                   first_task,
                   call.parallel.threads() * kTasksPerThread};
  groups.count_tasks();
  const int64_t count = first_task[all.groups], work = max_of(1, p.m * p.n * p.k / count);
  const int64_t grain = max_of(1, p.cuts.task / 8 / work);
  call.parallel.for_each(ceil_div(count, grain), [&](int64_t piece, int thread) {
    for (int64_t task = piece * grain; task < min_of(count, (piece + 1) * grain); task++) groups.run(task, thread);
  });
}

void run_groups(Call& call, bool sums_rows) {
  const View& c = call.out[0];
  const MatmulCuts& cuts = kUsesTiles && c.dtype == Dtype::bf16 ? kTileCuts : kVectorCuts;
  const GroupedProblem all = grouped_problem(call.in, c, sums_rows, cuts);
  dispatch_float(c.dtype, [&]<class S>() { multiply_groups<S>(call, all); });
}

void grouped_matmul(Call& call, const NoAttrs&) { run_groups(call, false); }
void grouped_outer(Call& call, const NoAttrs&) { run_groups(call, true); }

}  // namespace
}  // namespace fovea::FOVEA_ISA
