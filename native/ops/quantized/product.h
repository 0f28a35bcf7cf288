// y = x W^T + bias, with x quantised to int8, over all tiles of W.
//
// Units of work are some tiles times some blocks of rows whose activations stay in the second cache. Of a tile, kDepth
// of k at a time stay in the first while all blocks of rows of the unit pass over them; meanwhile the next are
// prefetched, so that memory is read evenly. A single block of rows, as in generation, passes over whole tiles. What a
// unit is depends on shapes alone.
#pragma once
#include "core/kernel.h"
#include "ops/quantized/matrix.h"
#include "ops/quantized/multiply.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kActivationsInCache = 640 << 10;  // bytes that all tiles of a unit read
constexpr int64_t kUnitBytes = 128 << 10;           // of weights, counted once for each block of rows
constexpr int64_t kMaxTogether = 16;                // blocks of rows of a unit
constexpr int64_t kAhead = 4096, kNear = 1024;      // bytes to prefetch ahead: about the latencies of two memories

// Up to kPassRows rows, whose activations lie in the workspace.
struct Product {
  Call& call;
  const Matrix& m;
  int64_t first_row;
  RowBlocks blocks;
  bool unpack;
  Method method;
  int64_t row_bytes, tile_bytes, block_bytes;

  FOVEA_INLINE Product(Call& call, const Matrix& m, int64_t first_row, int64_t rows, int64_t most)
      : call(call), m(m), first_row(first_row), blocks(rows, most), unpack(unpacks(m.type, call.in[0].shape[0])) {
    method = method_of(m.type);
    row_bytes = blocks_of(QuantType::q8_0, m.k) * kActivationBytes;
    tile_bytes = fovea::tile_bytes(m.type, m.k), block_bytes = packed_block_bytes(m.type);
  }
  FOVEA_INLINE void quantize() const {
    quantize_activations(call, m.type, first_row, blocks.rows, blocks.most, call.workspace);
  }
  // A block of rows from k on that are a multiple of kGroup.
  FOVEA_INLINE const std::byte* activations(int64_t row, int64_t height, int64_t k) const {
    return call.workspace + row * row_bytes + k / kGroup * height * kActivationBytes;
  }
  FOVEA_INLINE const uint8_t* weights(int64_t tile, int64_t k) const {
    return call.in[1].as<uint8_t>() + tile * tile_bytes + k / block_of(m.type) * block_bytes;
  }
  // Where a thread unpacks kDepth of k.
  FOVEA_INLINE uint8_t* place(int thread) const {
    return call.scratch<uint8_t>(size_t(activation_workspace(call.in[0].shape[0], m.k))) + thread * 2 * kUnpackedBytes;
  }
};

// Blocks of rows [block, block + count), with the rows at which they begin.
struct Rows {
  int64_t count, begin[kMaxTogether + 1];
  FOVEA_INLINE Rows(const RowBlocks& blocks, int64_t block, int64_t end) : count(end - block) {
    for (int64_t b = 0; b <= count; b++) begin[b] = blocks.begin(block + b);
  }
};

// sums[rows][16] = x W^T for k [from, from + depth) of a tile, added to what is there unless `from` is 0.
FOVEA_INLINE void multiply_depth(const Product& p, const Rows& rows, int64_t tile, int64_t from, int64_t depth,
                                 uint8_t* place, float* sums) {
  int64_t chunk = ceil_div(depth, block_of(p.m.type)) * p.block_bytes, groups = max_of(ceil_div(depth, kGroup), 1);
  const uint8_t* packed = p.weights(tile, from);
  if (p.unpack) p.method.unpack(packed, depth, place);
  // Each block of rows prefetches its part of the next chunk; one alone what comes next.
  const bool alone = rows.count == 1;
  Pass pass{from == 0, packed + (alone ? kAhead : chunk), ceil_div(chunk, groups * rows.count),
            alone ? packed + kNear : nullptr};
  const MultiplyRows* kernels = p.unpack ? p.method.unpacked : p.method.packed;
  for (int64_t b = 0; b < rows.count; b++) {
    int64_t row = rows.begin[b], height = rows.begin[b + 1] - row;
    kernels[height - 1](p.unpack ? place : packed, depth, p.activations(row, height, from), pass,
                        sums + (row - rows.begin[0]) * kChannels);
    pass.ahead += groups * pass.ahead_bytes;
  }
}

// The lines of y that finish() will write, each in another row.
template <class S>
FOVEA_INLINE void fetch_results(const Product& p, const Rows& rows, int64_t t) {
  const S* y = p.call.out[0].as<S>() + p.first_row * p.m.n + t * kChannels;
  for (int64_t r = rows.begin[0]; r < rows.begin[rows.count]; r++) __builtin_prefetch(y + r * p.m.n, 1, 2);
}

// y = sums + bias for the channels of tile `t` that exist.
template <class S>
FOVEA_INLINE void finish(const Product& p, const Rows& rows, int64_t t, const float* sums) {
  constexpr int L = kLanes<float>;
  int64_t first = t * kChannels, channels = min_of(kChannels, p.m.n - first);
  float bias[kChannels] = {}, line[kChannels];
  if (p.call.in[2].present()) convert_row(p.call.in[2].as<S>() + first, bias, channels);
  S* y = p.call.out[0].as<S>() + (p.first_row + rows.begin[0]) * p.m.n + first;
  for (int64_t r = 0; r < rows.begin[rows.count] - rows.begin[0]; r++, y += p.m.n, sums += kChannels) {
    bool direct = kSame<S, float> && channels == kChannels;
    float* to = direct ? reinterpret_cast<float*>(y) : line;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) store(to + v * L, load(sums + v * L) + load(bias + v * L));
    if (!direct) convert_row(line, y, channels);
  }
}

template <class S>
void multiply_tiles(const Product& p, const Rows& rows, int64_t tile, int64_t tile_end, uint8_t* place) {
  // int8 sums all of k at once; a single block of rows leaves nothing in the first cache for others.
  bool whole = p.m.type == QuantType::int8 || (!p.unpack && rows.count == 1);
  int64_t depth = whole ? max_of(p.m.k, 1) : kDepth;
  alignas(64) float sums[kMaxTogether * kMaxRows * kChannels];
  for (int64_t t = tile; t < tile_end; t++) {
    fetch_results<S>(p, rows, t);
    for (int64_t from = 0; from < max_of(p.m.k, 1); from += depth)
      multiply_depth(p, rows, t, from, min_of(depth, p.m.k - from), place, sums);
    finish<S>(p, rows, t, sums);
  }
}

template <class S>
void multiply_pass(const Product& p) {
  int64_t tiles = p.m.tiles(), blocks = p.blocks.count;
  p.quantize();
  int64_t together = clamp_to(kActivationsInCache / max_of(p.row_bytes * kMaxRows, 1), 1, min_of(blocks, kMaxTogether));
  // Some tiles even where there are many rows, since each prefetches the next.
  int64_t least = clamp_to(tiles / 64, 1, 8);
  int64_t grain = clamp_to(kUnitBytes / max_of(p.tile_bytes * together, 1), least, tiles),
          columns = ceil_div(tiles, grain);
  p.call.parallel.for_each(ceil_div(blocks, together) * columns, [&](int64_t unit, int thread) {
    int64_t block = unit / columns * together, tile = unit % columns * grain;
    Rows rows(p.blocks, block, min_of(block + together, blocks));
    multiply_tiles<S>(p, rows, tile, min_of(tile + grain, tiles), p.place(thread));
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
