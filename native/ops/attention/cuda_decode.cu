// Attention of a few queries over many keys, as in generation: bound by memory, so keys and values are read once for
// all query heads that share them, and the keys are split over as many blocks as the device can run.
//
// A key is the business of a group of up to 32 lanes, 8 columns each. A group walks over its keys with a softmax of its
// own; groups, then warps, then splits are combined at the end by
//   top = max top_i   total = sum 2^(top_i - top) total_i   o = sum 2^(top_i - top) o_i
#include "ops/attention/cuda_decode.h"

#include "cuda/index.h"
#include "ops/attention/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32, kEach = 8;  // columns of a lane

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

// A block's rows: row r is query r % n of query head gi group + r / n; and its keys, from `begin` on.
struct Part {
  int64_t bi, gi, first, rows, begin;
  __device__ int64_t head(const AttentionProblem& p, int r) const { return gi * p.group + (first + r) / p.n; }
  __device__ int64_t query(const AttentionProblem& p, int r) const { return (first + r) % p.n; }
};
// What row r sees of the keys of a block; rows that do not exist see nothing.
__device__ inline int visible_of(const AttentionProblem& p, const Part& part, int64_t keys, int r) {
  return r < part.rows ? int(clamp_to(p.visible_keys(part.query(p, r)) - part.begin, 0, keys)) : 0;
}
template <class T, int kRows, class A>
__device__ void load_queries(const AttentionProblem& p, const Part& part, const Columns& columns,
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
__device__ void edit_keys(const AttentionProblem& p, const Part& part, int r, int j, int step, int visible,
                          A (&s)[kCount]) {
#pragma unroll
  for (int u = 0; u < kCount; u++)
    if (j + u * step < visible)
      s[u] = edited<T>(p, part.bi, part.head(p, r), part.query(p, r), part.begin + j + u * step, s[u]);
}
template <int kCount, class A>
__device__ void drop_keys(const AttentionProblem& p, const Part& part, int r, int j, int step, A (&weights)[kCount]) {
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
__device__ void walk_keys(const AttentionProblem& p, const Part& part, const Columns& columns, int first, int step,
                          int end, RowState<A> (&state)[kRows]) {
  constexpr int kCount = kKeys<T, kRows>;
  const bool edits = p.bias.data || p.mask.data;
  A q[kRows][kEach];
  int visible[kRows];
  load_queries<T>(p, part, columns, q);
#pragma unroll
  for (int r = 0; r < kRows; r++) visible[r] = visible_of(p, part, end, r);
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

// Where results go: o and lse, or parts of them if the keys are split.
struct DecodeOutputs {
  void *o, *lse, *partial_o, *partial_rows;  // partial_rows: top and total
};
// The first group of each warp has its o in shared memory, [warp][row][width], then top and total.
template <class T, int kRows, class A = Compute<T>>
__device__ void write_block(const DecodePlan& plan, int rows, int64_t row, int width, const DecodeOutputs& outputs) {
  const A *o = shared_memory_as<A>(), *known = o + kWarps * kRows * width;
  for (int at = int(threadIdx.x); at < rows * width; at += kThreads) {
    const int r = at / width, c = at % width;
    A top = -kInfinity<A>, total = 0, sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; w++) top = max(top, known[(w * kRows + r) * 2]);
    const A base = top == -kInfinity<A> ? A(0) : top;
#pragma unroll
    for (int w = 0; w < kWarps; w++) {
      const A factor = exp2_of(known[(w * kRows + r) * 2] - base);
      total += factor * known[(w * kRows + r) * 2 + 1], sum += factor * o[(w * kRows + r) * width + c];
    }
    if (plan.splits == 1) {
      static_cast<T*>(outputs.o)[(row + r) * width + c] = narrow<T>(total == 0 ? A(0) : sum / total);
      if (c == 0) static_cast<A*>(outputs.lse)[row + r] = log_total(top, total);
    } else {
      const int64_t part = (row + r) * plan.splits + blockIdx.y;
      static_cast<A*>(outputs.partial_o)[part * width + c] = sum;
      if (c < 2) static_cast<A*>(outputs.partial_rows)[part * 2 + c] = c ? total : top;
    }
  }
}

template <class T, int kRows>
__global__ void __launch_bounds__(kThreads)
    decode(AttentionProblem p, DecodePlan plan, int lanes, DecodeOutputs outputs) {
  using A = Compute<T>;
  const int64_t head = blockIdx.x / plan.row_blocks, first_row = blockIdx.x % plan.row_blocks * kRows;
  const int64_t begin = blockIdx.y * plan.keys, end = min_of(begin + plan.keys, p.visible_keys(p.n - 1));
  const Part part{head / p.g, head % p.g, first_row, min_of(kRows, plan.rows - first_row), begin};
  const int width = int(p.e), lane = int(threadIdx.x) % lanes, group = int(threadIdx.x) / lanes,
            step = kThreads / lanes;
  const Columns columns{lane, lanes, width};
  RowState<A> state[kRows];
  walk_keys<T, kRows>(p, part, columns, group, step, int(max_of(0, end - begin)), state);
  for (int other = lanes; other < 32; other *= 2)
#pragma unroll
    for (int r = 0; r < kRows; r++) merge(state[r], [&](A x) { return __shfl_xor_sync(0xffffffffu, x, other); });
  A *o = shared_memory_as<A>(), *known = o + kWarps * kRows * width;
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
  write_block<T, kRows>(plan, int(part.rows), head * plan.rows + first_row, width, outputs);
}

// One warp per query.
template <class T>
__global__ void combine(int64_t rows, int splits, int width, DecodeOutputs outputs) {
  using A = Compute<T>;
  const int lane = int(threadIdx.x) % 32;
  const int64_t row = first_item() / 32;
  if (row >= rows) return;
  const A *known = static_cast<const A*>(outputs.partial_rows) + row * splits * 2,
          *o = static_cast<const A*>(outputs.partial_o) + row * splits * width;
  A top = -kInfinity<A>, total = 0;
  for (int i = 0; i < splits; i++) top = max(top, known[i * 2]);
  const A base = top == -kInfinity<A> ? A(0) : top;
  for (int i = 0; i < splits; i++) total += exp2_of(known[i * 2] - base) * known[i * 2 + 1];
  if (lane == 0) static_cast<A*>(outputs.lse)[row] = log_total(top, total);
  for (int c = lane; c < width; c += 32) {
    A sum = 0;
    for (int i = 0; i < splits; i++) sum += exp2_of(known[i * 2] - base) * o[int64_t(i) * width + c];
    static_cast<T*>(outputs.o)[row * width + c] = narrow<T>(total == 0 ? A(0) : sum / total);
  }
}

template <class T, int kRows>
void launch(const CudaCall& call, const AttentionProblem& p, const DecodePlan& plan) {
  using A = Compute<T>;
  const int64_t all = p.b * p.h * p.n;
  A* partial = call.scratch<A>();
  const DecodeOutputs outputs{call.out[0].data, call.out[1].data, partial, partial + all * plan.splits * p.e};
  int lanes = 1;
  while (lanes * kEach < p.d) lanes *= 2;
  call.launch(decode<T, kRows>,
              {.grid = dim3(unsigned(p.b * p.g * plan.row_blocks), unsigned(plan.splits)),
               .block = dim3(kThreads),
               .shared = sizeof(A) * size_t(kWarps * kRows * (p.e + 2))},
              p, plan, lanes, outputs);
  if (plan.splits == 1) return;
  call.launch(combine<T>, {.grid = dim3(unsigned(ceil_div(all * 32, kThreads))), .block = dim3(kThreads)}, all,
              plan.splits, p.e, outputs);
}

}  // namespace

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
