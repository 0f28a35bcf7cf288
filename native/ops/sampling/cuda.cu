// A token for each row of logits, drawn from softmax(logits / temperature) restricted by topK, topP and minP (op.cc):
// the rows are scaled, what may be drawn is put in order (ops/sorting), and a block draws for each row as the CPU does.
#include "cuda/block.h"
#include "ops/random/cuda_numbers.h"
#include "ops/sampling/attrs.h"
#include "ops/sorting/cuda_first.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr size_t kShared = kThreads * (sizeof(double) + sizeof(int64_t));

// Of a row of scaled logits: its largest, the sum of e^(x - largest), and whether a token can be drawn.
struct RowState {
  float largest, total;
  int valid;
};
struct Scratch {
  float* scaled;       // [rows, n]
  RowState* states;    // [rows]
  float* weights;      // [rows, limit], in order: logits, then probabilities
  int64_t* positions;  // [rows, limit]
  FirstScratch<uint32_t> first;
};

struct Plan {
  int64_t rows, n, limit;  // limit: how many may be drawn at most
  bool ordered;            // without any restriction the order does not matter
  Plan(const View& logits, const SampleAttrs& a)
      : rows(logits.dim(0)),
        n(logits.dim(1)),
        limit(a.topK > 0 ? min_of(a.topK, n) : n),
        ordered(limit < n || a.topP < 1 || a.minP > 0) {}
  Scratch carve(Carver& carver, const DeviceLimits& device) const {
    Scratch scratch{carver.take<float>(rows * n), carver.take<RowState>(rows), nullptr, nullptr, {}};
    if (!ordered) return scratch;
    scratch.weights = carver.take<float>(rows * limit), scratch.positions = carver.take<int64_t>(rows * limit);
    scratch.first = carve_first<uint32_t>(carver, rows, n, limit, device);
    return scratch;
  }
};

// The sum of `value` over the block, which all threads get.
template <class A>
__device__ A sum_of_block(A value) {
  return reduce_group(value, Add());
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_rows(const T* logits, int64_t stride, int64_t n, float temperature, Scratch scratch, Fault* fault) {
  using A = Accumulator<T>;
  const int64_t row = blockIdx.x;
  const T* x = logits + row * stride;
  float* scaled = scratch.scaled + row * n;
  A largest = A(-INFINITY);
  int nan = 0;
  for (int64_t j = threadIdx.x; j < n; j += kThreads) {
    const A value = widen(x[j]);
    nan |= value != value;
    largest = fmax(largest, value);
    scaled[j] = float(value) / temperature;
  }
  largest = reduce_group(largest, Largest());
  const bool valid = !__syncthreads_or(nan) && !isinf(largest);
  const float shift = float(largest) / temperature;
  if (valid && isinf(shift) && threadIdx.x == 0) raise(fault, row);
  float total = 0;
  for (int64_t j = threadIdx.x; j < n && valid; j += kThreads) total += expf(scaled[j] - shift);
  total = sum_of_block(total);
  if (threadIdx.x == 0) scratch.states[row] = {shift, total, valid};
}

// Turns the ordered logits into probabilities, and finds the first that is not to be drawn; its number. Threads have
// parts of the row that follow each other.
__device__ inline int64_t cut(float* weights, int64_t m, float largest, float total, const SampleAttrs& a) {
  auto* sums = shared_memory_as<double>();
  auto* ends = shared_memory_as<int64_t>(kThreads * sizeof(double));
  const int64_t part = ceil_div(m, kThreads), from = min_of(m, part * threadIdx.x), to = min_of(m, from + part);
  const float scale = 1 / total;
  double sum = 0;
  for (int64_t j = from; j < to; j++) sum += double(weights[j] = expf(weights[j] - largest) * scale);
  sums[threadIdx.x] = sum;
  __syncthreads();
  double running = 0;
  for (int t = 0; t < int(threadIdx.x); t++) running += sums[t];
  const bool by_sum = a.topP < 1;
  const float top_p = float(a.topP), least = weights[0] * float(a.minP);
  int64_t end = m;
  for (int64_t j = from; j < to && end == m; j++) {
    running += double(weights[j]);
    if (j > 0 && ((by_sum && float(running) - weights[j] >= top_p) || weights[j] < least)) end = j;
  }
  ends[threadIdx.x] = end;
  __syncthreads();
  for (int t = 0; t < kThreads; t++) end = min_of(end, ends[t]);
  __syncthreads();
  return end;
}

// The number of the first arrival (ops/random/cuda_multinomial.cu) among `count`.
__device__ inline int64_t first_arrival(const float* weights, int64_t count, const SampleAttrs& a, int64_t row) {
  auto* times = shared_memory_as<double>();
  auto* numbers = shared_memory_as<int64_t>(kThreads * sizeof(double));
  const Source source{uint64_t(a.seed), uint64_t(a.offset)};
  auto word = [&](int64_t stream) { return philox_word(source.seed, source.offset, uint64_t(row), uint32_t(stream)); };
  double soonest = INFINITY;
  int64_t first = count;
  for (int64_t j = threadIdx.x; j < count; j += kThreads) {
    if (weights[j] == 0) continue;
    const double u = __dadd_rn(uniform53(word(2 + 2 * j), word(3 + 2 * j)), 0x1p-53);
    const double time = __ddiv_rn(-rounded_log(u), double(weights[j]));
    if (time < soonest) soonest = time, first = j;
  }
  times[threadIdx.x] = soonest, numbers[threadIdx.x] = first;
  __syncthreads();
  for (int t = 0; t < kThreads; t++)
    if (times[t] < soonest || (times[t] == soonest && numbers[t] < first)) soonest = times[t], first = numbers[t];
  return first == count ? 0 : first;
}

__global__ void __launch_bounds__(kThreads) draw_tokens(Plan plan, Scratch scratch, SampleAttrs a, int64_t* ids) {
  const int64_t row = blockIdx.x;
  const RowState state = scratch.states[row];
  if (!state.valid) {
    if (threadIdx.x == 0) ids[row] = -1;
    return;
  }
  float* weights = plan.ordered ? scratch.weights + row * plan.limit : scratch.scaled + row * plan.n;
  float total = state.total;
  if (plan.limit < plan.n) {
    total = 0;
    for (int64_t j = threadIdx.x; j < plan.limit; j += kThreads) total += expf(weights[j] - state.largest);
    total = sum_of_block(total);
  }
  const int64_t count = cut(weights, plan.limit, state.largest, total, a);
  const int64_t number = first_arrival(weights, count, a, row);
  if (threadIdx.x == 0) ids[row] = plan.ordered ? scratch.positions[row * plan.limit + number] : number;
}

size_t sample_workspace(Views in, Views, const void* attrs, const DeviceLimits& device) {
  Carver carver(nullptr);
  Plan(in[0], *static_cast<const SampleAttrs*>(attrs)).carve(carver, device);
  return carver.used();
}
void sample_tokens(const CudaCall& call, const SampleAttrs& a) {
  const View& logits = call.in[0];
  const Plan plan(logits, a);
  if (!(a.temperature > 0)) call.fail("FOVEA_ARGUMENT", "temperature is %g; expected a number above 0", a.temperature);
  if (plan.n == 0) call.fail("FOVEA_SHAPE", "logits have no columns; expected at least one token");
  Fault* fault = call.may_fail("FOVEA_ARGUMENT",
                               "logits of row %lld divided by the temperature are not finite; expected a higher one");
  Carver carver(call.workspace);
  const Scratch scratch = plan.carve(carver, call.device);
  const Config config{dim3(unsigned(plan.rows)), dim3(kThreads), kShared};
  dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(scale_rows<T>, config, logits.as<T>(), logits.stride(0), plan.n, float(a.temperature), scratch, fault);
  });
  if (plan.ordered && plan.rows > 0) {
    const auto* rows = reinterpret_cast<const uint32_t*>(scratch.scaled);
    const SortOutput<uint32_t> out{reinterpret_cast<uint32_t*>(scratch.weights), scratch.positions, plan.limit};
    launch_first(call, dense_rows<uint32_t>(rows, nullptr, plan.rows, plan.n), out,
                 order_of<uint32_t>(Dtype::f32, true), plan.rows, scratch.first);
  }
  call.launch(draw_tokens, config, plan, scratch, a, call.out[0].as<int64_t>());
}

}  // namespace

FOVEA_CUDA_KERNELS(sampling, FOVEA_CUDA_KERNEL_WITH("sampleTokens", sample_tokens, SampleAttrs, sample_workspace))

}  // namespace fovea::cuda
