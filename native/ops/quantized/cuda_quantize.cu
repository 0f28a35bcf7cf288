// Weights and rows of x to integers, the same as the CPU's bit for bit (quantize.h). Compiled without fused
// multiply-add (native/sources.json).
#include "cuda/block.h"
#include "ops/quantized/cuda_kernels.h"
#include "ops/quantized/quantize.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 128;

struct LargestBits {
  __device__ int operator()(int a, int b) const { return a < b ? b : a; }
};
template <class T>
__device__ float value_at(const T* row, int64_t i, int64_t k) {
  return i < k ? float(widen(row[i])) : 0.f;
}

// The scale of each channel of int8, in the header of its tile; a group of threads to a channel, 0 beyond n.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads) scale_channels(const T* w, Matrix m, std::byte* packed) {
  const GroupRow group(m.tiles() * kChannels);
  int largest = 0;
  if (group.row < m.n)
    for (int64_t i = threadIdx.x; i < m.k; i += blockDim.x)
      largest = LargestBits{}(largest, magnitude_bits(float(widen(w[group.row * m.k + i]))));
  largest = reduce_group(largest, LargestBits{});
  if (!group.live || threadIdx.x != 0) return;
  auto* scales = reinterpret_cast<float*>(packed + group.row / kChannels * tile_bytes(m.type, m.k));
  scales[group.row % kChannels] = step_of(largest_of(largest));
}

// A channel of a block to a thread.
template <class T>
__global__ void __launch_bounds__(kThreads) quantize_channels(const T* w, Matrix m, std::byte* packed) {
  const int64_t channels = m.tiles() * kChannels, length = block_of(m.type);
  for (int64_t i = first_item(); i < channels * m.blocks(); i += item_step()) {
    const int64_t row = i % channels, block = i / channels, from = block * length;
    float x[kMaxBlock][1];
    for (int64_t j = 0; j < length; j++) x[j][0] = row < m.n ? value_at(w + row * m.k, from + j, m.k) : 0;
    auto* tile = reinterpret_cast<uint8_t*>(packed + row / kChannels * tile_bytes(m.type, m.k));
    Codes<1> codes = {};
    if (m.type == QuantType::int8) load_channels(tile, row % kChannels, codes.channel);
    quantize_block(m.type, x, codes);
    store_packed(m.type, codes, tile + tile_header_bytes(m.type) + block * packed_block_bytes(m.type), row % kChannels);
  }
}

// `together` groups of a row of x, which share d, to a group of threads; a warp has 32 values at a time.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads)
    quantize_groups(const T* x, int64_t k, int64_t together, QuantizedRows to) {
  const int64_t parts = ceil_div(to.groups, together);
  const GroupRow group(to.rows * parts);
  const int64_t row = group.row / parts, first = group.row % parts * together;
  const int64_t end = min_of(first + together, to.groups);
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, warps = int(blockDim.x) / 32;
  int largest = 0;
  for (int64_t g = first + warp; g < end; g += warps)
    largest = LargestBits{}(largest, magnitude_bits(value_at(x + row * k, g * kGroup + lane, k)));
  const float d = step_of(largest_of(reduce_group(largest, LargestBits{}))), inverse = inverse_of(d);
  for (int64_t g = first + warp; g < end; g += warps) {
    const int quant = inverse == 0 ? 0 : int(rintf(value_at(x + row * k, g * kGroup + lane, k) * inverse));
    int sum = quant;
    for (int apart = 8; apart > 0; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart);
    if (!group.live) continue;
    const int64_t at = row * to.groups + g;
    to.quants[at * kGroup + lane] = int8_t(quant);
    if (lane % 16 == 0) to.sums[at * 2 + lane / 16] = sum;
    if (lane == 0) to.d[at] = d;
  }
}

}  // namespace

void quantize_weights(const CudaCall& call, const Matrix& m) {
  const View& w = call.in[0];
  std::byte* packed = call.out[0].data;
  const int64_t channels = m.tiles() * kChannels;
  dispatch_float(w.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (m.type == QuantType::int8) call.launch(scale_channels<T>, config_for_rows(channels, m.k), w.as<T>(), m, packed);
    const Config config{dim3(blocks_for(channels * m.blocks(), kThreads, call.device)), dim3(kThreads)};
    call.launch(quantize_channels<T>, config, w.as<T>(), m, packed);
  });
}

void quantize_rows(const CudaCall& call, QuantType type, const QuantizedRows& rows) {
  const View& x = call.in[0];
  const int64_t together = type == QuantType::int8 ? max_of(rows.groups, 1) : block_of(type) / kGroup;
  const Config config = config_for_rows(rows.rows * ceil_div(rows.groups, together), kHeld * kGroup * together);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(quantize_groups<T>, config, x.as<T>(), x.shape[1], together, rows);
  });
}

}  // namespace fovea::cuda
