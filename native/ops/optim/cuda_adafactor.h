// adafactor_ on CUDA (formula in op.cc), in four kernels over the parts of some tensors, which travel as kernel
// parameters: a block takes a part, up to a warp one of its rows. Sums are float64, in an order that the shapes give.
#pragma once
#include "cuda/block.h"
#include "ops/optim/adafactor_plan.h"

namespace fovea::cuda {
namespace {

constexpr int kAdafactorThreads = 256;

struct AdafactorOne {
  std::byte* data[kAdafactorInputs];
  AdafactorTensor shape;
  template <class T>
  __device__ T* at(int i) const {
    return reinterpret_cast<T*>(data[i]);
  }
};
// Those of one launch, as kernel parameters have 4 KB.
constexpr int kMostAdafactor = 28;
struct AdafactorMany {
  int count;
  int64_t first_part;
  AdafactorOne one[kMostAdafactor];

  __device__ int64_t part() const { return first_part + blockIdx.x; }
  // The tensor of this block: the last whose parts begin at or before it.
  __device__ const AdafactorOne& mine() const {
    int at = 0;
    for (int step = 16; step > 0; step /= 2)
      if (at + step < count && one[at + step].shape.first_part <= part()) at += step;
    return one[at];
  }
};
static_assert(sizeof(AdafactorMany) + sizeof(AdafactorSums) + sizeof(AdafactorRates) < 4000, "kernel parameters");

// Threads that share a row.
__device__ inline int row_threads(int64_t columns) {
  int threads = 1;
  while (threads < 32 && threads < columns) threads *= 2;
  return threads;
}
__device__ inline void set_mean(const AdafactorTensor& t, int64_t matrix, double total, const AdafactorSums& sums,
                                const AdafactorRates& rates) {
  const double mean = total / double(t.rows);
  sums.means[t.first_matrix + matrix] = mean < rates.least ? rates.least : mean;
}
template <class T>
__device__ double square_of(T x) {
  return double(widen(x)) * double(widen(x));
}

// New averages of the rows of a part. Returns this thread's share of their sum.
template <class T>
__device__ double follow_rows(const AdafactorOne& one, const AdafactorPart& part, const AdafactorRates& rates) {
  using A = Accumulator<T>;
  const AdafactorTensor& t = one.shape;
  const int64_t first = part.matrix * t.rows + part.row, rows = part.matrices * part.rows;
  const int width = row_threads(t.columns), lane = int(threadIdx.x) % width;
  double total = 0;
  for (int64_t base = 0; base < rows; base += kAdafactorThreads / width) {
    const int64_t r = base + threadIdx.x / width;
    const T* g = one.at<T>(1) + (first + r) * t.columns;
    double sum = 0;
    for (int64_t c = lane; r < rows && c < t.columns; c += width) sum += square_of(g[c]);
    for (int apart = width / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart);
    if (r >= rows || lane != 0) continue;
    A& average = one.at<A>(2)[first + r];
    average = rates.follow(average, A(sum / double(t.columns)));
    total += double(average);
  }
  return total;
}
// What the columns of a part add up to: their new averages, where the part has all rows.
template <class T>
__device__ void add_columns(const AdafactorOne& one, const AdafactorPart& part, double* sums,
                            const AdafactorRates& rates) {
  using A = Accumulator<T>;
  const AdafactorTensor& t = one.shape;
  for (int64_t k = threadIdx.x; k < part.matrices * t.columns; k += kAdafactorThreads) {
    const int64_t matrix = part.matrix + k / t.columns, c = k % t.columns;
    const T* g = one.at<T>(1) + (matrix * t.rows + part.row) * t.columns + c;
    double sum = 0;
    for (int64_t r = 0; r < part.rows; r++) sum += square_of(g[r * t.columns]);
    A& average = one.at<A>(3)[matrix * t.columns + c];
    if (t.splits > 1) sums[c] = sum;
    else average = rates.follow(average, A(sum / double(t.rows)));
  }
}

template <class T>
__global__ void __launch_bounds__(kAdafactorThreads)
    adafactor_averages(AdafactorMany many, AdafactorSums sums, AdafactorRates rates) {
  using A = Accumulator<T>;
  const AdafactorOne& one = many.mine();
  const AdafactorTensor& t = one.shape;
  const int64_t number = many.part() - t.first_part;
  const AdafactorPart part = part_of(t, number);
  const int64_t begin = (part.matrix * t.rows + part.row) * t.columns;
  const int64_t end = begin + part.matrices * part.rows * t.columns;
  double weights = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kAdafactorThreads) weights += square_of(one.at<T>(0)[i]);
  weights = reduce_group(weights, Add());
  if (threadIdx.x == 0) sums.weights[many.part()] = weights;
  if (!t.factored) {
    for (int64_t i = begin + threadIdx.x; i < end; i += kAdafactorThreads) {
      const A g = widen(one.at<T>(1)[i]);
      one.at<A>(4)[i] = rates.follow(one.at<A>(4)[i], g * g);
    }
    return;
  }
  const double rows = reduce_group(follow_rows<T>(one, part, rates), Add());  // a barrier, too
  add_columns<T>(one, part, sums.columns + t.first_sum + number * t.columns, rates);
  if (t.splits > 1) {
    if (threadIdx.x == 0) sums.rows[many.part()] = rows;
    return;
  }
  for (int64_t m = threadIdx.x; m < part.matrices; m += kAdafactorThreads) {
    const A* row = one.at<A>(2) + (part.matrix + m) * t.rows;
    double total = 0;
    for (int64_t r = 0; r < t.rows; r++) total += double(row[r]);
    set_mean(t, part.matrix + m, total, sums, rates);
  }
}

// Of matrices in several parts: a block for some columns of each, which the block of the matrix's first part is.
template <class A>
__global__ void __launch_bounds__(kAdafactorThreads)
    adafactor_columns(AdafactorMany many, AdafactorSums sums, AdafactorRates rates) {
  const AdafactorOne& one = many.mine();
  const AdafactorTensor& t = one.shape;
  const int64_t number = many.part() - t.first_part, matrix = number / t.splits;
  if (!t.factored || t.splits == 1 || number % t.splits != 0) return;
  if (blockIdx.y == 0) {
    double total = 0;
    for (int64_t s = threadIdx.x; s < t.splits; s += kAdafactorThreads) total += sums.rows[many.part() + s];
    total = reduce_group(total, Add());
    if (threadIdx.x == 0) set_mean(t, matrix, total, sums, rates);
  }
  for (int64_t c = int64_t(blockIdx.y) * kAdafactorThreads + threadIdx.x; c < t.columns;
       c += int64_t(gridDim.y) * kAdafactorThreads) {
    const double* of_parts = sums.columns + t.first_sum + number * t.columns + c;
    double sum = 0;
    for (int64_t s = 0; s < t.splits; s++) sum += of_parts[s * t.columns];
    A& average = one.at<A>(3)[matrix * t.columns + c];
    average = rates.follow(average, A(sum / double(t.rows)));
  }
}

// This thread's share of a part: body(element, the average of squares, which its update is divided by the root of).
template <class A, class Body>
__device__ void for_updates(const AdafactorOne& one, const AdafactorPart& part, const AdafactorSums& sums,
                            const AdafactorRates& rates, Body&& body) {
  const AdafactorTensor& t = one.shape;
  const A least = A(rates.least * rates.least);
  if (!t.factored) {
    for (int64_t i = part.row + threadIdx.x; i < part.row + part.rows; i += kAdafactorThreads) {
      const A v = one.at<A>(4)[i];
      body(i, v < least ? least : v);
    }
    return;
  }
  const int width = row_threads(t.columns);
  const int64_t first = part.matrix * t.rows + part.row;
  for (int64_t r = threadIdx.x / width; r < part.matrices * part.rows; r += kAdafactorThreads / width) {
    const int64_t matrix = part.matrix + r / part.rows;
    const A share = A(double(one.at<A>(2)[first + r]) / sums.means[t.first_matrix + matrix]);
    for (int64_t c = int(threadIdx.x) % width; c < t.columns; c += width) {
      const A v = share * one.at<A>(3)[matrix * t.columns + c];
      body((first + r) * t.columns + c, v < least ? least : v);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kAdafactorThreads)
    adafactor_updates(AdafactorMany many, AdafactorSums sums, AdafactorRates rates) {
  using A = Accumulator<T>;
  const AdafactorOne& one = many.mine();
  double total = 0;
  for_updates<A>(one, part_of(one.shape, many.part() - one.shape.first_part), sums, rates, [&](int64_t i, A divisor) {
    const A g = widen(one.at<T>(1)[i]);
    total += double(g * g / divisor);
  });
  total = reduce_group(total, Add());
  if (threadIdx.x == 0) sums.updates[many.part()] = total;
}

template <class T>
__global__ void __launch_bounds__(kAdafactorThreads)
    adafactor_parameters(AdafactorMany many, AdafactorSums sums, AdafactorRates rates) {
  using A = Accumulator<T>;
  const AdafactorOne& one = many.mine();
  const AdafactorTensor& t = one.shape;
  double weights = 0, updates = 0;
  for (int64_t k = t.first_part + threadIdx.x; k < t.first_part + t.parts; k += kAdafactorThreads)
    weights += sums.weights[k], updates += sums.updates[k];
  weights = reduce_group(weights, Add()), updates = reduce_group(updates, Add());
  const double n = double(t.size());
  const A rate = A(rates.rate(weights / n, updates / n)), kept = A(rates.kept);
  for_updates<A>(one, part_of(t, many.part() - t.first_part), sums, rates, [&](int64_t i, A divisor) {
    T& p = one.at<T>(0)[i];
    p = narrow<T>(widen(p) * kept - rate * widen(one.at<T>(1)[i]) / root_of(divisor));
  });
}

AdafactorTotals adafactor_totals(Views in) {
  AdafactorTotals all;
  for (int64_t i = 0; i < in.size(); i += kAdafactorInputs) all.add(in[i]);
  return all;
}
size_t adafactor_bytes(Views in, Views, const void*, const DeviceLimits&) {
  return AdafactorSums::bytes(adafactor_totals(in));
}

template <class T>
void launch_adafactor(const CudaCall& call, const AdafactorMany& many, int64_t parts, int64_t columns,
                      const AdafactorSums& sums, const AdafactorRates& rates) {
  const unsigned tiles = unsigned(min_of(ceil_div(columns, kAdafactorThreads), 1024));
  const Config config{dim3(unsigned(parts)), dim3(kAdafactorThreads), kReduceBytes};
  const Config tiled{dim3(unsigned(parts), tiles), dim3(kAdafactorThreads), kReduceBytes};
  call.launch(adafactor_averages<T>, config, many, sums, rates);
  call.launch(adafactor_columns<Accumulator<T>>, tiled, many, sums, rates);
  call.launch(adafactor_updates<T>, config, many, sums, rates);
  call.launch(adafactor_parameters<T>, config, many, sums, rates);
}
void adafactor(const CudaCall& call, const AdafactorAttrs& attrs) {
  check_adafactor(call);
  const AdafactorSums sums(call.scratch<double>(), adafactor_totals(call.in));
  AdafactorTotals before;
  for (int64_t first = 0; first < call.in.size();) {
    const Dtype dtype = call.in[first].dtype;
    AdafactorMany many{};
    many.first_part = before.parts;
    int64_t columns = 0;  // the most of a matrix in several parts
    for (; first < call.in.size() && many.count < kMostAdafactor && call.in[first].dtype == dtype;
         first += kAdafactorInputs) {
      AdafactorOne& one = many.one[many.count++];
      for (int i = 0; i < kAdafactorInputs; i++)
        one.data[i] = call.in[first + i].present() ? call.in[first + i].data : nullptr;
      one.shape = before.add(call.in[first]);
      if (one.shape.factored && one.shape.splits > 1) columns = max_of(columns, one.shape.columns);
    }
    const AdafactorRates rates(attrs, dtype);
    dispatch_float(dtype, [&](auto zero) {
      launch_adafactor<decltype(zero)>(call, many, before.parts - many.first_part, columns, sums, rates);
    });
  }
}

}  // namespace
}  // namespace fovea::cuda
