// Attention of a few queries over many keys, as in generation: bound by memory, so keys and values are read once for
// all query heads that share them, and the keys are split over as many blocks as the device can run. With plain
// arithmetic: float32, float64, and what cuda_decode_sm80.cu leaves of the 16-bit types.
//
// A key is the business of a group of up to 32 lanes, 8 columns each. A group walks over its keys with a softmax of its
// own; groups, then warps, then splits are combined at the end by
//   top = max top_i   total = sum 2^(top_i - top) total_i   o = sum 2^(top_i - top) o_i
#include "ops/attention/cuda_decode.h"

#include "cuda/index.h"
#include "ops/attention/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kEach = 8;  // columns of a lane

template <class T>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / sizeof(T);
  T value[kCount];
};
template <class T>
constexpr int kVectors = kEach / Vector<T>::kCount;
// Keys that a group of lanes has under way at a time: 64 bytes of each lane, and as many of values, or half of that
// where registers are short.
template <class T, int kRows>
constexpr int kKeys = (kRows == 8 ? 2 : 4) / kVectors<T>;

// The 8 columns of a lane: vectors lane, lane + lanes, ... of a row.
struct Columns {
  int lane, lanes, width;
  template <class T>
  __device__ int of_vector(int i) const {
    return (lane + i * lanes) * Vector<T>::kCount;
  }
};
template <class T>
__device__ void load_columns(const T* row, const Columns& columns, bool valid, Vector<T> (&x)[kVectors<T>]) {
#pragma unroll
  for (int i = 0; i < kVectors<T>; i++) {
    x[i] = {};
    if (valid && columns.of_vector<T>(i) < columns.width)
      x[i] = *reinterpret_cast<const Vector<T>*>(row + columns.of_vector<T>(i));
  }
}

// What a group of lanes knows of one query.
template <class A>
struct RowState {
  A top = -kInfinity<A>, total = 0, o[kEach] = {};
};
// Adds what others know of the query: theirs(x) is their element for one's own x.
template <class A, class Theirs>
__device__ void merge(RowState<A>& row, Theirs theirs) {
  const A top = theirs(row.top), highest = max(row.top, top), base = highest == -kInfinity<A> ? A(0) : highest;
  const A mine = exp2_of(row.top - base), other = exp2_of(top - base);
  row.total = row.total * mine + theirs(row.total) * other;
#pragma unroll
  for (int c = 0; c < kEach; c++) row.o[c] = row.o[c] * mine + theirs(row.o[c]) * other;
  row.top = highest;
}

template <class T, int kRows, class A>
__device__ void load_queries(const AttentionProblem& p, const DecodePart& part, const Columns& columns,
                             A (&q)[kRows][kEach]) {
  const A scale = A(p.scale * kLog2e);
#pragma unroll
  for (int r = 0; r < kRows; r++)
#pragma unroll
    for (int c = 0; c < kEach; c++) {
      const int column = columns.of_vector<T>(c / Vector<T>::kCount) + c % Vector<T>::kCount;
      const bool valid = r < part.rows && column < columns.width;
      q[r][c] = valid ? scale * A(widen(p.q.at<T>(part.bi, part.head(p, r), part.query(p, r))[column])) : A(0);
    }
}

// Bias and mask, or dropout, of row r and kCount keys, `step` apart.
template <class T, int kCount, class A>
__device__ void edit_keys(const AttentionProblem& p, const DecodePart& part, int r, int j, int step, int visible,
                          A (&s)[kCount]) {
#pragma unroll
  for (int u = 0; u < kCount; u++)
    if (j + u * step < visible)
      s[u] = edited<T>(p, part.bi, part.head(p, r), part.query(p, r), part.begin + j + u * step, s[u]);
}
template <int kCount, class A>
__device__ void drop_keys(const AttentionProblem& p, const DecodePart& part, int r, int j, int step,
                          A (&weights)[kCount]) {
#pragma unroll
  for (int u = 0; u < kCount; u++) {
    A kept[1];
    dropout_factors(p, p.element(part.bi, part.head(p, r), part.query(p, r), part.begin + j + u * step), kept);
    weights[u] *= kept[0];
  }
}
// Turns s2 of kCount keys into 2^(s2 - top).
template <int kCount, class A>
__device__ void soften(A (&s)[kCount], RowState<A>& row) {
  A highest = row.top;
#pragma unroll
  for (int u = 0; u < kCount; u++) highest = max(highest, s[u]);
  const A base = highest == -kInfinity<A> ? A(0) : highest, shrink = exp2_of(row.top - base);
  row.top = highest, row.total *= shrink;
#pragma unroll
  for (int c = 0; c < kEach; c++) row.o[c] *= shrink;
#pragma unroll
  for (int u = 0; u < kCount; u++) s[u] = exp2_of(s[u] - base), row.total += s[u];
}
template <class T, int kCount, class A>
__device__ void add_values(const A (&weights)[kCount], const Vector<T> (&v)[kCount][kVectors<T>], bool hides,
                           RowState<A>& row) {
#pragma unroll
  for (int u = 0; u < kCount; u++) {
    if (weights[u] == 0 && hides) continue;  // keeps out what is infinite or NaN
#pragma unroll
    for (int c = 0; c < kEach; c++)
      row.o[c] += weights[u] * A(widen(v[u][c / Vector<T>::kCount].value[c % Vector<T>::kCount]));
  }
}
// s[r][u] = q_r . k_u, over all lanes of the group.
template <class T, int kRows, int kCount, class A>
__device__ void multiply_keys(const A (&q)[kRows][kEach], const Vector<T> (&k)[kCount][kVectors<T>], int lanes,
                              A (&s)[kRows][kCount]) {
#pragma unroll
  for (int u = 0; u < kCount; u++)
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      s[r][u] = 0;
#pragma unroll
      for (int c = 0; c < kEach; c++)
        s[r][u] += q[r][c] * A(widen(k[u][c / Vector<T>::kCount].value[c % Vector<T>::kCount]));
    }
  for (int lane = 1; lane < lanes; lane *= 2)
#pragma unroll
    for (int r = 0; r < kRows; r++)
#pragma unroll
      for (int u = 0; u < kCount; u++) s[r][u] += __shfl_xor_sync(0xffffffffu, s[r][u], lane);
}

// The keys of one group of lanes: those of the part from `first` on, `step` apart, below `end`. All lanes of a warp
// take part in every round, whether or not their group has keys left.
template <class T, int kRows, class A>
__device__ void walk_keys(const AttentionProblem& p, const DecodePart& part, const Columns& columns, int first,
                          int step, int end, RowState<A> (&state)[kRows]) {
  constexpr int kCount = kKeys<T, kRows>;
  const bool edits = p.bias.data || p.mask.data;
  A q[kRows][kEach];
  int visible[kRows];
  load_queries<T>(p, part, columns, q);
#pragma unroll
  for (int r = 0; r < kRows; r++) visible[r] = part.visible(p, end, r);
  const T *keys = p.k.at<T>(part.bi, part.gi, part.begin), *values = p.v.at<T>(part.bi, part.gi, part.begin);
  for (int start = 0; start < end; start += step * kCount) {
    const int j = start + first;
    Vector<T> k[kCount][kVectors<T>], v[kCount][kVectors<T>];
#pragma unroll
    for (int u = 0; u < kCount; u++) load_columns(keys + (j + u * step) * p.k.row, columns, j + u * step < end, k[u]);
#pragma unroll
    for (int u = 0; u < kCount; u++) load_columns(values + (j + u * step) * p.v.row, columns, j + u * step < end, v[u]);
    A s[kRows][kCount];
    multiply_keys<T>(q, k, columns.lanes, s);
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      if (edits) edit_keys<T>(p, part, r, j, step, visible[r], s[r]);
#pragma unroll
      for (int u = 0; u < kCount; u++)
        if (j + u * step >= visible[r]) s[r][u] = -kInfinity<A>;
      soften(s[r], state[r]);
      if (p.threshold) drop_keys(p, part, r, j, step, s[r]);
      add_values<T>(s[r], v, p.hides(), state[r]);
    }
  }
}

// Blocks that a multiprocessor must have room for: two with four rows of 16 bits, since the compiler goes for three and
// spills; 0 leaves it to the compiler.
template <class T, int kRows>
constexpr int kDecodeBlocks = sizeof(T) == 2 && kRows == 4 ? 2 : 0;

template <class T, int kRows>
__global__ void __launch_bounds__(kDecodeThreads, (kDecodeBlocks<T, kRows>))
    decode(AttentionProblem p, DecodePlan plan, int lanes, DecodeOutputs outputs) {
  using A = Compute<T>;
  const DecodePart part(p, plan);
  const int width = int(p.e), lane = int(threadIdx.x) % lanes, group = int(threadIdx.x) / lanes,
            step = kDecodeThreads / lanes;
  const Columns columns{lane, lanes, width};
  RowState<A> state[kRows];
  walk_keys<T, kRows>(p, part, columns, group, step, part.keys(p, plan), state);
  for (int other = lanes; other < 32; other *= 2)
#pragma unroll
    for (int r = 0; r < kRows; r++) merge(state[r], [&](A x) { return __shfl_xor_sync(0xffffffffu, x, other); });
  A *o = shared_memory_as<A>(), *known = o + kDecodeWarps * kRows * width;
  const int warp = int(threadIdx.x) / 32;
  if (int(threadIdx.x) % 32 < lanes)
#pragma unroll
    for (int r = 0; r < kRows; r++) {
#pragma unroll
      for (int c = 0; c < kEach; c++) {
        const int column = columns.of_vector<T>(c / Vector<T>::kCount) + c % Vector<T>::kCount;
        if (column < width) o[(warp * kRows + r) * width + column] = state[r].o[c];
      }
      if (lane == 0) known[(warp * kRows + r) * 2] = state[r].top, known[(warp * kRows + r) * 2 + 1] = state[r].total;
    }
  __syncthreads();
  write_block<T, kRows>(p, plan, part, outputs);
}

// A block per query, whose warps take turns with the splits: every load of a warp is under way at once, or a good part.
constexpr int kCombineWarps = 8, kCombineThreads = kCombineWarps * 32;
template <class T>
__global__ void __launch_bounds__(kCombineThreads) combine(int splits, int width, DecodeOutputs outputs) {
  using A = Compute<T>;
  constexpr int kCount = Vector<A>::kCount;
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const int64_t row = blockIdx.x;
  const A *known = static_cast<const A*>(outputs.partial_rows) + row * splits * 2,
          *o = static_cast<const A*>(outputs.partial_o) + row * splits * width;
  A top = -kInfinity<A>, total = 0, *sums = shared_memory_as<A>();
  for (int i = lane; i < splits; i += 32) top = max(top, known[i * 2]);
  for (int step = 1; step < 32; step *= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, step));
  const A base = top == -kInfinity<A> ? A(0) : top;
  for (int i = lane; i < splits; i += 32) total += exp2_of(known[i * 2] - base) * known[i * 2 + 1];
  for (int step = 1; step < 32; step *= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
  for (int c = lane * kCount; c < width; c += 32 * kCount) {
    Vector<A> sum = {};
#pragma unroll 8
    for (int i = warp; i < splits; i += kCombineWarps) {
      const Vector<A> x = *reinterpret_cast<const Vector<A>*>(o + i * width + c);
      const A factor = exp2_of(known[i * 2] - base);
#pragma unroll
      for (int j = 0; j < kCount; j++) sum.value[j] += factor * x.value[j];
    }
    *reinterpret_cast<Vector<A>*>(sums + warp * width + c) = sum;
  }
  __syncthreads();
  for (int c = int(threadIdx.x); c < width; c += kCombineThreads) {
    A sum = 0;
#pragma unroll
    for (int w = 0; w < kCombineWarps; w++) sum += sums[w * width + c];
    static_cast<T*>(outputs.o)[row * width + c] = narrow<T>(total == 0 ? A(0) : sum / total);
  }
  if (threadIdx.x == 0) static_cast<A*>(outputs.lse)[row] = log_total(top, total);
}

template <class T, int kRows>
void launch(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan) {
  using A = Compute<T>;
  const DecodeOutputs outputs = DecodeOutputs::of<A>(call, p, plan);
  int lanes = 1;
  while (lanes * kEach < p.d) lanes *= 2;
  call.launch(decode<T, kRows>,
              {.grid = plan.grid(p), .block = dim3(kDecodeThreads), .shared = decode_shared_bytes<A>(p, kRows)}, p,
              plan, lanes, outputs);
  combine_splits<T>(call, p, plan, outputs);
}

}  // namespace

template <class T>
void combine_splits(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan,
                    const DecodeOutputs& outputs) {
  using A = Compute<T>;
  if (plan.splits == 1) return;
  call.launch(combine<T>,
              {.grid = dim3(unsigned(p.b * p.h * p.n)),
               .block = dim3(kCombineThreads),
               .shared = sizeof(A) * size_t(kCombineWarps * p.e)},
              plan.splits, p.e, outputs);
}
template void combine_splits<Half>(const CudaCall&, const AttentionProblem&, const DecodePlan&, const DecodeOutputs&);
template void combine_splits<Bfloat16>(const CudaCall&, const AttentionProblem&, const DecodePlan&,
                                       const DecodeOutputs&);

template <class T>
void attention_decode(const CudaCall& call, const AttentionProblem& p) {
  const DecodePlan plan(p, call.in[0].dtype, call.device);
  if (plan.rows_each == 1) launch<T, 1>(call, p, plan);
  else if (plan.rows_each == 2) launch<T, 2>(call, p, plan);
  else if constexpr (!kSame<T, double>) {
    if (plan.rows_each == 4) launch<T, 4>(call, p, plan);
    else launch<T, 8>(call, p, plan);
  }
}
template void attention_decode<float>(const CudaCall&, const AttentionProblem&);
template void attention_decode<double>(const CudaCall&, const AttentionProblem&);
template void attention_decode<Half>(const CudaCall&, const AttentionProblem&);
template void attention_decode<Bfloat16>(const CudaCall&, const AttentionProblem&);

}  // namespace fovea::cuda
