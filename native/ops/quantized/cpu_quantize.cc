// Weights and activations to integers: weights as quantize.h says, x as int8 over what activations.h says. Compiled
// without fused multiply-add (native/sources.json).
#include "cpu/rows.h"
#include "ops/quantized/activations.h"
#include "ops/quantized/quantize.h"

namespace fovea::FOVEA_ISA {
namespace {

using Row16 = Lanes<kChannels>;

void quantize_16(QuantType type, const Row16* x, Codes<kChannels>& codes) { quantize_block(type, x, codes); }

// x[i][c] = weight of channel `first` + c at `from` + i, zero beyond n and k.
template <class S>
void transpose_block(const View& w, int64_t first, int64_t from, int64_t length, Row16* x) {
  int64_t n = w.shape[0], k = w.shape[1], there = min_of(length, k - from);
  __builtin_memset(x, 0, sizeof(Row16) * size_t(length));
  float row[kMaxBlock];
  for (int64_t c = 0; c < min_of(kChannels, n - first); c++) {
    convert_row(w.as<S>() + (first + c) * k + from, row, there);
    for (int64_t i = 0; i < there; i++) x[i][c] = row[i];
  }
}

template <class S>
void quantize_tile(const View& w, QuantType type, int64_t tile, uint8_t* to) {
  int64_t k = w.shape[1], length = block_of(type);
  Row16 x[kMaxBlock];
  Codes<kChannels> codes = {};
  if (type == QuantType::int8) {
    Row16 top = {}, part;
    for (int64_t from = 0; from < k; from += kMaxBlock) {
      transpose_block<S>(w, tile * kChannels, from, kMaxBlock, x);
      largest(x, kMaxBlock, part);
      for (int64_t c = 0; c < kChannels; c++) top[c] = part[c] > top[c] || !finite(part[c]) ? part[c] : top[c];
    }
    for (int64_t c = 0; c < kChannels; c++) codes.channel[c] = step_of(top[c]);
    __builtin_memcpy(to, codes.channel, sizeof codes.channel);
    to += tile_header_bytes(type);
  }
  for (int64_t b = 0; b < blocks_of(type, k); b++, to += packed_block_bytes(type)) {
    transpose_block<S>(w, tile * kChannels, b * length, length, x);
    quantize_16(type, x, codes);
    store_packed(type, codes, to);
  }
}

// ---- activations

// An integer added to 1.5 x 2^23 lies in the low 22 bits.
FOVEA_INLINE void quantize_group(const float* x, float inverse, int32_t* quants) {
  if (inverse == 0) __builtin_memset(quants, 0, sizeof(int32_t) * kGroup);
  else
    for (int64_t i = 0; i < kGroup; i++) quants[i] = int32_t(bits_of(x[i] * inverse + 0x1.8p23f) << 10) >> 10;
}
FOVEA_INLINE int32_t top_of(const float* x) {
  int32_t top = 0;
  for (int64_t i = 0; i < kGroup; i++) top = magnitude_bits(x[i]) > top ? magnitude_bits(x[i]) : top;
  return top;
}

// One group of one row into its place in a block of `height` rows. Returns the sum of the quants.
FOVEA_INLINE int32_t store_activations(QuantType type, const int32_t* quants, float d, int64_t row, int64_t height,
                                       std::byte* group) {
  store_quads(quants, reinterpret_cast<int8_t*>(group) + row * 8 * kQuadBytes);
  int32_t halves[2] = {};
  for (int64_t i = 0; i < 16; i++) halves[0] += quants[i], halves[1] += quants[16 + i];
  int32_t sum = halves[0] + halves[1], start[2] = {};
  if (type == QuantType::q8_0) start[0] = -kByteBias * sum;
  if (type == QuantType::q4_0) start[0] = -8 * sum;
  if (type == QuantType::q4_K) start[0] = int32_t(bits_of(float(sum)));
  if (type == QuantType::q6_K) start[0] = -32 * halves[0], start[1] = -32 * halves[1];
  std::byte* behind = group + height * 8 * kQuadBytes + row * 4;
  for (int64_t i = 0; i < 2; i++) __builtin_memcpy(behind + i * height * 4, &start[i], 4);
  __builtin_memcpy(behind + 2 * height * 4, &d, 4);
  return sum;
}

// Up to eight groups of a row: their values, padded by zeros, and the bits of the largest magnitude of each.
struct Chunk {
  alignas(64) float copy[kMaxBlock];
  const float* values;
  int32_t tops[kMaxBlock / kGroup];
  int64_t groups;
};
template <class S>
FOVEA_INLINE void load_chunk(const S* x, int64_t n, Chunk& chunk) {
  chunk.groups = ceil_div(n, kGroup);
  chunk.values = chunk.copy;
  if constexpr (kSame<S, float>) {
    if (n % kGroup == 0) chunk.values = x;
  }
  if (chunk.values == chunk.copy) {
    convert_row(x, chunk.copy, n);
    for (int64_t i = n; i < chunk.groups * kGroup; i++) chunk.copy[i] = 0;
  }
  for (int64_t g = 0; g < kMaxBlock / kGroup; g++)
    chunk.tops[g] = g < chunk.groups ? top_of(chunk.values + g * kGroup) : 0;
}
FOVEA_INLINE int32_t top_of(const Chunk& chunk) {
  int32_t top = 0;
  for (int32_t t : chunk.tops) top = t > top ? t : top;
  return top;
}

// A block of rows, chunk after chunk, so that what is written lies together.
template <class S>
void quantize_rows(QuantType type, const S* x, int64_t k, int64_t height, std::byte* to) {
  constexpr int64_t kGroups = kMaxBlock / kGroup;
  alignas(64) int32_t quants[kGroup];
  Chunk chunk;
  int32_t top_of_row[kMaxHeight] = {}, sum[kMaxHeight] = {};
  for (int64_t r = 0; type == QuantType::int8 && r < height; r++)
    for (int64_t from = 0; from < k; from += kMaxBlock) {
      load_chunk(x + r * k + from, min_of(kMaxBlock, k - from), chunk);
      top_of_row[r] = top_of(chunk) > top_of_row[r] ? top_of(chunk) : top_of_row[r];
    }
  for (int64_t from = 0; from < k; from += kMaxBlock)
    for (int64_t r = 0; r < height; r++) {
      load_chunk(x + r * k + from, min_of(kMaxBlock, k - from), chunk);
      bool alone = !is_k_quant(type) && type != QuantType::int8;
      int32_t shared = type == QuantType::int8 ? top_of_row[r] : top_of(chunk);
      float d[kGroups], inverse[kGroups];
      for (int64_t g = 0; g < kGroups; g++) {
        int32_t top = alone ? chunk.tops[g] : shared;
        d[g] = step_of(largest_of(top));
        inverse[g] = inverse_of(d[g]);
      }
      std::byte* group = to + from / kGroup * height * kActivationBytes;
      for (int64_t g = 0; g < chunk.groups; g++, group += height * kActivationBytes) {
        quantize_group(chunk.values + g * kGroup, inverse[g], quants);
        sum[r] += store_activations(type, quants, d[g], r, height, group);
      }
    }
  if (type != QuantType::int8 || k == 0) return;
  for (int64_t r = 0; r < height; r++) {
    int32_t start = -kByteBias * sum[r];  // of all k, where the first group has its own
    __builtin_memcpy(to + height * 8 * kQuadBytes + r * 4, &start, 4);
  }
}

}  // namespace

void quantize_weights(Call& call, const View& w, QuantType type, std::byte* packed) {
  int64_t bytes = tile_bytes(type, w.shape[1]), tiles = ceil_div(w.shape[0], kChannels);
  dispatch_float(w.dtype, [&]<class S>() {
    call.parallel.for_range(tiles, max_of(1, kGrain / max_of(bytes, 1)), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++)
        quantize_tile<S>(w, type, t, reinterpret_cast<uint8_t*>(packed) + t * bytes);
    });
  });
}

void quantize_activations(Call& call, QuantType type, int64_t first_row, int64_t rows, int64_t most, std::byte* to) {
  const View& x = call.in[0];
  int64_t k = x.shape[1], row_bytes = blocks_of(QuantType::q8_0, k) * kActivationBytes;
  RowBlocks blocks(rows, most);
  dispatch_float(x.dtype, [&]<class S>() {
    call.parallel.for_range(blocks.count, max_of(1, kGrain / max_of(k, 1) / most), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++)
        quantize_rows(type, x.as<S>() + (first_row + blocks.begin(b)) * k, k, blocks.height(b),
                      to + blocks.begin(b) * row_bytes);
    });
  });
}

}  // namespace fovea::FOVEA_ISA
