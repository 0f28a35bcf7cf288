// Products large enough to pack: C is cut into blocks of rows and panels of columns, and each task runs the
// micro-kernel over the tiles of one block. k is the outermost loop of a block, so that packed A stays in cache; sums
// that are not finished wait in scratch memory tile after tile, since rows of C whose stride is a power of two would
// share a cache set, and since 16-bit results may be rounded only once. Only finished tiles are written to C.
#pragma once
#include "ops/matmul/output.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kPackGrain = 1 << 15;  // elements that are worth waking a thread for
constexpr int64_t kPackRows = 256;       // of B in one piece of packing: few pages at a time, pieces for all threads

// Rows cut into strips of nearly equal height; each strip's packed form starts at a multiple of `slot`.
struct Strips {
  int64_t rows, count, slot;
  FOVEA_INLINE Strips(int64_t rows, int64_t depth)
      : rows(rows), count(ceil_div(rows, kTileRows)), slot(depth * kTileRows + kSlotPadding) {}
  FOVEA_INLINE int64_t begin(int64_t strip) const { return rows * strip / count; }
  FOVEA_INLINE int64_t height(int64_t strip) const { return begin(strip + 1) - begin(strip); }
};

// k cut into blocks of nearly equal depth.
struct Depths {
  int64_t k, count;
  FOVEA_INLINE explicit Depths(const MatmulProblem& p) : k(p.k), count(p.depth_blocks()) {}
  FOVEA_INLINE int64_t begin(int64_t block) const { return k * block / count; }
  FOVEA_INLINE int64_t depth(int64_t block) const { return begin(block + 1) - begin(block); }
};

// One task: rows [row, row + rows) times panels [panel, panel_end).
template <class T>
struct Block {
  int64_t row, rows, panel, panel_end;
  const T* packed_a = nullptr;  // [depth block][strip], packed before; nullptr: packed here into own_a
  const T* packed_b = nullptr;  // [panel - first_panel][k], packed before; nullptr: packed here into own_b
  int64_t first_panel = 0;
  T *own_a = nullptr, *own_b = nullptr, *sums = nullptr;
};

template <class T>
FOVEA_INLINE int64_t panels_of(int64_t columns) {
  return ceil_div(columns, kTileColumns<T>);
}

template <class S>
void pack_strip(const Product<S>& product, const Strips& strips, int64_t strip, int64_t row, int64_t k0, int64_t depth,
                Compute<S>* packed) {
  const MatmulProblem& p = product.shape;
  int64_t height = strips.height(strip);
  pack_panel(product.a + (row + strips.begin(strip)) * p.a_row + k0 * p.a_k, p.a_row, p.a_k, height, depth, packed,
             height);
}

// Panels [panel, panel_end), k in [k0, k0 + depth); panel after panel at `panel_stride`. Rows of B are read in runs as
// long as the group is wide, since single panels would use two cache lines of a page at a time.
template <class S>
void pack_panels(const Product<S>& product, int64_t panel, int64_t panel_end, int64_t k0, int64_t depth,
                 Compute<S>* packed, int64_t panel_stride) {
  using T = Compute<S>;
  const MatmulProblem& p = product.shape;
  constexpr int64_t N = kTileColumns<T>;
  const S* b = product.b + panel * N * p.b_column + k0 * p.b_k;
  int64_t full = min_of(panel_end, p.n / N) - panel;
  if (p.b_column != 1 || full < 0) full = 0;
  for (int64_t i = 0; full > 0 && i < depth; i++)
    for (int64_t j = 0; j < full; j++) {
      const S* from = b + i * p.b_k + j * N;
      T* to = packed + j * panel_stride + i * N;
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; v++) store(to + v * kLanes<T>, load_compute(from + v * kLanes<T>));
    }
  for (int64_t j = full; j < panel_end - panel; j++)
    pack_panel(b + j * N * p.b_column, p.b_column, p.b_k, min_of(N, p.n - (panel + j) * N), depth,
               packed + j * panel_stride, N);
}

// One strip times one panel over one block of k.
template <class S>
FOVEA_INLINE void multiply_tile(const Product<S>& product, int64_t row, int64_t height, int64_t panel, int64_t depth,
                                bool first, bool last, const Compute<S>* a, const Compute<S>* b, Compute<S>* sums) {
  using T = Compute<S>;
  constexpr int64_t N = kTileColumns<T>;
  int64_t column = panel * N, columns = min_of(N, product.shape.n - column);
  auto kernel = kMicroKernels<T>.of[(columns - 1) / kLanes<T>][height - 1];
  const T* before = first ? nullptr : sums;
  if (!last) return kernel(depth, a, b, before, sums, N);
  if constexpr (std::is_same_v<S, T>)
    if (columns == N && product.plain())
      return kernel(depth, a, b, before, product.c + row * product.shape.n + column, product.shape.n);
  alignas(64) T tile[kTileRows * N];
  kernel(depth, a, b, before, tile, N);
  finish(product, tile, N, row, column, height, columns);
}

template <class S>
void multiply_block(const Product<S>& product, const Block<Compute<S>>& block) {
  using T = Compute<S>;
  constexpr int64_t N = kTileColumns<T>;
  const MatmulProblem& p = product.shape;
  Strips strips(block.rows, p.depth());
  Depths depths(p);
  int64_t group = block.packed_b ? block.panel_end - block.panel : kPanelGroup;
  for (int64_t d = 0; d < depths.count; d++) {
    int64_t k0 = depths.begin(d), depth = depths.depth(d);
    const T* a = block.packed_a ? block.packed_a + d * strips.count * strips.slot : block.own_a;
    if (!block.packed_a)
      for (int64_t s = 0; s < strips.count; s++)
        pack_strip(product, strips, s, block.row, k0, depth, block.own_a + s * strips.slot);
    for (int64_t g = block.panel; g < block.panel_end; g += group) {
      int64_t end = min_of(g + group, block.panel_end);
      if (!block.packed_b) pack_panels(product, g, end, k0, depth, block.own_b, depth * N);
      for (int64_t panel = g; panel < end; panel++) {
        const T* b = block.packed_b ? block.packed_b + (panel - block.first_panel) * p.k * N + k0 * N
                                    : block.own_b + (panel - g) * depth * N;
        for (int64_t s = 0; s < strips.count; s++) {
          T* sums = block.sums + ((panel - block.panel) * strips.count + s) * kTileRows * N;
          multiply_tile(product, block.row + strips.begin(s), strips.height(s), panel, depth, d == 0,
                        d == depths.count - 1, a + s * strips.slot, b, sums);
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
  using T = Compute<S>;
  const MatmulProblem& p = product.shape;
  Strips strips(p.m, p.depth());
  Depths depths(p);
  T* packed = memory.shared<T>();
  auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      int64_t d = i / strips.count;
      pack_strip(product, strips, i % strips.count, 0, depths.begin(d), depths.depth(d), packed + i * strips.slot);
    }
  };
  parallel.for_range(depths.count * strips.count, max_of(1, kPackGrain / strips.slot), pack);
  int64_t panels = panels_of<T>(p.n), tasks = plan.column_chunks;
  parallel.for_each(tasks, [&](int64_t task, int thread) {
    Block<T> block{.row = 0, .rows = p.m, .panel = panels * task / tasks, .panel_end = panels * (task + 1) / tasks};
    block.packed_a = packed;
    block.own_b = memory.own<T>(thread, plan.b_offset);
    block.sums = memory.own<T>(thread, plan.sums_offset);
    multiply_block(product, block);
  });
}

template <class S>
void multiply_shared_b(Parallel& parallel, const Product<S>& product, const MatmulPlan& plan, const Memory& memory) {
  using T = Compute<S>;
  constexpr int64_t N = kTileColumns<T>;
  const MatmulProblem& p = product.shape;
  T* packed = memory.shared<T>();
  int64_t all_panels = panels_of<T>(p.n);
  for (int64_t pass = 0; pass < plan.column_blocks; pass++) {
    int64_t first = all_panels * pass / plan.column_blocks,
            panels = all_panels * (pass + 1) / plan.column_blocks - first;
    int64_t groups = ceil_div(panels, kPanelGroup), pieces = ceil_div(p.k, kPackRows);
    auto pack = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        int64_t g = i / pieces * kPanelGroup, k0 = i % pieces * kPackRows;
        pack_panels(product, first + g, first + min_of(g + kPanelGroup, panels), k0, min_of(kPackRows, p.k - k0),
                    packed + (g * p.k + k0) * N, p.k * N);
      }
    };
    parallel.for_range(groups * pieces, max_of(1, kPackGrain / (p.k / pieces * N * kPanelGroup)), pack);
    int64_t rows = plan.row_chunks, columns = plan.column_chunks;
    parallel.for_each(rows * columns, [&](int64_t task, int thread) {
      int64_t r = task % rows, c = task / rows, row = p.m * r / rows;
      Block<T> block{.row = row,
                     .rows = p.m * (r + 1) / rows - row,
                     .panel = first + panels * c / columns,
                     .panel_end = first + panels * (c + 1) / columns};
      block.packed_b = packed;
      block.first_panel = first;
      block.own_a = memory.own<T>(thread, 0);
      block.sums = memory.own<T>(thread, plan.sums_offset);
      multiply_block(product, block);
    });
  }
}

template <class S>
void multiply_alone(const Product<S>& product, const MatmulPlan& plan, const Memory& memory, int thread) {
  using T = Compute<S>;
  const MatmulProblem& p = product.shape;
  int64_t panels = panels_of<T>(p.n);
  T* packed = memory.own<T>(thread, plan.b_offset);
  pack_panels(product, 0, panels, 0, p.k, packed, p.k * kTileColumns<T>);
  for (int64_t r = 0; r < plan.row_chunks; r++) {
    int64_t row = p.m * r / plan.row_chunks;
    Block<T> block{.row = row, .rows = p.m * (r + 1) / plan.row_chunks - row, .panel = 0, .panel_end = panels};
    block.packed_b = packed;
    block.own_a = memory.own<T>(thread, 0);
    block.sums = memory.own<T>(thread, plan.sums_offset);
    multiply_block(product, block);
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
