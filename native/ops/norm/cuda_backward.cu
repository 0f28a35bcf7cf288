// Backward of layerNorm and rmsNorm over the last axis of d elements, with x' = (x - mean) rstd and g = weight dy:
//
//   dx = rstd (g - mean(g) - x' mean(g x'));  rmsNorm has no mean(g)
//   dweight = sum over rows of dy x';  dbias = sum over rows of dy
//
// Of addLayerNorm and addRmsNorm, x is the sum, and dx has its own gradient dsum added to it.
//
// Everything is read once. A group of threads takes row after row and keeps its share of dweight and dbias in
// registers; meanwhile the next row of x and dy is on its way to shared memory, where every thread finds what it asked
// for itself. At the end the groups of a block add up what they have, and a second kernel adds what the blocks have, in
// order. Which row goes where depends on the shape and the device only.
#include "ops/norm/cuda_backward.h"

#include "cuda/block.h"
#include "cuda/ptx.h"

namespace fovea::cuda {
namespace {

// Elements of a row that a thread keeps sums of: 16 where that is enough, so that three blocks share a multiprocessor
// and some compute while others wait; else 32. What is beyond, in rows of many thousands, is summed in the workspace.
constexpr int kFewSums = 16, kManySums = 32;
constexpr int most_threads(int sums) { return sums == kFewSums ? 256 : 512; }
constexpr int blocks_together(int sums) { return sums == kFewSums ? 3 : 1; }
constexpr int64_t packs_kept(int64_t k, int64_t sums) { return k < 4 ? sums / 8 : sums / k; }
// Shared memory begins with the sums of warps, twice, so that one barrier per row is enough.
constexpr int kMostWarps = most_threads(kManySums) / 32;
constexpr size_t kWarpSums = 2 * kMostWarps * 2 * sizeof(double);
constexpr size_t kBlockBytes = 1024;  // of shared memory that the device takes for itself with every block

template <class T>
struct Problem {
  const T *x, *weight, *dy, *dsum;  // weight: nullptr where absent
  const Accumulator<T>*mean, *rstd;
  T* dx;
  Accumulator<T>* partial;  // [parts][dweight, dbias][d]
  int64_t rows, d;

  __device__ int64_t clamped(int64_t row) const { return row < rows ? row : rows - 1; }
};

// What a thread needs of x and dy. kStages: the packs that it keeps sums of come by way of shared memory.
template <class T, int K, int kKept, bool kStages>
class Rows {
 public:
  using P = Pack<T, K>;
  __device__ explicit Rows(const Problem<T>& p)
      : p_(p),
        packs_(p.d / K),
        kept_(int(min_of(packs_, int64_t(kKept) * blockDim.x))),
        threads_(int(blockDim.x * blockDim.y)),
        slots_(shared_memory_as<P>(kWarpSums) + threadIdx.y * blockDim.x + threadIdx.x) {}

  // Asks for a row, which is there after arrive().
  __device__ void ask(int stage, int64_t row) const {
    if constexpr (kStages) {
      const P *x = packs_of(p_.x, row), *dy = packs_of(p_.dy, row);
      P *x_to = slots(stage, 0), *dy_to = slots(stage, 1);
      each_place([&](int j, int64_t at) {
        cp_async_16(shared_address(x_to + j * threads_), x + at, true);
        cp_async_16(shared_address(dy_to + j * threads_), dy + at, true);
      });
      cp_async_commit();
    }
  }
  // All rows but the last `kUnderWay` that were asked for.
  template <int kUnderWay>
  __device__ void arrive() const {
    if constexpr (kStages) cp_async_wait<kUnderWay>();
  }
  // body(j, at) for the packs number `at` that this thread keeps sums of.
  template <class Body>
  __device__ void each_place(Body&& body) const {
#pragma unroll
    for (int j = 0; j < kKept; j++)
      if (place(j) < kept_) body(j, place(j));
  }
  // body(j, at, x, dy) for the packs number `at` that this thread keeps sums of, and body(at, x, dy) for its others.
  template <class Body>
  __device__ void each_kept(int stage, int64_t row, Body&& body) const {
    const P *x_staged = slots(stage, 0), *dy_staged = slots(stage, 1);
    each_place([&](int j, int64_t at) {
      P x, dy;
      if (kStages) x = x_staged[j * threads_], dy = dy_staged[j * threads_];
      else x = packs_of(p_.x, row)[at], dy = packs_of(p_.dy, row)[at];
      body(j, at, x, dy);
    });
  }
  template <class Body>
  __device__ void each_other(int64_t row, Body&& body) const {
    const P *x = packs_of(p_.x, row), *dy = packs_of(p_.dy, row);
    for (int64_t at = place(kKept); at < packs_; at += blockDim.x) body(at, x[at], dy[at]);
  }

 private:
  __device__ static int place(int j) { return int(threadIdx.x + unsigned(j) * blockDim.x); }
  __device__ const P* packs_of(const T* from, int64_t row) const {
    return reinterpret_cast<const P*>(from) + row * packs_;
  }
  __device__ P* slots(int stage, int tensor) const { return slots_ + (stage * 2 + tensor) * kKept * threads_; }
  const Problem<T>& p_;
  int64_t packs_;
  int kept_, threads_;  // packs of a row that threads keep sums of; threads of the block
  P* slots_;            // this thread's first
};

// The sums of a and of b over the threads that share threadIdx.y. `turn` alternates between 0 and 1.
template <class A>
__device__ void sum_over_group(A& a, A& b, int turn) {
  const int threads = int(blockDim.x), width = threads < 32 ? threads : 32, warps = threads / 32;
  for (int apart = width / 2; apart > 0; apart /= 2)
    a += __shfl_xor_sync(~0u, a, apart), b += __shfl_xor_sync(~0u, b, apart);
  if (threads <= 32) return;
  A* of_warps = shared_memory_as<A>() + (turn * kMostWarps + int(threadIdx.y) * warps) * 2;
  const int warp = int(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0) of_warps[2 * warp] = a, of_warps[2 * warp + 1] = b;
  named_barrier_sync(1 + int(threadIdx.y), threads);
  a = b = 0;
#pragma unroll 4
  for (int w = 0; w < warps; w++) a += of_warps[2 * w], b += of_warps[2 * w + 1];
}

// Writes the sums that the threads of a block keep, added over its groups, to `to`.
template <int K, int kKept, class A>
__device__ void write_sums(const A (&kept)[kKept][K], int64_t d, A* to) {
  A* of_groups = shared_memory_as<A>();
  __syncthreads();
#pragma unroll
  for (int j = 0; j < kKept; j++) {
    const int64_t at = (int64_t(threadIdx.x) + j * int64_t(blockDim.x)) * K;
    A* mine = blockDim.y == 1 ? to : of_groups + threadIdx.y * d;
    for (int k = 0; k < K && at < d; k++) mine[at + k] = kept[j][k];
  }
  if (blockDim.y == 1) return;
  __syncthreads();
  for (int64_t i = threadIdx.y * blockDim.x + threadIdx.x; i < d; i += blockDim.x * blockDim.y) {
    A sum = of_groups[i];
    for (unsigned group = 1; group < blockDim.y; group++) sum += of_groups[group * d + i];
    to[i] = sum;
  }
}

// forward: y = weight (x - mean) rstd + bias
template <class T, int K, int kSums, bool kStages, bool kCentred, bool kAdds>
__global__ void __launch_bounds__(most_threads(kSums), blocks_together(kSums)) norm_backward_rows(Problem<T> p) {
  using A = Accumulator<T>;
  using P = Pack<T, K>;
  constexpr int kKept = int(packs_kept(K, kSums));
  A dweight[kKept][K] = {}, dbias[kCentred ? kKept : 1][K] = {};
  A* partial = p.partial + int64_t(blockIdx.x) * (kCentred ? 2 : 1) * p.d;
  const int64_t begin = int64_t(blockIdx.x) * blockDim.y, step = int64_t(gridDim.x) * blockDim.y;
  const A inverse = 1 / A(p.d);
  P ones;
#pragma unroll
  for (int k = 0; k < K; k++) ones.value[k] = narrow<T>(1);
  auto weight_at = [&](int64_t at) { return p.weight ? reinterpret_cast<const P*>(p.weight)[at] : ones; };
  const Rows<T, K, kKept, kStages> rows(p);
  // Where registers are left (no sums for dbias, packs of 16-bit elements), weights are read once for all rows.
  constexpr bool kHoldsWeights = !kCentred && kStages && K == 8;
  P held[kHoldsWeights ? kKept : 1];
  if constexpr (kHoldsWeights) rows.each_place([&](int j, int64_t at) { held[j] = weight_at(at); });
  auto weight_of = [&](int j, int64_t at) {
    if constexpr (kHoldsWeights) return held[j];
    else return weight_at(at);
  };
  int64_t next = p.clamped(begin + threadIdx.y);
  A next_mean = kCentred ? p.mean[next] : A(0), next_rstd = p.rstd[next];
  rows.ask(0, next);
  int stage = 0;
  for (int64_t first = begin; first < p.rows; first += step, stage ^= 1) {
    const bool live = first + threadIdx.y < p.rows;
    const int64_t row = next;
    const A mean = next_mean, rstd = next_rstd;
    next = p.clamped(first + step + threadIdx.y);
    if (kCentred) next_mean = p.mean[next];
    next_rstd = p.rstd[next];
    rows.ask(stage ^ 1, next);
    rows.template arrive<1>();
    A g_sum = 0, gx_sum = 0;  // of g and of g (x - mean)
    auto add = [&](const P& x, const P& dy, const P& w) {
      A value[K], gradient[K], weight[K];
      widen_pack(x, value), widen_pack(dy, gradient), widen_pack(w, weight);
#pragma unroll
      for (int k = 0; k < K; k++) {
        const A g = gradient[k] * weight[k];
        if (kCentred) g_sum += g;
        gx_sum += g * (value[k] - mean);
      }
    };
    rows.each_kept(stage, row, [&](int j, int64_t at, const P& x, const P& dy) { add(x, dy, weight_of(j, at)); });
    rows.each_other(row, [&](int64_t at, const P& x, const P& dy) { add(x, dy, weight_at(at)); });
    sum_over_group(g_sum, gx_sum, stage);
    // dx = rstd g + slope (x - mean) + offset
    const A offset = -rstd * (g_sum * inverse), slope = -rstd * rstd * (rstd * (gx_sum * inverse));
    if (!live) continue;
    P* to = reinterpret_cast<P*>(p.dx + row * p.d);
    // sum(k, a, b) adds a and b to what element k of the pack has for dweight and dbias.
    auto write = [&](int64_t at, const P& x, const P& dy, const P& w, auto&& sum) {
      A value[K], gradient[K], weight[K], dx[K];
      widen_pack(x, value), widen_pack(dy, gradient), widen_pack(w, weight);
#pragma unroll
      for (int k = 0; k < K; k++) {
        const A centred = value[k] - mean, scaled = gradient[k] * rstd;
        dx[k] = scaled * weight[k] + (slope * centred + offset);
        sum(k, scaled * centred, gradient[k]);
      }
      if constexpr (kAdds) {
        widen_pack(reinterpret_cast<const P*>(p.dsum + row * p.d)[at], value);
#pragma unroll
        for (int k = 0; k < K; k++) dx[k] += value[k];
      }
      to[at] = narrow_pack<T>(dx);
    };
    rows.each_kept(stage, row, [&](int j, int64_t at, const P& x, const P& dy) {
      write(at, x, dy, weight_of(j, at), [&](int k, A a, A b) {
        dweight[j][k] += a;
        if (kCentred) dbias[j][k] += b;
      });
    });
    rows.each_other(row, [&](int64_t at, const P& x, const P& dy) {
      write(at, x, dy, weight_at(at), [&](int k, A a, A b) {
        A* sums = partial + at * K + k;
        sums[0] = first == begin ? a : sums[0] + a;
        if (kCentred) sums[p.d] = first == begin ? b : sums[p.d] + b;
      });
    });
  }
  rows.template arrive<0>();  // the same shared memory is used again
  write_sums(dweight, p.d, partial);
  if constexpr (kCentred) write_sums(dbias, p.d, partial + p.d);
}

// ---- the sums of all blocks, 32 columns to a block

constexpr int kColumns = 32, kPartsAtOnce = 16;

template <class T>
__global__ void __launch_bounds__(kColumns* kPartsAtOnce)
    add_parts(const Accumulator<T>* partial, int64_t parts, int64_t sums, int64_t d, T* dweight, T* dbias) {
  using A = Accumulator<T>;
  A* sum_of = shared_memory_as<A>();
  const int64_t column = int64_t(blockIdx.x) * kColumns + threadIdx.x;
  A sum = 0;
  if (column < sums * d)
    for (int64_t part = threadIdx.y; part < parts; part += kPartsAtOnce) sum += partial[part * sums * d + column];
  sum_of[threadIdx.y * kColumns + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= sums * d) return;
  for (int i = 1; i < kPartsAtOnce; i++) sum += sum_of[i * kColumns + threadIdx.x];
  if (column < d) dweight[column] = narrow<T>(sum);
  else dbias[column - d] = narrow<T>(sum);
}

// ---- launches

struct Plan {
  Config config;
  bool packs, few, stages;  // few: kFewSums
  int64_t rows, d, sums, parts;
};
Plan plan_of(Views in, Views out, const DeviceLimits& device) {
  const View& x = in[0];
  const int64_t d = x.dim(-1), rows = rows_of(x), sums = out.size() - 1;
  const int64_t dy = 2 + sums, last = in.size() - 1;  // after x, weight, mean (of layerNorm) and rstd; then dsum
  const bool packs = packs_fit(x) && packs_fit(in[1]) && packs_fit(in[dy]) && packs_fit(in[last]) && packs_fit(out[0]);
  const int64_t k = packs ? 16 / int64_t(kDtypeBytes[int(x.dtype)]) : 1, count = ceil_div(d, k);
  // Many sums for rows that one warp can keep, without a barrier, and for packs of 16-bit elements: they take so many
  // instructions that it counts how many of a row's own each thread repeats.
  const bool few =
      k <= 4 && count > 32 * packs_kept(k, kManySums) && count <= most_threads(kFewSums) * packs_kept(k, kFewSums);
  const int of_thread = few ? kFewSums : kManySums;
  const int64_t kept = packs_kept(k, of_thread), most = most_threads(of_thread), resident = blocks_together(of_thread);
  int64_t threads = 1;
  while (threads < most && threads < count && (threads < 32 || threads * kept < count)) threads *= 2;
  // As many rows at a time as there is shared memory for; but not so many that multiprocessors have nothing to do.
  int64_t groups = most / threads, staged = packs ? kept : 0;
  const int64_t room = int64_t(device.shared_bytes) / resident - int64_t(kBlockBytes + kWarpSums), slots = 4 * 16;
  auto fewer = [&] { return groups > 1 && groups * threads > 32; };
  while (fewer() && (staged * slots * groups * threads > room || groups * device.multiprocessors > rows)) groups /= 2;
  if (staged * slots * groups * threads > room) staged = 0;
  const int64_t of_groups = groups > 1 ? groups * d * int64_t(kDtypeBytes[int(accumulator_of(x.dtype))]) : 0;
  const int64_t shared = max_of(int64_t(kWarpSums) + staged * slots * groups * threads, of_groups);
  const int64_t together =
      min_of(resident * most / (groups * threads), int64_t(device.shared_bytes) / (shared + int64_t(kBlockBytes)));
  const int64_t parts = min_of(ceil_div(rows, groups), device.multiprocessors * max_of(1, together));
  return {{dim3(unsigned(parts)), dim3(unsigned(threads), unsigned(groups)), size_t(shared)},
          packs,
          few,
          staged > 0,
          rows,
          d,
          sums,
          parts};
}

}  // namespace

size_t norm_backward_workspace(Views in, Views out, const void*, const DeviceLimits& device) {
  const Plan plan = plan_of(in, out, device);
  return size_t(plan.parts * plan.sums * plan.d) * kDtypeBytes[int(accumulator_of(in[0].dtype))];
}

template <bool kCentred, bool kAdds>
void norm_backward(const CudaCall& call, const NoAttrs&) {
  constexpr int kGradient = kCentred ? 4 : 3;
  const View &x = call.in[0], &weight = call.in[1];
  const Plan plan = plan_of(call.in, call.out, call.device);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Problem<T> p{x.as<T>(),
                       weight.present() ? weight.as<T>() : nullptr,
                       call.in[kGradient].as<T>(),
                       kAdds ? call.in[kGradient + 1].as<T>() : nullptr,
                       kCentred ? call.in[2].as<A>() : nullptr,
                       call.in[kCentred ? 3 : 2].as<A>(),
                       call.out[0].as<T>(),
                       call.scratch<A>(),
                       plan.rows,
                       plan.d};
    dispatch_packs<T>(plan.packs, [&](auto size) {
      constexpr int K = decltype(size)::value;
      auto kernel = norm_backward_rows<T, K, kManySums, false, kCentred, kAdds>;
      if (plan.few) kernel = norm_backward_rows<T, K, kFewSums, K != 1, kCentred, kAdds>;
      else if (plan.stages) kernel = norm_backward_rows<T, K, kManySums, K != 1, kCentred, kAdds>;
      call.launch(kernel, plan.config, p);
    });
    const Config config{dim3(unsigned(ceil_div(plan.sums * plan.d, kColumns))), dim3(kColumns, kPartsAtOnce),
                        kColumns * kPartsAtOnce * sizeof(A)};
    call.launch(add_parts<T>, config, p.partial, plan.parts, plan.sums, plan.d, call.out[1].as<T>(),
                kCentred ? call.out[2].as<T>() : nullptr);
  });
}
template void norm_backward<true, false>(const CudaCall&, const NoAttrs&);
template void norm_backward<false, false>(const CudaCall&, const NoAttrs&);
template void norm_backward<true, true>(const CudaCall&, const NoAttrs&);
template void norm_backward<false, true>(const CudaCall&, const NoAttrs&);

}  // namespace fovea::cuda
