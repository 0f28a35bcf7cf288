// How a matrix product is cut, from shapes and strides alone: used by op.cc to size the workspace and by cpu.cc to run.
// The widths of tiles differ between instruction sets, so every size here is an upper bound over all of them. Where a
// product is multiplied in tile registers (AMX) it is cut in another way; op.cc takes the larger of both workspaces.
//
// Each element of C is summed over blocks of k in the same order whatever the path or the cut into tasks, except that
// `skinny` and `streamed` sum differently; that choice depends on shapes and strides only. So thread counts never
// change a result.
#pragma once
#include "core/arithmetic.h"
#include "core/kernel.h"
#include "ops/matmul/attrs.h"

namespace fovea {

constexpr int64_t kMaxSkinnyRows = 8;
constexpr int64_t kColumnChunk = 1024;                // columns of C per task, so that its unfinished sums stay in L2
constexpr int64_t kApartRows = 256;                   // of A that a task has packed at a time, at most
constexpr int64_t kApartSums = int64_t(1) << 18;      // of a task, where they are unfinished
constexpr int64_t kDeep = 8192;                       // k of which a shared operand of few rows would take too much
constexpr int64_t kPackedBBytes = int64_t(16) << 20;  // packed at a time where B is shared by all rows: about L3
constexpr int64_t kPrivateBBytes = int64_t(1) << 20;  // packed by one thread for itself: about L2
constexpr int64_t kTiledABytes = int64_t(768) << 10;  // of a task in tile registers: the rest of L2 is for B
constexpr int64_t kStreamedBytes = int64_t(1) << 18;  // of B, per task where B only passes through
constexpr int64_t kStreamedRowBytes = int64_t(1) << 19;  // the same where its rows are taken whole
constexpr int64_t kPanelGroup = 4;                       // panels packed together, since they share rows of B
constexpr int64_t kMaxTileRows = 32, kMaxTileColumns = 32, kSlotPadding = 16;
constexpr int64_t kMaxDepthQuantum = 32;  // k is packed in multiples of it at most

// The sizes that suit a way to multiply.
struct MatmulCuts {
  int64_t whole_bytes;   // of k, packed, that is not cut,
  int64_t depth_bytes;   // or else of k per pass: a strip of A and a panel of B stay in L1/L2
  int64_t packed_bytes;  // of one value, packed; 0: what is computed in
  int64_t rows;          // of A packed at a time; a multiple of most tile heights
  int64_t task;          // multiplications below which waking a thread costs more than it saves
  bool tiles;            // in tile registers: A is packed as it lies if its k has stride 1, and runs of k are summed
};
constexpr MatmulCuts kVectorCuts{2048, 2048, 0, 168, int64_t(1) << 19, false};
constexpr MatmulCuts kTileCuts{4096, 2048, 2, 256, int64_t(1) << 22, true};

// The product with its leading axes: as many as possible are folded into rows, since one large product beats many
// small.
struct MatmulProblem {
  int64_t m, n, k, batches = 1;
  int64_t a_row, a_k, b_k, b_column, c_row, c_column, bias_row = 0, bias_column = 0;
  int64_t residual_row = 0, residual_column = 0;
  int32_t rank = 0;  // of what is left of the leading axes
  int64_t shape[kMaxRank], a_leading[kMaxRank], b_leading[kMaxRank], bias_leading[kMaxRank];
  int64_t residual_leading[kMaxRank];
  int64_t bytes;            // of one element in the type that is computed in
  int64_t stored_bytes;     // of one element where it lies
  bool biased = false;      // beta = 0 leaves the bias unread
  bool added = false;       // there is a residual
  bool transposed = false;  // this is c^T = b^T a^T: what is called a here is the op's b
  bool prepacked = false;   // B was packed before, whole
  bool integers;
  MatmulCuts cuts;

  FOVEA_INLINE void set_dtype(Dtype dtype) {
    integers = dtype == Dtype::i32 || dtype == Dtype::i64;
    bytes = dtype == Dtype::f64 || dtype == Dtype::i64 ? 8 : 4;
    stored_bytes = dtype == Dtype::f16 || dtype == Dtype::bf16 ? 2 : bytes;
  }
  FOVEA_INLINE int64_t depth_blocks() const {
    const int64_t packed = k * (cuts.packed_bytes ? cuts.packed_bytes : bytes);
    return packed <= cuts.whole_bytes ? 1 : ceil_div(packed, cuts.depth_bytes);
  }
  // Rows of B that one task takes whole: many, since each task has sums of its own; an even number of equal parts.
  FOVEA_INLINE int64_t streamed_depth() const {
    const int64_t most = max_of(32, kStreamedRowBytes / (n * stored_bytes));
    return round_up(max_of(32, ceil_div(k, round_up(ceil_div(k, most), 2))), 4);
  }
  FOVEA_INLINE int64_t depth() const { return round_up(ceil_div(k, depth_blocks()), kMaxDepthQuantum); }
  // Pieces of columns whose unfinished sums stay in L2. Without such sums other pieces would only pack A once more.
  FOVEA_INLINE int64_t column_chunks(int64_t columns) const {
    return depth_blocks() == 1 ? 1 : ceil_div(columns, kColumnChunk);
  }
  // Rows of a task where B is packed for all: each passes over all of B, which tile registers outrun if they are few.
  FOVEA_INLINE int64_t task_rows() const {
    return cuts.tiles ? clamp_to(kTiledABytes / (depth() * cuts.packed_bytes), cuts.rows / 2, 2 * cuts.rows)
                      : cuts.rows;
  }
};

// c^T = b^T a^T in place of c = a b.
FOVEA_INLINE void transpose_problem(MatmulProblem& p) {
  p.transposed = true;
  auto swap = [](int64_t& x, int64_t& y) {
    int64_t old = x;
    x = y, y = old;
  };
  swap(p.m, p.n), swap(p.a_row, p.b_column), swap(p.a_k, p.b_k);
  swap(p.c_row, p.c_column), swap(p.bias_row, p.bias_column), swap(p.residual_row, p.residual_column);
  for (int i = 0; i < p.rank; i++) swap(p.a_leading[i], p.b_leading[i]);
}
// A vector-like A is multiplied without packing, and so is a vector-like B, as the transposed product.
FOVEA_INLINE bool better_transposed(const MatmulProblem& p) {
  if (p.integers || p.prepacked || p.m <= kMaxSkinnyRows) return false;
  if (p.n <= kMaxSkinnyRows) return p.a_k == 1 || p.a_row == 1;
  return p.cuts.tiles && p.b_k == 1 && p.n > p.m;
}

FOVEA_INLINE bool is_skinny(const MatmulProblem& p) {
  return !p.integers && p.m <= kMaxSkinnyRows && (p.b_k == 1 || p.b_column == 1);
}

// in: a [..., m, k], b [..., k, n], bias [..., m, n] or absent, b once more as it was packed, or absent, and residual
// [..., m, n] or absent.
FOVEA_INLINE MatmulProblem matmul_problem(Views in, const View& c, const MatmulAttrs& attrs,
                                          const MatmulCuts& cuts = kVectorCuts) {
  const View &a = in[0], &b = in[1], &bias = in[2];
  bool biased = bias.present() && attrs.beta != 0;
  MatmulProblem p;
  p.cuts = cuts;
  p.prepacked = in.size() > 3 && in[3].present();
  p.added = in.size() > 4 && in[4].present();
  p.m = c.dim(-2), p.n = c.dim(-1), p.k = a.dim(-1);
  p.a_row = a.stride(-2), p.a_k = a.stride(-1), p.b_k = b.stride(-2), p.b_column = p.n == 1 ? 1 : b.stride(-1);
  p.c_row = p.n, p.c_column = 1;
  p.biased = biased;
  if (biased) p.bias_row = bias.stride(-2), p.bias_column = bias.stride(-1);
  if (p.added) p.residual_row = in[4].stride(-2), p.residual_column = in[4].stride(-1);
  p.set_dtype(c.dtype);
  bool folding = true;
  for (int i = c.rank - 3; i >= 0; i--) {
    int64_t size = c.shape[i], bias_stride = biased ? bias.strides[i] : 0;
    int64_t residual_stride = p.added ? in[4].strides[i] : 0;
    if (size == 1) continue;
    folding = folding && b.strides[i] == 0 &&
              (p.m == 1 || (a.strides[i] == p.m * p.a_row && bias_stride == p.m * p.bias_row &&
                            residual_stride == p.m * p.residual_row));
    if (folding) {
      if (p.m == 1) p.a_row = a.strides[i], p.bias_row = bias_stride, p.residual_row = residual_stride;
      p.m *= size;
      continue;
    }
    p.shape[p.rank] = size, p.a_leading[p.rank] = a.strides[i], p.b_leading[p.rank] = b.strides[i];
    p.bias_leading[p.rank] = bias_stride, p.residual_leading[p.rank++] = residual_stride;
    p.batches *= size;
  }
  if (better_transposed(p)) transpose_problem(p);
  return p;
}

// Rows of B lie whole, and there are enough of them for two tasks.
FOVEA_INLINE bool streams_b_rows(const MatmulProblem& p) {
  return p.batches == 1 && p.b_column == 1 && p.b_k >= p.n && p.n >= 64 && p.k >= 2 * p.streamed_depth();
}

enum class MatmulPath : uint8_t {
  skinny,      // up to 8 rows: B is streamed where it lies
  streamed,    // the same, row after row: tasks are rows of B, whose sums are added up at the end
  apart,       // up to kApartRows for each thread, or deep: each task packs its own parts of A and B as it goes
  per_matrix,  // many small products: each is one thread's, which packs both operands
  shared_a,    // few rows, in tile registers: A is packed first, for all; tasks are columns, which pack their part of B
  prepacked,   // the same with a B that was packed in another call; tasks are columns where there are few rows
  shared_b,    // else: B is packed first, for all; tasks are rows (and columns), and each packs its own part of A
};

struct MatmulPlan {
  MatmulPath path;
  int64_t column_blocks = 1;                  // passes, one after the other, that bound the memory for packed B
  int64_t row_chunks = 1, column_chunks = 1;  // tasks per pass
  int64_t shared_bytes = 0;                   // packed A or packed B
  int64_t thread_bytes = 0;                   // per thread: [packed A][packed B][unfinished sums]
  int64_t b_offset = 0, sums_offset = 0;
};

// Bytes of packed operands and of unfinished sums, with the padding of any instruction set.
FOVEA_INLINE int64_t packed_a_bytes(const MatmulProblem& p, int64_t rows, int64_t blocks) {
  return round_up((rows + kMaxTileRows) * (p.depth() + 1 + kSlotPadding) * blocks * p.bytes, 64);
}
FOVEA_INLINE int64_t packed_b_bytes(const MatmulProblem& p, int64_t columns, int64_t depth) {
  return round_up((columns + kMaxTileColumns) * round_up(depth, kMaxDepthQuantum) * p.bytes, 64);
}
FOVEA_INLINE int64_t sums_bytes(const MatmulProblem& p, int64_t rows, int64_t columns) {
  if (p.depth_blocks() == 1) {
    if (!p.cuts.tiles) return 0;
    columns = 0;  // those of one panel
  }
  return round_up((rows + kMaxTileRows) * (columns + 3 * kMaxTileColumns) * p.bytes, 64);
}

FOVEA_INLINE void plan_shared_a(const MatmulProblem& p, int64_t useful_tasks, int threads, MatmulPlan& plan) {
  int64_t per_thread = p.n >= threads * 4 * 256 ? 4 : 1;
  plan.column_chunks = max_of(ceil_div(p.n, kColumnChunk), min_of(useful_tasks, threads * per_thread));
  plan.column_chunks = min_of(plan.column_chunks, ceil_div(p.n, kMaxTileColumns));
  plan.shared_bytes = packed_a_bytes(p, p.m, p.depth_blocks());
  plan.sums_offset = packed_b_bytes(p, kPanelGroup * kMaxTileColumns, p.depth());
  plan.thread_bytes = plan.sums_offset + sums_bytes(p, p.m, ceil_div(p.n, plan.column_chunks));
}

FOVEA_INLINE void plan_shared_b(const MatmulProblem& p, int64_t useful_tasks, int threads, MatmulPlan& plan) {
  int64_t columns = max_of(kColumnChunk / 2, kPackedBBytes / (p.k * p.bytes));
  plan.column_blocks = ceil_div(p.n, columns);
  columns = ceil_div(p.n, plan.column_blocks) + kMaxTileColumns;
  plan.row_chunks = ceil_div(p.m, p.task_rows());
  if (int64_t even = round_up(plan.row_chunks, threads); p.m / even >= 2 * kMaxTileRows) plan.row_chunks = even;
  plan.column_chunks = p.column_chunks(columns - kMaxTileColumns);
  int64_t wanted = min_of(useful_tasks, threads);
  if (plan.row_chunks * plan.column_chunks < wanted)
    plan.column_chunks = min_of(ceil_div(wanted, plan.row_chunks), ceil_div(columns, 2 * kMaxTileColumns));
  int64_t rows = ceil_div(p.m, plan.row_chunks);
  plan.shared_bytes = packed_b_bytes(p, columns, p.k);
  plan.sums_offset = packed_a_bytes(p, rows, 1);
  plan.thread_bytes = plan.sums_offset + sums_bytes(p, rows, ceil_div(columns, plan.column_chunks));
}

// Few rows stream B from memory: pieces that keep it flowing, and several for each thread.
FOVEA_INLINE void plan_prepacked(const MatmulProblem& p, int64_t useful_tasks, int threads, MatmulPlan& plan) {
  plan_shared_b(p, useful_tasks, threads, plan);
  plan.column_blocks = 1, plan.shared_bytes = 0;
  plan.column_chunks = p.column_chunks(p.n);
  if (plan.row_chunks < (p.cuts.tiles ? 1 : 2) * threads)
    plan.column_chunks = max_of(plan.column_chunks, min_of(ceil_div(p.n * p.k * p.bytes, kStreamedBytes),
                                                           ceil_div(4 * threads, plan.row_chunks)));
  plan.column_chunks = min_of(plan.column_chunks, ceil_div(p.n, kMaxTileColumns));
  plan.thread_bytes =
      plan.sums_offset + sums_bytes(p, ceil_div(p.m, plan.row_chunks), ceil_div(p.n, plan.column_chunks));
}

// Rows and columns of tasks that keep all threads busy with the least to pack: a column of B costs kColumnCost for all
// rows of its task, a row of A kRowCost for all its columns, in millionths of a step of k over them.
FOVEA_INLINE void plan_apart(const MatmulProblem& p, int64_t useful_tasks, int threads, MatmulPlan& plan) {
  constexpr int64_t kRowCost = 10000000, kColumnCost = 20000000, kUnit = 1000000;
  const int64_t least_rows = ceil_div(p.m, kApartRows), wanted = min_of(useful_tasks, threads);
  const int64_t most = ceil_div(p.n, kMaxTileColumns);
  int64_t best = INT64_MAX;
  const int64_t rows_tried[] = {least_rows, round_up(least_rows, threads)};
  for (int64_t rows : rows_tried) {
    const int64_t height = ceil_div(p.m, rows);
    const int64_t least =
        max_of(p.depth_blocks() == 1 ? 1 : ceil_div(height * p.n, kApartSums), ceil_div(wanted, rows));
    const int64_t columns_tried[] = {least, round_up(least, threads)};
    for (int64_t columns : columns_tried) {
      columns = min_of(columns, most);
      const int64_t tasks = rows * columns;
      const int64_t cost =
          (kUnit + kRowCost / ceil_div(p.n, columns) + kColumnCost / height) * ceil_div(tasks, threads) / tasks;
      if (cost < best) best = cost, plan.row_chunks = rows, plan.column_chunks = columns;
    }
  }
  const int64_t rows = ceil_div(p.m, plan.row_chunks) + 1;
  plan.b_offset = packed_a_bytes(p, rows, 1);
  plan.sums_offset = plan.b_offset + packed_b_bytes(p, kPanelGroup * kMaxTileColumns, p.depth());
  plan.thread_bytes = plan.sums_offset + sums_bytes(p, rows, ceil_div(p.n, plan.column_chunks));
}

FOVEA_INLINE MatmulPlan matmul_plan(const MatmulProblem& p, int threads) {
  MatmulPlan plan{};
  plan.column_blocks = plan.row_chunks = plan.column_chunks = 1;
  if (p.m == 0 || p.n == 0 || p.k == 0 || p.batches == 0) return plan;
  int64_t useful_tasks = max_of(1, p.m * p.n * p.k / p.cuts.task);
  const bool deep = p.k > kDeep;
  bool enough = p.batches >= 4 * threads || (p.batches > 1 && useful_tasks < 2 * threads);
  if (p.prepacked) {
    plan.path = MatmulPath::prepacked;
    plan_prepacked(p, useful_tasks, threads, plan);
  } else if (is_skinny(p)) {
    const bool whole = streams_b_rows(p);
    plan.path = whole ? MatmulPath::streamed : MatmulPath::skinny;
    if (whole) plan.shared_bytes = round_up(ceil_div(p.k, p.streamed_depth()) * p.m * p.n * p.bytes, 64);
    plan.thread_bytes = round_up(p.m * (whole ? p.streamed_depth() : p.k) * p.bytes, 64);
  } else if (enough && packed_b_bytes(p, p.n, p.k) <= kPrivateBBytes) {
    plan.path = MatmulPath::per_matrix;
    plan.row_chunks = ceil_div(p.m, p.cuts.rows);
    int64_t rows = ceil_div(p.m, plan.row_chunks);
    plan.b_offset = packed_a_bytes(p, rows, 1);
    plan.sums_offset = plan.b_offset + packed_b_bytes(p, p.n, p.k);
    plan.thread_bytes = plan.sums_offset + sums_bytes(p, rows, p.n);
  } else if ((!p.cuts.tiles || deep) && p.m <= kApartRows * max_of(threads, deep ? 2 : 1)) {
    plan.path = MatmulPath::apart;
    plan_apart(p, useful_tasks, threads, plan);
  } else if (p.m <= p.cuts.rows) {
    plan.path = MatmulPath::shared_a;
    plan_shared_a(p, useful_tasks, threads, plan);
  } else {
    plan.path = MatmulPath::shared_b;
    plan_shared_b(p, useful_tasks, threads, plan);
  }
  return plan;
}
FOVEA_INLINE size_t plan_bytes(const MatmulPlan& plan, int threads) {
  return size_t(plan.shared_bytes + plan.thread_bytes * threads);
}

}  // namespace fovea
