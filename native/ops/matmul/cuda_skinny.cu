// Products with up to eight rows in A, as in decoding, where reading B is all that takes time. Where neighbours in
// memory lie along k (B is a transposed weight), a warp forms the products of two columns; else a warp sweeps over rows
// of B. Sums are in float32, in float64 for float64.
#include "ops/matmul/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kDotWarps = 4, kDotsPerWarp = kDotColumns / kDotWarps;
constexpr int kSweepWarps = 8;
template <class S>
constexpr int kVector = 16 / int(sizeof(S));  // elements per load

// Up to kCount elements that lie `stride` apart; zeros past `count`.
template <int kCount, class S>
__device__ void read_some(const S* from, int64_t stride, int64_t count, Compute<S>* to) {
  for (int j = 0; j < kCount; j++) to[j] = j < count ? widen(from[j * stride]) : Compute<S>(0);
}
template <int kCount, class S>
__device__ void read_group(const S* from, Compute<S>* to) {
  Group<S, kCount> group = *reinterpret_cast<const Group<S, kCount>*>(from);
  for (int j = 0; j < kCount; j++) to[j] = widen(group.value[j]);
}

// b[k, column] with k contiguous. kWide: k is contiguous in `a`, too, and 16 bytes of either can be read at once.
template <class S, int kRows, bool kWide>
__global__ void __launch_bounds__(kDotWarps * 32) dot_columns(Product<S> product) {
  using T = Compute<S>;
  constexpr int kCount = kWide ? kVector<S> : 1;
  const MatmulProblem& p = product.shape;
  Tile tile = tile_at(product, blockIdx.x, kMaxSkinnyRows, kDotColumns);
  Matrices<S> at = matrices_at(product, tile.batch, tile.split);
  int lane = int(threadIdx.x) % 32;
  int64_t column = tile.column + int(threadIdx.x) / 32 * kDotsPerWarp;
  const S* b[kDotsPerWarp];  // rows and columns that are not there are read as the last one, and not stored
  for (int c = 0; c < kDotsPerWarp; c++) b[c] = at.b + min_of(column + c, p.n - 1) * p.b_column;
  T sums[kDotsPerWarp][kRows] = {};
  auto step = [&]<bool kWhole>(int64_t k) {
    T right[kDotsPerWarp][kCount];
    for (int c = 0; c < kDotsPerWarp; c++) {
      if constexpr (kWhole) read_group<kCount>(b[c] + k, right[c]);
      else read_some<kCount>(b[c] + k, 1, at.to - k, right[c]);
    }
    for (int r = 0; r < kRows; r++) {
      T left[kCount];
      const S* a = at.a + min_of(r, p.m - 1) * p.a_row + k * p.a_k;
      if constexpr (kWhole && kWide) read_group<kCount>(a, left);
      else read_some<kCount>(a, p.a_k, at.to - k, left);
      for (int c = 0; c < kDotsPerWarp; c++)
        for (int j = 0; j < kCount; j++) sums[c][r] += left[j] * right[c][j];
    }
  };
  int64_t k = at.from + lane * kCount;
#pragma unroll 2
  for (; k + kCount <= at.to; k += 32 * kCount) step.template operator()<true>(k);
  if (k < at.to) step.template operator()<false>(k);
  T mine = 0;  // lane c kRows + r stores row r of column c
#pragma unroll
  for (int c = 0; c < kDotsPerWarp; c++)
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      T sum = sums[c][r];
      for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart);
      if (lane == c * kRows + r) mine = sum;
    }
  if (lane < kDotsPerWarp * kRows) store<1>(product, at, lane % kRows, column + lane / kRows, &mine);
}

// b[k, column] with columns contiguous. A thread has kVector columns, neighbours if 16 bytes can be read at once
// (kWide) or else 32 apart; the warps of a block share k.
template <class S, int kRows, bool kWide>
__global__ void __launch_bounds__(kSweepWarps * 32, 2) sweep_rows(Product<S> product) {
  using T = Compute<S>;
  constexpr int kCount = kVector<S>, kColumns = kSweepLanes * kCount;
  const MatmulProblem& p = product.shape;
  Tile tile = tile_at(product, blockIdx.x, kMaxSkinnyRows, kColumns);
  Matrices<S> at = matrices_at(product, tile.batch, tile.split);
  int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  constexpr int kApart = kWide ? 1 : kSweepLanes;
  int first = kWide ? lane * kCount : lane;
  int64_t columns = p.n - tile.column - first;  // from this thread's first on
  const S* b = at.b + tile.column + first;
  bool whole = kWide && columns >= kCount;
  T sums[kRows][kCount] = {};
  [[maybe_unused]] constexpr int kAhead = kRows < 8 ? 4 : kWide ? 2 : 1;  // as many loads as registers allow
#pragma unroll kAhead
  for (int64_t k = at.from + warp; k < at.to; k += kSweepWarps) {
    T right[kCount];
    if (whole) read_group<kCount>(b + k * p.b_k, right);
    else read_some<kCount>(b + k * p.b_k, kApart, ceil_div(columns, kApart), right);
    for (int r = 0; r < kRows; r++) {
      T left = widen(at.a[min_of(r, p.m - 1) * p.a_row + k * p.a_k]);
      for (int j = 0; j < kCount; j++) sums[r][j] += left * right[j];
    }
  }
  T* shared = shared_memory_as<T>();  // [kSweepWarps][kRows][kColumns]
  for (int r = 0; r < kRows; r++)
    for (int j = 0; j < kCount; j++) shared[(warp * kRows + r) * kColumns + first + j * kApart] = sums[r][j];
  __syncthreads();
  for (int i = int(threadIdx.x); i < kRows * kColumns; i += kSweepWarps * 32) {
    T sum = 0;
    for (int w = 0; w < kSweepWarps; w++) sum += shared[w * kRows * kColumns + i];
    store<1>(product, at, i / kColumns, tile.column + i % kColumns, &sum);
  }
}

// Whether groups of kVector elements, neighbours along one axis, start at multiples of 16 bytes in every matrix.
template <class S>
bool aligned(const S* base, int64_t stride, const MatmulProblem& p, const int64_t* leading) {
  bool multiples = reinterpret_cast<uintptr_t>(base) % 16 == 0 && stride % kVector<S> == 0;
  for (int i = 0; i < p.rank; i++) multiples = multiples && leading[i] % kVector<S> == 0;
  return multiples;
}

template <class S, int kRows>
void launch(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan) {
  const MatmulProblem& p = product.shape;
  bool dots = p.b_k == 1;
  Config config{.grid = dim3(unsigned(tiles_of(product, plan.rows, plan.columns))),
                .block = dim3((dots ? kDotWarps : kSweepWarps) * 32)};
  if (dots) {
    bool wide = p.a_k == 1 && aligned(product.b, p.b_column, p, p.b_leading) &&
                aligned(product.a, p.m == 1 ? 0 : p.a_row, p, p.a_leading);
    return call.launch(wide ? dot_columns<S, kRows, true> : dot_columns<S, kRows, false>, config, product);
  }
  bool wide = aligned(product.b, p.b_k, p, p.b_leading);
  config.shared = kSweepWarps * kRows * sizeof(Compute<S>) * size_t(plan.columns);
  call.launch(wide ? sweep_rows<S, kRows, true> : sweep_rows<S, kRows, false>, config, product);
}

}  // namespace

template <class S>
void matmul_skinny(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan) {
  int64_t m = product.shape.m;
  if (m == 1) launch<S, 1>(call, product, plan);
  else if (m == 2) launch<S, 2>(call, product, plan);
  else if (m <= 4) launch<S, 4>(call, product, plan);
  else launch<S, 8>(call, product, plan);
}
template void matmul_skinny(const CudaCall&, const Product<float>&, const CudaMatmulPlan&);
template void matmul_skinny(const CudaCall&, const Product<double>&, const CudaMatmulPlan&);
template void matmul_skinny(const CudaCall&, const Product<Half>&, const CudaMatmulPlan&);
template void matmul_skinny(const CudaCall&, const Product<Bfloat16>&, const CudaMatmulPlan&);

}  // namespace fovea::cuda
