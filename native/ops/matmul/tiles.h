// Products large enough to pack: C is cut into blocks of rows and panels of columns, and each task runs the
// micro-kernel over the tiles of one block. k is the outermost loop of a block, so that packed A stays in cache; sums
// that are not finished wait in scratch memory tile after tile, since rows of C whose stride is a power of two would
// share a cache set, and since 16-bit results may be rounded only once. Only finished tiles are written to C.
#pragma once
#include "ops/matmul/fetching.h"
#include "ops/matmul/output.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kPackGrain = 1 << 15;  // elements that are worth waking a thread for
constexpr int64_t kNearRows = 4096;      // bytes: further apart, each is in a page of its own
constexpr int64_t kPackRows = 256;       // of B in one piece of packing: few pages at a time, pieces for all threads
constexpr int64_t kPackGroup = 16;       // panels of B packed together for all: rows are read in longer runs

// The i-th of `count` nearly equal parts of n starts here, at a multiple of `quantum`.
FOVEA_INLINE int64_t part_begin(int64_t n, int64_t i, int64_t count, int64_t quantum) {
  return min_of(n, round_up(n * i / count, quantum));
}

// Rows cut into strips of nearly equal height; each strip's packed form starts at a multiple of `slot`.
template <class E>
struct Strips {
  int64_t rows, count, slot;
  FOVEA_INLINE Strips(int64_t rows, int64_t depth)
      : rows(rows), count(ceil_div(rows, E::kRows)), slot(E::packed_depth(depth) * E::kRows + kSlotPadding) {}
  FOVEA_INLINE int64_t begin(int64_t strip) const { return part_begin(rows, strip, count, E::kRowQuantum); }
  FOVEA_INLINE int64_t height(int64_t strip) const { return begin(strip + 1) - begin(strip); }
};

// Tasks of rows: whole strips, where strips may not start anywhere.
template <class E>
FOVEA_INLINE int64_t task_row(const MatmulProblem& p, int64_t task, int64_t tasks) {
  return part_begin(p.m, task, tasks, E::kRowQuantum > 1 ? E::kRows : 1);
}

// k cut into blocks.
struct Depths {
  int64_t k, count, whole;
  FOVEA_INLINE explicit Depths(const MatmulProblem& p) : k(p.k), count(p.depth_blocks()), whole(p.depth()) {}
  FOVEA_INLINE int64_t begin(int64_t block) const { return block * whole; }
  FOVEA_INLINE int64_t depth(int64_t block) const { return min_of(whole, k - begin(block)); }
};

// One task: rows [row, row + rows) times panels [panel, panel_end).
template <class E>
struct Block {
  using Packed = typename E::Packed;
  int64_t row, rows, panel, panel_end;
  const Packed* packed_a = nullptr;  // [depth block][strip], packed before; nullptr: packed here into own_a
  const Packed* packed_b = nullptr;  // [panel - first_panel][k], packed before; nullptr: packed here into own_b
  int64_t first_panel = 0;
  Packed *own_a = nullptr, *own_b = nullptr;
  typename E::T* sums = nullptr;
};

template <class E>
FOVEA_INLINE int64_t panels_of(int64_t columns) {
  return ceil_div(columns, E::kColumns);
}
// Packed elements of a panel over all of k.
template <class E>
FOVEA_INLINE int64_t panel_size(const MatmulProblem& p) {
  return E::packed_depth(p.k) * E::kColumns;
}

template <class S>
void pack_strip(const Product<S>& product, const Strips<Engine<S>>& strips, int64_t strip, int64_t row, int64_t k0,
                int64_t depth, typename Engine<S>::Packed* packed) {
  const MatmulProblem& p = product.shape;
  Engine<S>::pack_a(product.a + (row + strips.begin(strip)) * p.a_row + k0 * p.a_k, p.a_row, p.a_k,
                    strips.height(strip), depth, packed);
}

// Panels [panel, panel_end), k in [k0, k0 + depth); panel after panel at `panel_stride`. Rows of B are read in runs as
// long as the group is wide, since single panels would use two cache lines of a page at a time.
template <class S>
void pack_panels(const Product<S>& product, int64_t panel, int64_t panel_end, int64_t k0, int64_t depth,
                 typename Engine<S>::Packed* packed, int64_t panel_stride) {
  using E = Engine<S>;
  const MatmulProblem& p = product.shape;
  constexpr int64_t N = E::kColumns;
  const S* b = product.b + panel * N * p.b_column + k0 * p.b_k;
  int64_t full = p.b_column == 1 ? max_of(0, min_of(panel_end, p.n / N) - panel) : 0;
  int64_t in_runs = full > 0 ? depth / E::kDepthQuantum * E::kDepthQuantum : 0;
  for (int64_t i = 0; i < in_runs; i += E::kSteps)
    for (int64_t j = 0; j < full; j++)
      E::pack_b_row(b + i * p.b_k + j * N, p.b_k, packed + j * panel_stride + i / E::kSteps * N);
  for (int64_t j = 0; j < panel_end - panel; j++) {
    int64_t done = j < full ? in_runs : 0;
    if (done == depth) continue;
    E::pack_b(b + j * N * p.b_column + done * p.b_k, p.b_column, p.b_k, min_of(N, p.n - (panel + j) * N), depth - done,
              packed + j * panel_stride + done / E::kSteps * N);
  }
}

// to[column][row] = tile[row][column], in whole blocks of vectors.
template <class T, int Rows, int Columns>
FOVEA_INLINE void turn_tile(const T* tile, T* to) {
  constexpr int L = kLanes<T>;
  for (int i = 0; i < Rows; i += L)
    for (int j = 0; j < Columns; j += L) {
      Vec<T> rows[L];
#pragma GCC unroll 16
      for (int r = 0; r < L; r++) rows[r] = load(tile + (i + r) * Columns + j);
      transpose<T>(rows);
#pragma GCC unroll 16
      for (int r = 0; r < L; r++) store(to + (j + r) * Rows + i, rows[r]);
    }
}

// A panel of B for one tile: packed, or `raw`, as it lies, and packed to `own` on the way.
template <class S>
struct Panel {
  const typename Engine<S>::Packed* packed;
  const S* raw = nullptr;
  typename Engine<S>::Packed* own = nullptr;
};

// One strip times one panel over one run of k.
template <class S>
FOVEA_INLINE void multiply_tile(const Product<S>& product, int64_t row, int64_t height, int64_t panel, int64_t depth,
                                bool first, bool last, const typename Engine<S>::Packed* a, const Panel<S>& b,
                                const AheadOfBoth& ahead, Compute<S>* sums) {
  using E = Engine<S>;
  using T = Compute<S>;
  constexpr int64_t N = E::kColumns;
  const MatmulProblem& p = product.shape;
  int64_t column = panel * N, columns = min_of(N, p.n - column), packed = E::packed_depth(depth);
  auto multiply = [&](T* c, int64_t c_stride) {
    const T* before = first ? nullptr : sums;
    if constexpr (E::kPacksAsItGoes)
      if (b.raw) return E::multiply_raw(height, packed, a, b.raw, p.b_k, b.own, before, c, c_stride, ahead);
    E::multiply(height, columns, packed, a, b.packed, before, c, c_stride, ahead);
  };
  if (!last) return multiply(sums, N);
  if constexpr (std::is_same_v<S, T>)
    if (columns == N && product.plain()) return multiply(product.c + row * p.n + column, p.n);
  if (product.residual) fetch_residual(product, p, row, column, height, columns);
  alignas(64) T tile[E::kRows * N];
  multiply(tile, N);
  if constexpr (E::kTurns)
    if (p.transposed) {
      alignas(64) T turned[E::kRows * N];
      turn_tile<T, E::kRows, N>(tile, turned);
      return finish(product, product.written, turned, E::kRows, column, row, columns, height);
    }
  finish(product, p, tile, N, row, column, height, columns);
}

template <class S>
FOVEA_INLINE Fetching fetch_strip(const Product<S>& product, const Strips<Engine<S>>& strips, int64_t strip,
                                  int64_t row, int64_t k0, int64_t depth) {
  const MatmulProblem& p = product.shape;
  if (strip >= strips.count) return {};
  return Fetching::lanes(product.a + (row + strips.begin(strip)) * p.a_row + k0 * p.a_k, p.a_row, p.a_k,
                         strips.height(strip), depth, 1);
}
template <class S>
FOVEA_INLINE Fetching fetch_panels(const Product<S>& product, int64_t panel, int64_t panel_end, int64_t k0,
                                   int64_t depth, int64_t tiles) {
  const MatmulProblem& p = product.shape;
  constexpr int64_t N = Engine<S>::kColumns;
  return Fetching::lanes(product.b + panel * N * p.b_column + k0 * p.b_k, p.b_column, p.b_k,
                         min_of(panel_end * N, p.n) - panel * N, depth, tiles);
}

// What a strip will write once it is finished: the next one, or this one while it has further runs of k to go.
template <class S>
FOVEA_INLINE void fetch_results_ahead(const Product<S>& product, const Strips<Engine<S>>& strips, int64_t strip,
                                      int64_t row, int64_t panel) {
  constexpr int64_t N = Engine<S>::kColumns;
  if (strip >= strips.count) return;
  fetch_results(product, row + strips.begin(strip), panel * N, strips.height(strip),
                min_of(N, product.shape.n - panel * N));
}

template <class S>
void multiply_block(const Product<S>& product, const Block<Engine<S>>& block) {
  using E = Engine<S>;
  using Packed = typename E::Packed;
  constexpr int64_t N = E::kColumns;
  const MatmulProblem& p = product.shape;
  Strips<E> strips(block.rows, p.depth());
  Depths depths(p);
  [[maybe_unused]] typename E::Use use;
  int64_t b_bytes = (block.panel_end - block.panel) * panel_size<E>(p) * int64_t(sizeof(Packed));
  bool fetches = block.packed_b && b_bytes > kPrivateBBytes && strips.count > 1;
  // Where rows of B lie whole and near each other, the first tile of a panel packs it on the way.
  const bool on_the_way =
      E::kPacksAsItGoes && !block.packed_b && p.b_column == 1 && p.b_k * int64_t(sizeof(S)) <= kNearRows;
  const int64_t group = block.packed_b ? block.panel_end - block.panel : on_the_way ? 1 : kPanelGroup;
  for (int64_t d = 0; d < depths.count; d++) {
    int64_t k0 = depths.begin(d), depth = depths.depth(d);
    const Packed* a = block.packed_a ? block.packed_a + d * strips.count * strips.slot : block.own_a;
    if (!E::kPacksAsItGoes && !block.packed_a)
      for (int64_t s = 0; s < strips.count; s++)
        pack_strip(product, strips, s, block.row, k0, depth, block.own_a + s * strips.slot);
    for (int64_t g = block.panel; g < block.panel_end; g += group) {
      int64_t end = min_of(g + group, block.panel_end);
      const bool raw = on_the_way && end * N <= p.n;
      Fetching next;
      if (!block.packed_b) {
        if (!raw) pack_panels(product, g, end, k0, depth, block.own_b, E::packed_depth(depth) * N);
        const int64_t tiles = (end - g) * strips.count;
        if (end < block.panel_end)
          next = fetch_panels(product, end, min_of(end + group, block.panel_end), k0, depth, tiles);
        else if (d + 1 < depths.count)
          next = fetch_panels(product, block.panel, min_of(block.panel + group, block.panel_end), depths.begin(d + 1),
                              depths.depth(d + 1), tiles);
      }
      for (int64_t panel = g; panel < end; panel++) {
        Packed* own = block.own_b + (panel - g) * E::packed_depth(depth) * N;
        const Packed* b =
            block.packed_b ? block.packed_b + (panel - block.first_panel) * panel_size<E>(p) + k0 / E::kSteps * N : own;
        int64_t slot = depths.count > 1 ? panel - block.panel : 0;  // sums outlive a panel only if k is cut
        const int64_t most = min_of(E::kRun, depth);
        if (fetches && panel + 1 < end)
          next = {b + panel_size<E>(p),
                  E::packed_depth(depth) * N * int64_t(sizeof(Packed)),
                  1,
                  0,
                  strips.count * ceil_div(depth, most),
                  E::packed_depth(most)};
        for (int64_t run = 0; run < depth; run += E::kRun) {
          int64_t length = min_of(E::kRun, depth - run), at = run / E::kSteps;
          bool first = d == 0 && run == 0, last = d == depths.count - 1 && run + length == depth;
          for (int64_t s = 0; s < strips.count; s++) {
            int64_t height = strips.height(s);
            AheadOfBoth ahead;
            if (E::kPacksAsItGoes && !block.packed_a && panel == block.panel) {
              pack_strip(product, strips, s, block.row, k0, depth, block.own_a + s * strips.slot);
              ahead.a = fetch_strip(product, strips, s + 1, block.row, k0, depth).part(E::packed_depth(length));
            }
            ahead.b = next.part(E::packed_depth(length));
            if (!std::is_same_v<S, Compute<S>> && d == depths.count - 1 && run == 0)
              fetch_results_ahead(product, strips, length == depth ? s + 1 : s, block.row, panel);
            multiply_tile(product, block.row + strips.begin(s), height, panel, length, first, last,
                          a + s * strips.slot + at * round_up(height, E::kRowQuantum),
                          s == 0 && raw ? Panel<S>{b, product.b + panel * N + k0 * p.b_k, own} : Panel<S>{b + at * N},
                          ahead, block.sums + (slot * strips.count + s) * E::kRows * N);
          }
        }
      }
    }
  }
}

// ---- the three ways to share the work, see MatmulPath

// Where thread-private memory lies: [packed A][packed B][unfinished sums] per thread, behind what is shared.
struct Memory {
  std::byte* workspace;
  const MatmulPlan& plan;
  template <class T>
  FOVEA_INLINE T* shared() const {
    return reinterpret_cast<T*>(workspace);
  }
  template <class T>
  FOVEA_INLINE T* own(int thread, int64_t offset) const {
    return reinterpret_cast<T*>(workspace + plan.shared_bytes + thread * plan.thread_bytes + offset);
  }
};

template <class S>
void multiply_shared_a(Parallel& parallel, const Product<S>& product, const MatmulPlan& plan, const Memory& memory) {
  using E = Engine<S>;
  using Packed = typename E::Packed;
  const MatmulProblem& p = product.shape;
  Strips<E> strips(p.m, p.depth());
  Depths depths(p);
  auto* packed = memory.shared<Packed>();
  auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      int64_t d = i / strips.count;
      pack_strip(product, strips, i % strips.count, 0, depths.begin(d), depths.depth(d), packed + i * strips.slot);
    }
  };
  parallel.for_range(depths.count * strips.count, max_of(1, kPackGrain / strips.slot), pack);
  int64_t panels = panels_of<E>(p.n), tasks = plan.column_chunks;
  parallel.for_each(tasks, [&](int64_t task, int thread) {
    Block<E> block{.row = 0, .rows = p.m, .panel = panels * task / tasks, .panel_end = panels * (task + 1) / tasks};
    block.packed_a = packed;
    block.own_b = memory.own<Packed>(thread, plan.b_offset);
    block.sums = memory.own<typename E::T>(thread, plan.sums_offset);
    multiply_block(product, block);
  });
}

// Panels [first, first + panels) of B, each over all of k.
template <class S>
void pack_all(Parallel& parallel, const Product<S>& product, int64_t first, int64_t panels,
              typename Engine<S>::Packed* packed) {
  using E = Engine<S>;
  const MatmulProblem& p = product.shape;
  int64_t groups = ceil_div(panels, kPackGroup), pieces = ceil_div(p.k, kPackRows);
  auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      int64_t g = i / pieces * kPackGroup, k0 = i % pieces * kPackRows;
      pack_panels(product, first + g, first + min_of(g + kPackGroup, panels), k0, min_of(kPackRows, p.k - k0),
                  packed + g * panel_size<E>(p) + k0 / E::kSteps * E::kColumns, panel_size<E>(p));
    }
  };
  parallel.for_range(groups * pieces, max_of(1, kPackGrain / (p.k / pieces * E::kColumns * kPackGroup)), pack);
}

template <class S>
void multiply_packed(Parallel& parallel, const Product<S>& product, const MatmulPlan& plan, const Memory& memory,
                     int64_t first, int64_t panels, const typename Engine<S>::Packed* packed) {
  using E = Engine<S>;
  const MatmulProblem& p = product.shape;
  int64_t rows = plan.row_chunks, columns = plan.column_chunks;
  parallel.for_each(rows * columns, [&](int64_t task, int thread) {
    int64_t r = task % rows, c = task / rows, row = task_row<E>(p, r, rows);
    Block<E> block{.row = row,
                   .rows = task_row<E>(p, r + 1, rows) - row,
                   .panel = first + panels * c / columns,
                   .panel_end = first + panels * (c + 1) / columns};
    block.packed_b = packed;
    block.first_panel = first;
    block.own_a = memory.own<typename E::Packed>(thread, 0);
    block.sums = memory.own<typename E::T>(thread, plan.sums_offset);
    multiply_block(product, block);
  });
}

template <class S>
void multiply_shared_b(Parallel& parallel, const Product<S>& product, const MatmulPlan& plan, const Memory& memory) {
  using E = Engine<S>;
  auto* packed = memory.shared<typename E::Packed>();
  int64_t all_panels = panels_of<E>(product.shape.n);
  for (int64_t pass = 0; pass < plan.column_blocks; pass++) {
    int64_t first = all_panels * pass / plan.column_blocks,
            panels = all_panels * (pass + 1) / plan.column_blocks - first;
    pack_all(parallel, product, first, panels, packed);
    multiply_packed(parallel, product, plan, memory, first, panels, packed);
  }
}

// Part `part` of rows x columns, which packs what it needs for itself and waits for nobody.
template <class S>
void multiply_apart(const Product<S>& product, int64_t part, int64_t rows, int64_t columns, const MatmulPlan& plan,
                    const Memory& memory, int thread) {
  using E = Engine<S>;
  const MatmulProblem& p = product.shape;
  const int64_t r = part % rows, c = part / rows, row = task_row<E>(p, r, rows), panels = panels_of<E>(p.n);
  Block<E> block{.row = row,
                 .rows = task_row<E>(p, r + 1, rows) - row,
                 .panel = panels * c / columns,
                 .panel_end = panels * (c + 1) / columns};
  block.own_a = memory.own<typename E::Packed>(thread, 0);
  block.own_b = memory.own<typename E::Packed>(thread, plan.b_offset);
  block.sums = memory.own<typename E::T>(thread, plan.sums_offset);
  multiply_block(product, block);
}

template <class S>
void multiply_alone(const Product<S>& product, const MatmulPlan& plan, const Memory& memory, int thread) {
  using E = Engine<S>;
  using Packed = typename E::Packed;
  const MatmulProblem& p = product.shape;
  int64_t panels = panels_of<E>(p.n);
  auto* packed = memory.own<Packed>(thread, plan.b_offset);
  pack_panels(product, 0, panels, 0, p.k, packed, panel_size<E>(p));
  for (int64_t r = 0; r < plan.row_chunks; r++) {
    int64_t row = task_row<E>(p, r, plan.row_chunks);
    Block<E> block{.row = row, .rows = task_row<E>(p, r + 1, plan.row_chunks) - row, .panel = 0, .panel_end = panels};
    block.packed_b = packed;
    block.own_a = memory.own<Packed>(thread, 0);
    block.sums = memory.own<typename E::T>(thread, plan.sums_offset);
    multiply_block(product, block);
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
