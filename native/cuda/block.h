// Kernels that give every row of a tensor to a group of threads: block.x threads per row (a power of two), block.y rows
// per block. A thread reads 16 bytes at a time where all rows allow it, keeps what it has read first in registers, and
// reads only the rest of a long row again.
#pragma once
#include <math.h>

#include "cuda/convert.h"
#include "cuda/index.h"

namespace fovea::cuda {

template <class T>
constexpr int kPackOf = int(16 / sizeof(T));
// Packs of one row that a thread keeps.
constexpr int kHeld = 4;

struct Add {
  template <class A>
  __device__ A operator()(A a, A b) const {
    return a + b;
  }
};
// NaN loses.
struct Largest {
  template <class A>
  __device__ A operator()(A a, A b) const {
    return fmax(a, b);
  }
};

// ---- groups of threads

constexpr size_t kReduceBytes = 32 * sizeof(double);  // of shared memory, from the start

// Combines `value` over the group of threads that share threadIdx.y; all of them get the result, and all threads of the
// block take part. Groups of more than a warp are alone in their block.
template <class A, class Op>
__device__ A reduce_group(A value, Op op) {
  const int threads = int(blockDim.x), width = threads < 32 ? threads : 32;
  for (int apart = width / 2; apart > 0; apart /= 2) value = op(value, __shfl_xor_sync(~0u, value, apart));
  if (threads <= 32) return value;
  A* of_warps = shared_memory_as<A>();
  const int lane = int(threadIdx.x) % 32, warps = threads / 32;
  if (lane == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warps[lane % warps];
  for (int apart = warps / 2; apart > 0; apart /= 2) value = op(value, __shfl_xor_sync(~0u, value, apart));
  __syncthreads();  // the next reduction may use the same memory
  return value;
}

// m = max x and s = sum exp(x - m) of the elements added so far, in one pass: s is rescaled where m grows. Where m is
// infinite, 0 is taken off instead. A NaN shows in s only.
template <class T>
struct ExpSum {
  using A = Accumulator<T>;
  A largest = A(-INFINITY), sum = 0;
  __device__ static A shift(A largest) { return isinf(largest) ? A(0) : largest; }
  __device__ A rescaled(A to) const { return sum * exp_for<T>(largest == to ? A(0) : largest - to); }
  template <int M>
  __device__ void add(const A (&x)[M]) {
    A all = largest, added = 0;
#pragma unroll
    for (int m = 0; m < M; m++) all = fmax(all, x[m]);
#pragma unroll
    for (int m = 0; m < M; m++) added += exp_for<T>(x[m] - shift(all));
    sum = rescaled(all) + added, largest = all;
  }
  __device__ void merge(const ExpSum& other) {
    const A all = fmax(largest, other.largest);
    sum = rescaled(all) + other.rescaled(all), largest = all;
  }
  // That of all threads that share threadIdx.y.
  __device__ void merge_group() {
    const A all = reduce_group(largest, Largest());
    sum = reduce_group(rescaled(all), Add()), largest = all;
  }
};

// The row of this group of threads. Groups past the last row repeat it, since warps stay whole, but must not write.
struct GroupRow {
  int64_t row;
  bool live;
  __device__ explicit GroupRow(int64_t rows) : row(int64_t(blockIdx.x) * blockDim.y + threadIdx.y), live(row < rows) {
    if (!live) row = rows - 1;
  }
};

// Threads for rows of `packs` packs; blocks for all rows. Where rows are many, a thread keeps as many packs as it can:
// much is under way at a time then, and little is left to add up across threads.
constexpr int kMostRowThreads = 512;
inline Config config_for_rows(int64_t rows, int64_t packs, int most_threads = kMostRowThreads) {
  constexpr int kThreads = 128;  // of blocks with several rows
  constexpr int64_t kMany = 1024;
  int64_t wanted = ceil_div(packs, rows < kMany ? 1 : kHeld);
  unsigned threads = 1;
  while (threads < unsigned(most_threads) && threads < wanted) threads *= 2;
  const unsigned groups = threads <= 32 ? kThreads / threads : 1;
  return {dim3(unsigned(ceil_div(rows, groups))), dim3(threads, groups), kReduceBytes};
}

// ---- rows

// The axes before the last of one view, whose last axis is dense; row_axes(v).offsets(row) is where a row begins.
inline Layout<1> row_axes(View v) {
  v.rank--;
  return layout_of(v);
}
__device__ inline int64_t row_offset(const Layout<1>& axes, int64_t row) {
  int64_t at[1];
  axes.offsets(row, at);
  return at[0];
}
inline int64_t rows_of(const View& v) {
  int64_t rows = 1;
  for (int i = 0; i < v.rank - 1; i++) rows *= v.shape[i];
  return rows;
}
// Whether every row begins at a multiple of 16 bytes and is a multiple of them long. An absent view does not mind.
inline bool packs_fit(const View& v) {
  if (!v.present()) return true;
  const int64_t k = 16 / int64_t(kDtypeBytes[int(v.dtype)]);
  if (reinterpret_cast<uintptr_t>(v.data) % 16 || v.dim(-1) % k) return false;
  for (int i = 0; i < v.rank - 1; i++)
    if (v.shape[i] > 1 && v.strides[i] % k) return false;
  return true;
}
template <int K>
struct PackSize {
  static constexpr int value = K;
};
// Calls body with PackSize<16 bytes of T> or PackSize<1>.
template <class T, class Body>
void dispatch_packs(bool fit, Body&& body) {
  if (fit) body(PackSize<kPackOf<T>>{});
  else body(PackSize<1>{});
}

// One row of n elements, read several times; kHeld packs per thread come from memory only once.
template <class T, int K>
class Row {
 public:
  __device__ Row(const T* from, int64_t n)
      : from_(reinterpret_cast<const Pack<T, K>*>(from)),
        packs_(n / K),
        near_(int(min_of(packs_, kHeld * blockDim.x))) {
#pragma unroll
    for (int j = 0; j < kHeld; j++)
      if (place(j) < near_) held_[j] = from_[place(j)];
  }
  // body(number of the pack, pack) for every pack of this thread.
  template <class Body>
  __device__ void each(Body&& body) const {
#pragma unroll
    for (int j = 0; j < kHeld; j++)
      if (place(j) < near_) body(place(j), held_[j]);
    each_further([&](int64_t first) {
      Pack<T, K> packs[kHeld];
      load(first, packs);
#pragma unroll
      for (int j = 0; j < kHeld; j++)
        if (first + j * blockDim.x < packs_) body(first + j * blockDim.x, packs[j]);
    });
  }
  // body(number of the pack, pack, pack of the other row)
  template <class Body>
  __device__ void each_with(const Row& other, Body&& body) const {
#pragma unroll
    for (int j = 0; j < kHeld; j++)
      if (place(j) < near_) body(place(j), held_[j], other.held_[j]);
    each_further([&](int64_t first) {
      Pack<T, K> packs[kHeld], others[kHeld];
      load(first, packs), other.load(first, others);
#pragma unroll
      for (int j = 0; j < kHeld; j++)
        if (first + j * blockDim.x < packs_) body(first + j * blockDim.x, packs[j], others[j]);
    });
  }

 private:
  // As many packs at a time as are kept, so that as much is under way.
  template <class Body>
  __device__ void each_further(Body&& body) const {
    for (int64_t first = place(kHeld); first < packs_; first += kHeld * int64_t(blockDim.x)) body(first);
  }
  __device__ void load(int64_t first, Pack<T, K> (&packs)[kHeld]) const {
#pragma unroll
    for (int j = 0; j < kHeld; j++)
      if (first + j * blockDim.x < packs_) packs[j] = from_[first + j * blockDim.x];
  }
  __device__ static int place(int j) { return int(threadIdx.x + unsigned(j) * blockDim.x); }
  const Pack<T, K>* from_;
  int64_t packs_;
  int near_;  // of them, that threads keep
  Pack<T, K> held_[kHeld];
};

}  // namespace fovea::cuda
