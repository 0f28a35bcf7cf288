// c[..., m, n] = activation(alpha sum over k of a[..., m, k] b[..., k, n] + beta bias[..., m, n])
//                + residual[..., m, n]
//
// for any strides; leading axes broadcast. float16 and bfloat16 are converted while they are read, summed in float32
// over all of k and rounded once, behind the residual; integers wrap around and have no activation. beta = 0 leaves the
// bias unread. plan.h says how the work is cut.
#include "core/kernel.h"
#include "ops/matmul/grouped.h"
#include "ops/matmul/skinny.h"
#include "ops/matmul/streamed.h"
#include "ops/matmul/tiles.h"

namespace fovea::FOVEA_ISA {
namespace {

// The matrices at one index of the leading axes that are left.
template <class S>
Product<S> product_at(const Product<S>& first, int64_t index) {
  const MatmulProblem& p = first.shape;
  Product<S> product = first;
  product.c += index * p.m * p.n;
  for (int i = 0; i < p.rank; i++) {  // plan.h lists the last axis first
    int64_t at = index % p.shape[i];
    index /= p.shape[i];
    product.a += at * p.a_leading[i];
    product.b += at * p.b_leading[i];
    if (product.bias) product.bias += at * p.bias_leading[i];
    if (product.residual) product.residual += at * p.residual_leading[i];
  }
  return product;
}

template <class S>
void multiply_all_skinny(Parallel& parallel, const Product<S>& first, const Memory& memory) {
  using T = Compute<S>;
  const MatmulProblem& p = first.shape;
  int64_t chunk = skinny_columns<S>(p);
  int64_t chunks = ceil_div(p.n, chunk), unit = min_of(chunk, p.n) * p.k * p.m;
  int64_t grain = max_of(1, p.cuts.task / 8 / unit), units = p.batches * chunks;  // small units are joined
  parallel.for_each(ceil_div(units, grain), [&](int64_t task, int thread) {
    T* x_copy = memory.own<T>(thread, 0);
    int64_t copied = -1;
    for (int64_t i = task * grain; i < min_of(units, (task + 1) * grain); i++) {
      int64_t batch = i / chunks, column = i % chunks * chunk;
      multiply_skinny(product_at(first, batch), column, min_of(chunk, p.n - column), x_copy, copied == batch);
      copied = batch;
    }
  });
}

// Nothing to sum: the activation of beta bias, or of zeros, and the residual.
template <class S>
void fill_empty_sums(const Product<S>& first) {
  const Compute<S> zeros[kMaxFinished] = {};
  const MatmulProblem& p = first.shape;
  for (int64_t batch = 0; batch < p.batches; batch++)
    for (int64_t row = 0; row < p.m; row++)
      for (int64_t column = 0; column < p.n; column += kMaxFinished)
        finish(product_at(first, batch), p, zeros, 0, row, column, 1, min_of(kMaxFinished, p.n - column));
}

// Bytes of matmulPack's result: no larger than this many elements of B, or B is not packed before.
FOVEA_INLINE int64_t prepacked_elements(int64_t k, int64_t n) {
  return round_up(k, kMaxDepthQuantum) * round_up(n, kMaxTileColumns);
}
template <class S>
constexpr bool kPacksInPlace = sizeof(typename Engine<S>::Packed) <= Engine<S>::kSteps * sizeof(S);

template <class S>
void multiply_prepacked(Call& call, const Product<S>& product, const MatmulPlan& plan, const Memory& memory) {
  using E = Engine<S>;
  const MatmulProblem& p = product.shape;
  const View& packed = call.in[3];
  if constexpr (kPacksInPlace<S>) {
    if (p.batches == 1 && packed.size() == prepacked_elements(p.k, p.n))
      return multiply_packed(call.parallel, product, plan, memory, 0, panels_of<E>(p.n),
                             reinterpret_cast<const typename E::Packed*>(packed.data));
  }
  call.fail("FOVEA_ARGUMENT", "packed does not hold a matrix [%lld,%lld] of this dtype as matmulPack gives it",
            static_cast<long long>(p.k), static_cast<long long>(p.n));
}

template <class S>
void multiply(Call& call, const MatmulProblem& p, Compute<S> alpha, Compute<S> beta,
              MatmulActivation activation = MatmulActivation::none) {
  MatmulPlan plan = matmul_plan(p, call.parallel.threads());
  Memory memory{call.workspace, plan};
  const View &a = call.in[p.transposed ? 1 : 0], &b = call.in[p.transposed ? 0 : 1];
  const S *bias = p.biased ? call.in[2].as<S>() : nullptr, *residual = p.added ? call.in[4].as<S>() : nullptr;
  MatmulProblem written = p;
  if (p.transposed) transpose_problem(written);
  Product<S> first{p, written, a.as<S>(), b.as<S>(), bias, residual, call.out[0].as<S>(), alpha, beta, activation};
  if (p.k == 0) return fill_empty_sums(first);
  if (plan.path == MatmulPath::prepacked) return multiply_prepacked(call, first, plan, memory);
  if constexpr (std::is_floating_point_v<Compute<S>>) {
    if (plan.path == MatmulPath::skinny) return multiply_all_skinny(call.parallel, first, memory);
    if (plan.path == MatmulPath::streamed) return multiply_streamed(call.parallel, first, memory);
  }
  if (plan.path == MatmulPath::per_matrix) {
    int64_t grain = max_of(1, p.cuts.task / (p.m * p.n * p.k));
    return call.parallel.for_each(ceil_div(p.batches, grain), [&](int64_t task, int thread) {
      for (int64_t i = task * grain; i < min_of(p.batches, (task + 1) * grain); i++)
        multiply_alone(product_at(first, i), plan, memory, thread);
    });
  }
  for (int64_t i = 0; i < p.batches; i++) {
    Product<S> product = product_at(first, i);
    if (plan.path == MatmulPath::apart)
      call.parallel.for_each(plan.row_chunks * plan.column_chunks, [&](int64_t task, int thread) {
        multiply_apart(product, task, plan.row_chunks, plan.column_chunks, plan, memory, thread);
      });
    else if (plan.path == MatmulPath::shared_a) multiply_shared_a(call.parallel, product, plan, memory);
    else multiply_shared_b(call.parallel, product, plan, memory);
  }
}

// packed = b [k, n] in the panels that products read: made once, it serves every product with the same b.
void matmul_pack(Call& call, const PackAttrs&) {
  const View &b = call.in[0], &packed = call.out[0];
  if (packed.size() != prepacked_elements(b.dim(0), b.dim(1)))
    call.fail("FOVEA_ARGUMENT", "size is %lld, but a matrix [%lld,%lld] needs %lld",
              static_cast<long long>(packed.size()), static_cast<long long>(b.dim(0)), static_cast<long long>(b.dim(1)),
              static_cast<long long>(prepacked_elements(b.dim(0), b.dim(1))));
  if (b.size() == 0) return;
  MatmulProblem p{};
  p.n = b.dim(1), p.k = b.dim(0), p.b_k = b.stride(0), p.b_column = p.n == 1 ? 1 : b.stride(1);
  dispatch_float(b.dtype, [&]<class S>() {
    if constexpr (kPacksInPlace<S>) {
      static_assert(kMaxTileColumns % Engine<S>::kColumns == 0, "the last panel would not fit");
      Product<S> product{p, p, nullptr, b.as<S>(), nullptr, nullptr, nullptr, 1, 0, MatmulActivation::none};
      pack_all(call.parallel, product, 0, panels_of<Engine<S>>(p.n),
               reinterpret_cast<typename Engine<S>::Packed*>(packed.data));
    } else {
      call.fail("FOVEA_UNSUPPORTED", "this instruction set packs %s into a wider type; multiply without packing",
                name_of(b.dtype));
    }
  });
}

void matmul(Call& call, const MatmulAttrs& attrs) {
  const View& c = call.out[0];
  if (c.size() == 0) return;
  MatmulProblem problem =
      matmul_problem(call.in, c, attrs, kUsesTiles && c.dtype == Dtype::bf16 ? kTileCuts : kVectorCuts);
  double alpha = attrs.alpha, beta = attrs.beta;
  MatmulActivation activation{attrs.activation};
  if (activation < MatmulActivation::none || activation > MatmulActivation::silu)
    call.fail("FOVEA_ARGUMENT",
              "activation is %lld; pass 0 (none), 1 (gelu), 2 (gelu through tanh), 3 (relu) or 4 (silu)",
              static_cast<long long>(activation));
  if (c.dtype == Dtype::i32 || c.dtype == Dtype::i64) {
    constexpr double kLimit = 0x1p53;  // also refuses NaN
    if (!(__builtin_fabs(alpha) <= kLimit && __builtin_fabs(beta) <= kLimit && alpha == __builtin_trunc(alpha) &&
          beta == __builtin_trunc(beta)))
      call.fail("FOVEA_ARGUMENT",
                "alpha and beta must be integers when the tensors are %s, got alpha=%g and beta=%g; cast the tensors "
                "to float32 first",
                name_of(c.dtype), alpha, beta);
    if (activation != MatmulActivation::none)
      call.fail("FOVEA_ARGUMENT",
                "activation must be 0 (none) when the tensors are %s, got %lld; cast the tensors to float32 first",
                name_of(c.dtype), static_cast<long long>(activation));
    if (c.dtype == Dtype::i32)
      return multiply<uint32_t>(call, problem, uint32_t(int64_t(alpha)), uint32_t(int64_t(beta)));
    return multiply<uint64_t>(call, problem, uint64_t(int64_t(alpha)), uint64_t(int64_t(beta)));
  }
  dispatch_float(c.dtype,
                 [&]<class S>() { multiply<S>(call, problem, Compute<S>(alpha), Compute<S>(beta), activation); });
}

}  // namespace

FOVEA_KERNELS(matmul, FOVEA_KERNEL("matmul", matmul, MatmulAttrs), FOVEA_KERNEL("matmulPack", matmul_pack, PackAttrs),
              FOVEA_KERNEL("groupedMatmul", grouped_matmul, NoAttrs),
              FOVEA_KERNEL("groupedOuter", grouped_outer, NoAttrs))

}  // namespace fovea::FOVEA_ISA
