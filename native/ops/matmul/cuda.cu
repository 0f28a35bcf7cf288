// c[..., m, n] = activation(alpha sum over k of a[..., m, k] b[..., k, n] + beta bias[..., m, n])
//                + residual[..., m, n]
//
// for any strides; leading axes broadcast. float16 and bfloat16 are summed in float32 over all of k and rounded once,
// behind the residual; integers wrap around and have no activation; beta = 0 leaves the bias unread. Here: the choice
// of a kernel (cuda_plan.h), the kernel for everything that the others leave, and the sum over parts of k.
#include "ops/matmul/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kSide = 16;  // threads of a block, in both directions, and the depth of a step

// The nearest neighbours in memory go to neighbouring threads, be it along k or across it.
struct Walk {
  int across, deep, across_step;  // element of this thread, and from one of its elements to the next
};
__device__ inline Walk walk(bool along_k) {
  int low = int(threadIdx.x) % kSide, high = int(threadIdx.x) / kSide;
  return along_k ? Walk{high, low, kSide} : Walk{low, high, kSide};
}

// One step of k of an operand into shared memory, [kSide of k][kSize + 1], zeros past its edges.
template <int kSize, class S>
__device__ void load_step(const S* from, int64_t stride, int64_t k_stride, int64_t first, int64_t size, int64_t k,
                          int64_t k_end, Compute<S>* to) {
  Walk at = walk(k_stride <= stride);
  for (int i = at.across; i < kSize; i += at.across_step) {
    int64_t index = first + i, depth = k + at.deep;
    bool inside = index < size && depth < k_end;
    to[at.deep * (kSize + 1) + i] = inside ? Compute<S>(widen(from[index * stride + depth * k_stride])) : Compute<S>(0);
  }
}

// With an activation, a copy of the sums is gone through in a loop that is not unrolled: a gelu of float64 is long.
template <int kMicro, class S>
__device__ inline void store_sums(const Product<S>& product, const Matrices<S>& at, int64_t row, int64_t column,
                                  const Compute<S> (&sums)[kMicro][kMicro]) {
  if (!kHasActivations<S> || product.activation == MatmulActivation::none) {
#pragma unroll
    for (int i = 0; i < kMicro; i++)
#pragma unroll
      for (int j = 0; j < kMicro; j++) store<1, false>(product, at, row + i * kSide, column + j * kSide, &sums[i][j]);
  } else {
    Compute<S> copy[kMicro * kMicro];
    for (int i = 0; i < kMicro * kMicro; i++) copy[i] = sums[i / kMicro][i % kMicro];
#pragma unroll 1
    for (int i = 0; i < kMicro * kMicro; i++)
      store<1>(product, at, row + i / kMicro * kSide, column + i % kMicro * kSide, &copy[i]);
  }
}

// Blocks of 16 x 16 threads sum a tile of (16 kMicro)^2, each thread kMicro^2 elements that lie 16 apart.
template <int kMicro, class S>
__global__ void __launch_bounds__(kSide* kSide, 2) multiply_any(Product<S> product, int64_t tiles) {
  using T = Compute<S>;
  constexpr int kSize = kSide * kMicro, kPitch = kSize + 1;
  const MatmulProblem& p = product.shape;
  T* a = shared_memory_as<T>();
  T* b = a + kSide * kPitch;
  int x = int(threadIdx.x) % kSide, y = int(threadIdx.x) / kSide;
  for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    Tile tile = tile_at(product, index, kSize, kSize);
    Matrices<S> at = matrices_at(product, tile.batch, tile.split);
    T sums[kMicro][kMicro] = {};
    for (int64_t k = at.from; k < at.to; k += kSide) {
      load_step<kSize>(at.a, p.a_row, p.a_k, tile.row, p.m, k, at.to, a);
      load_step<kSize>(at.b, p.b_column, p.b_k, tile.column, p.n, k, at.to, b);
      __syncthreads();
#pragma unroll
      for (int deep = 0; deep < kSide; deep++) {
        T left[kMicro], right[kMicro];
        for (int i = 0; i < kMicro; i++) {
          left[i] = a[deep * kPitch + y + i * kSide];
          right[i] = b[deep * kPitch + x + i * kSide];
        }
        for (int i = 0; i < kMicro; i++)
          for (int j = 0; j < kMicro; j++) sums[i][j] += left[i] * right[j];
      }
      __syncthreads();
    }
    store_sums(product, at, tile.row + y, tile.column + x, sums);
  }
}

// The parts of k are added in their order. Here `product` is that of all of k.
template <class S>
__global__ void add_parts(Product<S> product, int64_t splits) {
  const MatmulProblem& p = product.shape;
  int64_t size = p.m * p.n, all = size * p.batches;
  for (int64_t i = first_item(); i < all; i += item_step()) {
    Compute<S> sum = 0;
    for (int64_t split = 0; split < splits; split++) sum += product.partial[split * all + i];
    int64_t batch = i / size, row = (i - batch * size) / p.n, column = i - batch * size - row * p.n;
    store<1>(product, matrices_at(product, batch, 0), row, column, &sum);
  }
}

template <class S>
void multiply_generic(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan) {
  int64_t tiles = tiles_of(product, plan.rows, plan.columns);
  Config config{.grid = dim3(unsigned(min_of(tiles, INT32_MAX))), .block = dim3(kSide * kSide)};
  config.shared = size_t(2 * kSide * (plan.rows + 1)) * sizeof(Compute<S>);
  if (plan.rows == kSide) call.launch(multiply_any<1, S>, config, product, tiles);
  else call.launch(multiply_any<kSide / 4, S>, config, product, tiles);
}

template <class S>
void run_planned(const CudaCall& call, const Product<S>& product, const CudaMatmulPlan& plan) {
  if constexpr (kSame<S, float>)
    if (plan.kernel == MatmulKernel::simt) return matmul_simt(call, product, plan);
  if constexpr (kSame<S, Half> || kSame<S, Bfloat16>) {
    if (plan.kernel == MatmulKernel::sm80) return matmul_sm80(call, product);
    if (plan.kernel == MatmulKernel::sm90) return matmul_sm90(call, product, plan);
  }
  if constexpr (!kSame<S, uint32_t> && !kSame<S, uint64_t>)
    if (plan.kernel == MatmulKernel::skinny) return matmul_skinny(call, product, plan);
  multiply_generic(call, product, plan);
}

template <class S>
void multiply(const CudaCall& call, const MatmulProblem& p, Compute<S> alpha, Compute<S> beta,
              MatmulActivation activation = MatmulActivation::none) {
  const View &c = call.out[0], &a = call.in[p.transposed ? 1 : 0], &b = call.in[p.transposed ? 0 : 1];
  Product<S> product{.shape = p,
                     .a = a.as<S>(),
                     .b = b.as<S>(),
                     .bias = p.biased ? call.in[2].as<S>() : nullptr,
                     .residual = p.added ? call.in[4].as<S>() : nullptr,
                     .c = c.as<S>(),
                     .alpha = alpha,
                     .beta = beta,
                     .activation = activation};
  bool tma = sizeof(S) == 2 && call.device.capability == 90 && matmul_sm90_takes(p, a.data, b.data);
  CudaMatmulPlan plan = cuda_matmul_plan(p, c.dtype, call.device, tma);
  product.splits = plan.splits, product.depth = plan.depth;
  product.partial = plan.splits > 1 ? call.scratch<Compute<S>>() : nullptr;
  product.wide_stores = p.c_column == 1 && p.n % 4 == 0 && reinterpret_cast<uintptr_t>(c.data) % (4 * sizeof(S)) == 0;
  run_planned(call, product, plan);
  if (plan.splits == 1) return;
  product.splits = 1;
  Config config{.grid = dim3(blocks_for(p.m * p.n * p.batches, 256, call.device)), .block = dim3(256)};
  call.launch(add_parts<S>, config, product, plan.splits);
}

MatmulProblem cuda_matmul_problem(Views in, const View& c, const MatmulAttrs& attrs) {
  MatmulProblem problem = matmul_problem(in, c, attrs);
  merge_leading_axes(problem);
  return problem;
}

void matmul(const CudaCall& call, const MatmulAttrs& attrs) {
  const View& c = call.out[0];
  if (c.size() == 0) return;
  MatmulProblem problem = cuda_matmul_problem(call.in, c, attrs);
  double alpha = attrs.alpha, beta = attrs.beta;
  MatmulActivation activation{attrs.activation};
  if (activation < MatmulActivation::none || activation > MatmulActivation::silu)
    call.fail("FOVEA_ARGUMENT",
              "activation is %lld; pass 0 (none), 1 (gelu), 2 (gelu through tanh), 3 (relu) or 4 (silu)",
              static_cast<long long>(activation));
  switch (c.dtype) {
    case Dtype::f64: return multiply<double>(call, problem, alpha, beta, activation);
    case Dtype::f16: return multiply<Half>(call, problem, float(alpha), float(beta), activation);
    case Dtype::bf16: return multiply<Bfloat16>(call, problem, float(alpha), float(beta), activation);
    case Dtype::i32:
    case Dtype::i64: break;
    default: return multiply<float>(call, problem, float(alpha), float(beta), activation);
  }
  constexpr double kLimit = 0x1p53;  // also refuses NaN
  if (!(__builtin_fabs(alpha) <= kLimit && __builtin_fabs(beta) <= kLimit && alpha == __builtin_trunc(alpha) &&
        beta == __builtin_trunc(beta)))
    call.fail("FOVEA_ARGUMENT",
              "alpha and beta must be integers when the tensors are %s, got alpha=%g and beta=%g; cast the tensors "
              "to float32 first",
              kDtypeNames[int(c.dtype)], alpha, beta);
  if (activation != MatmulActivation::none)
    call.fail("FOVEA_ARGUMENT",
              "activation must be 0 (none) when the tensors are %s, got %lld; cast the tensors to float32 first",
              kDtypeNames[int(c.dtype)], static_cast<long long>(activation));
  if (c.dtype == Dtype::i32) multiply<uint32_t>(call, problem, uint32_t(int64_t(alpha)), uint32_t(int64_t(beta)));
  else multiply<uint64_t>(call, problem, uint64_t(int64_t(alpha)), uint64_t(int64_t(beta)));
}

// The larger need of the two plans, since where operands lie is not known yet.
size_t workspace(Views in, Views out, const void* attrs, const DeviceLimits& device) {
  const View& c = out[0];
  if (c.size() == 0) return 0;
  MatmulProblem p = cuda_matmul_problem(in, c, *static_cast<const MatmulAttrs*>(attrs));
  int64_t splits = 1;
  for (bool tma : {false, true}) splits = max_of(splits, cuda_matmul_plan(p, c.dtype, device, tma).splits);
  return splits == 1 ? 0 : size_t(splits * p.m * p.n * p.batches * p.bytes);
}

}  // namespace

FOVEA_CUDA_KERNELS(matmul, FOVEA_CUDA_KERNEL_WITH("matmul", matmul, MatmulAttrs, workspace))

}  // namespace fovea::cuda
