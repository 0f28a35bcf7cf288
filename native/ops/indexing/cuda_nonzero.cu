// Which elements are not 0, on the device: countNonzero and nonzero, the latter in row-major order.
//
// x is cut into tiles. count_tiles() counts each, scan_tiles() says where each one's results start and compares the
// total with what was announced, and write_tiles() reads x again to write them. An element is zero if all of its bits
// are, but for the sign of a float.
#include "ops/indexing/cuda_kernels.h"
#include "ops/sorting/cuda_block.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kRounds = 16;
constexpr int64_t kTileElements = kThreads * kRounds;

template <class T>
struct Elements {
  const T* x;
  Layout<1> layout;
  T mask;       // the bits that count
  bool vector;  // dense, and tiles start at multiples of 16 bytes

  __device__ bool nonzero(int64_t i) const {
    int64_t at[1];
    layout.offsets(i, at);
    return (x[at[0]] & mask) != 0;
  }
};
template <class T>
Elements<T> elements_of(const View& x) {
  Elements<T> e{x.as<T>(), layout_of(x), T(~T(0)), false};
  if (set_of(x.dtype) & kFloatTypes) e.mask = T(e.mask >> 1);
  e.vector = e.layout.dense() && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  return e;
}

// How many of the elements [first, last) are not 0, for the calling thread's share of them.
template <class T>
__device__ int64_t count_share(const Elements<T>& e, int64_t first, int64_t last) {
  constexpr int kVector = 16 / int(sizeof(T));
  struct alignas(16) Vector {
    T value[kVector];
  };
  int64_t count = 0, i = first;
  if (e.vector) {
    const int64_t whole = first + (last - first) / kVector * kVector;
#pragma unroll 4
    for (int64_t at = first + threadIdx.x * kVector; at < whole; at += kThreads * kVector) {
      const Vector vector = *reinterpret_cast<const Vector*>(e.x + at);
      int some = 0;
#pragma unroll
      for (int v = 0; v < kVector; v++) some += (vector.value[v] & e.mask) != 0;
      count += some;
    }
    i = whole;
  }
#pragma unroll 4
  for (i += threadIdx.x; i < last; i += kThreads) count += e.nonzero(i);
  return count;
}

// The blocks share all elements, a run of tiles each.
template <class T>
__global__ void __launch_bounds__(kThreads) count_elements(Elements<T> e, int64_t tiles_each, unsigned long long* out) {
  const int64_t first = blockIdx.x * tiles_each * kTileElements;
  int64_t total;
  exclusive_sum(count_share(e, first, min_of(first + tiles_each * kTileElements, e.layout.size)),
                shared_memory_as<int64_t>(), total);
  if (threadIdx.x == 0 && total > 0) atomicAdd(out, static_cast<unsigned long long>(total));
}
template <class T>
__global__ void __launch_bounds__(kThreads) count_tiles(Elements<T> e, int64_t* counts) {
  const int64_t first = blockIdx.x * kTileElements;
  int64_t total;
  exclusive_sum(count_share(e, first, min_of(first + kTileElements, e.layout.size)), shared_memory_as<int64_t>(),
                total);
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

// One block turns counts into starts.
constexpr int kScanThreads = 1024, kScanned = 8;
__global__ void __launch_bounds__(kScanThreads)
    scan_tiles(int64_t* counts, int64_t tiles, int64_t announced, Fault* fault) {
  int64_t before = 0;
  for (int64_t first = 0; first < tiles; first += kScanThreads * kScanned) {
    const int64_t own = first + threadIdx.x * kScanned;
    int64_t count[kScanned], sum = 0, total;
    for (int i = 0; i < kScanned; i++) sum += count[i] = own + i < tiles ? counts[own + i] : 0;
    int64_t start = before + exclusive_sum(sum, shared_memory_as<int64_t>(), total);
    for (int i = 0; i < kScanned && own + i < tiles; i++) {
      counts[own + i] = start;
      start += count[i];
    }
    before += total;
  }
  if (threadIdx.x == 0 && before != announced) raise(fault, announced, before);
}

struct Coordinates {
  int rank;
  int64_t shape[kMaxRank];
  int64_t count;  // of results that there is room for
  int64_t* out;   // [count, rank]

  __device__ void write(int64_t number, int64_t position) const {
    for (int axis = rank - 1; axis >= 0; axis--) {
      const int64_t rest = position / shape[axis];
      out[number * rank + axis] = position - rest * shape[axis];
      position = rest;
    }
  }
};
// A warp owns kRounds times 32 consecutive elements.
template <class T>
__global__ void __launch_bounds__(kThreads)
    write_tiles(Elements<T> e, const int64_t* starts, const __grid_constant__ Coordinates to) {
  int* counts = shared_memory_as<int>();
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const int64_t first = blockIdx.x * kTileElements + warp * (32 * kRounds) + lane;
  unsigned mine = 0;  // bit r: the lane's element of round r is not 0
#pragma unroll
  for (int r = 0; r < kRounds; r++)
    if (first + 32 * r < e.layout.size) mine |= unsigned(e.nonzero(first + 32 * r)) << r;
  const int own = int(__reduce_add_sync(~0u, unsigned(__popc(mine))));
  if (lane == 0) counts[warp] = own;
  __syncthreads();
  int64_t number = starts[blockIdx.x];
  for (int w = 0; w < warp; w++) number += counts[w];
#pragma unroll 1
  for (int r = 0; r < kRounds; r++) {
    const bool found = mine >> r & 1;
    const unsigned vote = __ballot_sync(~0u, found);
    const int64_t at = number + __popc(vote & ((1u << lane) - 1));
    if (found && at < to.count) to.write(at, first + 32 * r);
    number += __popc(vote);
  }
}

int64_t tiles_of(const View& x) { return ceil_div(x.size(), kTileElements); }
constexpr size_t kSumBytes = 32 * sizeof(int64_t);

}  // namespace

void count_nonzero(const CudaCall& call, const NoAttrs&) {
  const View& x = call.in[0];
  auto* out = call.out[0].as<unsigned long long>();
  call.fill_zero(out, sizeof *out);
  const int64_t tiles = tiles_of(x), most = 8 * int64_t(call.device.multiprocessors),
                tiles_each = ceil_div(tiles, min_of(max_of(tiles, 1), most));
  dispatch_width(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Config config{
        .grid = dim3(unsigned(ceil_div(tiles, max_of(tiles_each, 1)))), .block = dim3(kThreads), .shared = kSumBytes};
    call.launch(count_elements<T>, config, elements_of<T>(x), tiles_each, out);
  });
}

size_t nonzero_workspace(Views in, Views, const void*, const DeviceLimits&) {
  return size_t(tiles_of(in[0])) * sizeof(int64_t);
}
void nonzero(const CudaCall& call, const NonzeroAttrs& attrs) {
  const View& x = call.in[0];
  if (attrs.rank != x.rank)
    call.fail("FOVEA_ARGUMENT", "rank is %lld, but x has %d axes", static_cast<long long>(attrs.rank), x.rank);
  Fault* fault =
      call.may_fail("FOVEA_ARGUMENT", "count is %lld, but x has %lld nonzero elements; take it from countNonzero");
  int64_t* counts = call.scratch<int64_t>();
  Coordinates to{};
  to.rank = x.rank, to.count = attrs.count, to.out = call.out[0].as<int64_t>();
  for (int axis = 0; axis < x.rank; axis++) to.shape[axis] = x.shape[axis];
  dispatch_width(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Elements<T> elements = elements_of<T>(x);
    Config config{.grid = dim3(unsigned(tiles_of(x))), .block = dim3(kThreads), .shared = kSumBytes};
    call.launch(count_tiles<T>, config, elements, counts);
    call.launch(scan_tiles, {.grid = dim3(1), .block = dim3(kScanThreads), .shared = kSumBytes}, counts, tiles_of(x),
                attrs.count, fault);
    config.shared = kWarps * sizeof(int);
    call.launch(write_tiles<T>, config, elements, counts, to);
  });
}

}  // namespace fovea::cuda
