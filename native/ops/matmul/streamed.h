// c[m][n] for up to eight rows of A and a B whose rows lie whole in memory (columns have stride 1): bound by the memory
// that holds B, which flows fastest in the order in which it lies, row after row. A task has some rows of B and sums
//
//   part[m][n] = sum over its k of a[m][k] b[k][n]
//
// for all columns at once, a few k at a time, so that the sums, which stay in L1, are loaded and stored seldom. Parts
// are added up in order at the end. How many k a task has depends on the width of B alone, so that neither threads nor
// the number of rows of A change a result.
#pragma once
#include "ops/matmul/skinny.h"
#include "ops/matmul/tiles.h"

namespace fovea::FOVEA_ISA {
namespace {

// Registers: the factors of kRows x kTogether elements, kTogether vectors of B, one of sums.
template <int kRows>
constexpr int kStreamTogether = kRows * 4 + 5 <= kRegisters ? 4 : 2;

// sums[i][0 .. columns), whole vectors, += sum over k of x[i][k] b[k][...], for kTogether k that are `apart`. The rows
// behind them are fetched ahead: short rows end before the hardware has seen that they go on.
template <class S, int kRows, int kTogether>
FOVEA_INLINE void add_b_rows(const Compute<S>* x, int64_t x_row, const S* b, int64_t b_k, int64_t apart,
                             int64_t columns, Compute<S>* sums, int64_t pitch) {
  using T = Compute<S>;
  constexpr int L = kLanes<T>;
  Vec<T> factor[kRows][kTogether];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 4
    for (int p = 0; p < kTogether; p++) factor[i][p] = splat(x[i * x_row + p * apart]);
#pragma GCC unroll 1
  for (int64_t j = 0; j < columns; j += L) {
    Vec<T> y[kTogether];
#pragma GCC unroll 4
    for (int p = 0; p < kTogether; p++) {
      y[p] = load_compute(b + p * apart * b_k + j);
      __builtin_prefetch(reinterpret_cast<const char*>(b + p * apart * b_k + j) + kPrefetchBytes);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRows; i++) {
      Vec<T> sum = load(sums + i * pitch + j);
#pragma GCC unroll 4
      for (int p = 0; p < kTogether; p++) sum += factor[i][p] * y[p];
      store(sums + i * pitch + j, sum);
    }
  }
}
template <class S, int kRows>
void stream_rows(const Compute<S>* x, int64_t x_row, int64_t k, const S* b, int64_t b_k, int64_t columns,
                 Compute<S>* sums, int64_t pitch) {
  constexpr int kTogether = kStreamTogether<kRows>;
  const int64_t whole = columns / kLanes<Compute<S>> * kLanes<Compute<S>>;
  for (int i = 0; i < kRows; i++)
    for (int64_t j = 0; j < whole; j++) sums[i * pitch + j] = 0;
  const int64_t part = k / kKStreams;  // as in_streams has it
  for (int64_t p = 0; p < part; p++)
    for (int64_t s = 0; s < kKStreams; s += kTogether)
      add_b_rows<S, kRows, kTogether>(x + p + s * part, x_row, b + (p + s * part) * b_k, b_k, part, whole, sums, pitch);
  for (int64_t p = kKStreams * part; p < k; p++)
    add_b_rows<S, kRows, 1>(x + p, x_row, b + p * b_k, b_k, 1, whole, sums, pitch);
  for (int64_t j = whole; j < columns; j++)
    for (int i = 0; i < kRows; i++) sums[i * pitch + j] = sweep_one(x + i * x_row, k, k, b + j, b_k);
}

// One task's part, [m][n], of k from `begin` on; x_copy has room for its part of A. Columns are taken in pieces whose
// sums stay in L1; more than four rows take turns, the second time with B from the cache.
template <class S>
void stream_part(const Product<S>& product, int64_t begin, int64_t depth, Compute<S>* x_copy, Compute<S>* part) {
  constexpr int64_t kPiece = 4096;
  const MatmulProblem& p = product.shape;
  for (int64_t i = 0; i < p.m; i++)
    gather_row(product.a + i * p.a_row + begin * p.a_k, p.a_k, x_copy + i * depth, depth);
  for (int64_t column = 0; column < p.n; column += kPiece)
    for (int64_t row = 0; row < p.m; row += 4) {
      const int64_t columns = min_of(kPiece, p.n - column);
      with_rows(p.m - row, [&]<int kRows>() {
        stream_rows<S, kRows>(x_copy + row * depth, depth, depth, product.b + begin * p.b_k + column, p.b_k, columns,
                              part + row * p.n + column, p.n);
      });
    }
}

template <class S>
void multiply_streamed(Parallel& parallel, const Product<S>& product, const Memory& memory) {
  using T = Compute<S>;
  const MatmulProblem& p = product.shape;
  const int64_t depth = p.streamed_depth(), parts = ceil_div(p.k, depth);
  T* const sums = memory.shared<T>();
  parallel.for_each(parts, [&](int64_t task, int thread) {
    const int64_t begin = task * depth;
    stream_part(product, begin, min_of(depth, p.k - begin), memory.own<T>(thread, 0), sums + task * p.m * p.n);
  });
  constexpr int64_t kAdded = int64_t(1) << 17;  // elements per task
  const int64_t chunks = ceil_div(p.n, kMaxFinished), grain = max_of(1, kAdded / (parts * p.m * kMaxFinished));
  parallel.for_each(ceil_div(chunks, grain), [&](int64_t task, int) {
    for (int64_t chunk = task * grain; chunk < min_of(chunks, (task + 1) * grain); chunk++) {
      const int64_t column = chunk * kMaxFinished, columns = min_of(kMaxFinished, p.n - column);
      for (int64_t row = 0; row < p.m; row++) {
        T* const total = sums + row * p.n + column;
        for (int64_t part = 1; part < parts; part++) {
          const T* more = total + part * p.m * p.n;
          for (int64_t j = 0; j < columns; j++) total[j] += more[j];
        }
      }
      finish(product, p, sums + column, p.n, 0, column, p.m, columns);
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
