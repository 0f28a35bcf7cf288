// y = x W^T + bias with x as int8 (cuda_quantize.cu), the sums of products exact in int32.
//
// A block has a tile of 16 channels and up to H rows of x at a time. Its threads are 16 channels times 16 slices of k,
// each slice every 16th group; what they have summed is added up through shared memory, always in the same order, so
// that a row's result does not depend on the rows beside it.
#include "ops/quantized/cuda_blocks.h"
#include "ops/quantized/cuda_kernels.h"

namespace fovea::cuda {
namespace {

constexpr int kSlices = 16, kThreads = int(kChannels) * kSlices;

template <class T>
struct Problem {
  Matrix m;
  const uint8_t* packed;
  const T* bias;  // nullptr where absent
  QuantizedRows x;
  T* y;
};

// The integers of int8 are summed over all of k, the others over what shares a scale.
template <QuantType Type>
using Sum = std::conditional_t<Type == QuantType::int8, int, float>;

// What a group of the tile, whose quants are in `weights`, gives with group `at` of x.
template <QuantType Type>
__device__ Sum<Type> multiply_group(const PackedChannel<Type>& channel, const uint32_t (&weights)[8],
                                    const QuantizedRows& x, int64_t at) {
  constexpr int kParts = channel.kParts, kQuads = 8 / kParts;
  int4 quants[2];
  for (int i = 0; i < 2; i++) quants[i] = reinterpret_cast<const int4*>(x.quants + at * kGroup)[i];
  const int q[8] = {quants[0].x, quants[0].y, quants[0].z, quants[0].w,
                    quants[1].x, quants[1].y, quants[1].z, quants[1].w};
  int sums[kParts] = {};
#pragma unroll
  for (int j = 0; j < 8; j++) sums[j / kQuads] = __dp4a(int(weights[j]), q[j], sums[j / kQuads]);
  if constexpr (Type == QuantType::int8) return sums[0];
  const int2 of_x = reinterpret_cast<const int2*>(x.sums)[at];
  const int all = of_x.x + of_x.y;
  float total = 0;
#pragma unroll
  for (int part = 0; part < kParts; part++) {
    const int of_part = kParts == 1 ? all : part == 0 ? of_x.x : of_x.y;
    total += channel.scale(part) * float(sums[part] - channel.kBias * of_part);
  }
  if constexpr (channel.kMinima) total -= channel.minimum() * float(all);
  return total * x.d[at];
}

template <QuantType Type, int H, class T>
__global__ void __launch_bounds__(kThreads) multiply_tile(Problem<T> p) {
  auto* parts = shared_memory_as<Sum<Type>>();  // [kSlices][H][kChannels]
  const int channel = int(threadIdx.x % kChannels), slice = int(threadIdx.x / kChannels);
  const uint8_t* tile = p.packed + blockIdx.x * tile_bytes(Type, p.m.k);
  for (int64_t first = int64_t(blockIdx.y) * H; first < p.x.rows; first += int64_t(gridDim.y) * H) {
    Sum<Type> total[H] = {};
    for (int64_t g = slice; g < p.x.groups; g += kSlices) {
      const PackedChannel<Type> weights(tile, g, channel);
      uint32_t quads[8];
#pragma unroll
      for (int j = 0; j < 8; j++) quads[j] = weights.quad(j);
#pragma unroll
      for (int r = 0; r < H; r++) {
        const int64_t row = min_of(first + r, p.x.rows - 1);  // the last again, not to be written
        total[r] += multiply_group(weights, quads, p.x, row * p.x.groups + g);
      }
    }
#pragma unroll
    for (int r = 0; r < H; r++) parts[(slice * H + r) * kChannels + channel] = total[r];
    __syncthreads();
    const int64_t row = first + slice, n = blockIdx.x * kChannels + channel;
    if (slice < H && row < p.x.rows && n < p.m.n) {
      Sum<Type> sum = 0;
      for (int s = 0; s < kSlices; s++) sum += parts[(s * H + slice) * kChannels + channel];
      float y = float(sum);
      if constexpr (Type == QuantType::int8)
        y *= p.x.groups ? reinterpret_cast<const float*>(tile)[channel] * p.x.d[row * p.x.groups] : 0;
      p.y[row * p.m.n + n] = narrow<T>(p.bias ? y + widen(p.bias[n]) : y);
    }
    __syncthreads();  // the next rows use the same memory
  }
}

}  // namespace

void multiply_quantized(const CudaCall& call, const Matrix& m, const QuantizedRows& rows) {
  dispatch_float(call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!kSame<T, double>) {
      const T* bias = call.in[2].present() ? call.in[2].as<T>() : nullptr;
      const Problem<T> problem{m, call.in[1].as<uint8_t>(), bias, rows, call.out[0].as<T>()};
      dispatch_type(m.type, [&](auto type) {
        auto launch = [&](auto kernel, int64_t height) {
          // Enough for the device; where rows are many, a block goes on to further ones with weights that are near.
          const int64_t most = max_of(int64_t(call.device.multiprocessors) * 16 / max_of(m.tiles(), 1), 1);
          const dim3 grid(unsigned(m.tiles()), unsigned(min_of(ceil_div(rows.rows, height), most)));
          call.launch(kernel, Config{grid, dim3(kThreads), size_t(kThreads * height) * 4}, problem);
        };
        if (rows.rows == 1) launch(multiply_tile<type.value, 1, T>, 1);
        else launch(multiply_tile<type.value, 8, T>, 8);
      });
    }
  });
}

}  // namespace fovea::cuda
