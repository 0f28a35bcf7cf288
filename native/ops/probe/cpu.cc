#include "core/kernel.h"
#include "cpu/gemm_bf16.h"
#include "ops/probe/attrs.h"
#include "ops/quantized/dot.h"

namespace fovea::FOVEA_ISA {
namespace {

// Twelve independent chains hide the latency of two multiply-add units and fit sixteen registers.
constexpr int kChains = 12, kSteps = 64;

float multiply_add(float seed, int64_t rounds) {
  Vec<float> acc[kChains], factor = splat(0.999f + seed), addend = splat(1e-3f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; i++) acc[i] = splat(float(i) + seed);
  for (int64_t r = 0; r < rounds * kSteps; r++)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; i++) acc[i] = acc[i] * factor + addend;
  Vec<float> total{};
#pragma GCC unroll 12
  for (int i = 0; i < kChains; i++) total += acc[i];
  return sum_lanes<float>(total);
}

void fma_probe(Call& call, const ProbeAttrs& attrs) {
  float seed = *call.in[0].as<float>();
  call.parallel.for_each(
      attrs.chunks, [&](int64_t chunk, int) { call.out[0].as<float>()[chunk] = multiply_add(seed, attrs.rounds); });
}
void fma_probe_flops(Call& call, const NoAttrs&) {
  *call.out[0].as<float>() = float(kChains * kSteps * kLanes<float> * 2);
}

#if defined(__AMX_TILE__)
// `products` multiplies tiles 4 and 5 by 6 and 7 into 0 to 3, from operands that never leave registers.
template <class T, class Products>
T probe_tiles(T seed, int64_t rounds, Products products) {
  alignas(64) T tile[16 * 16] = {seed};
  TileRegisters registers;
  order_memory();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, tile, 64);
  _tile_loadd(5, tile, 64);
  _tile_loadd(6, tile, 64);
  _tile_loadd(7, tile, 64);
  for (int64_t r = 0; r < rounds * kSteps; r++) products();
  _tile_stored(0, tile, 64);
  order_memory();
  return tile[0];
}
#endif

// Products of bfloat16 as Engine<Bfloat16> computes them.
#if defined(__AMX_BF16__)
constexpr int64_t kBf16Operations = 4 * kSteps * kBlock * kBlock * (2 * kBlock) * 2;
float multiply_bf16(float seed, int64_t rounds) {
  return probe_tiles(seed, rounds, [] {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  });
}
#elif defined(FOVEA_MULTIPLIES_PAIRS)
constexpr int64_t kBf16Operations = kChains * kSteps * kLanes<float> * 4;
float multiply_bf16(float seed, int64_t rounds) {
  using Type = PackedType<Pair>;
  Pair values[2] = {{bits_of(seed)}, {bits_of(seed + 1)}};
  Vec<float> acc[kChains];
  auto a = Type::splat_value(values);
  Vec<uint32_t> b = splat(values[1].bits);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; i++) acc[i] = splat(float(i) + seed);
  for (int64_t r = 0; r < rounds * kSteps; r++)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; i++) acc[i] = Type::multiply_add(acc[i], a, b);
  Vec<float> total{};
#pragma GCC unroll 12
  for (int i = 0; i < kChains; i++) total += acc[i];
  return sum_lanes<float>(total);
}
#else
constexpr int64_t kBf16Operations = kChains * kSteps * kLanes<float> * 2;
float multiply_bf16(float seed, int64_t rounds) { return multiply_add(seed, rounds); }
#endif

void bf16_probe(Call& call, const ProbeAttrs& attrs) {
  float seed = *call.in[0].as<float>();
  call.parallel.for_each(
      attrs.chunks, [&](int64_t chunk, int) { call.out[0].as<float>()[chunk] = multiply_bf16(seed, attrs.rounds); });
}
void bf16_probe_flops(Call& call, const NoAttrs&) { *call.out[0].as<float>() = float(kBf16Operations); }

#if defined(__AMX_INT8__)
constexpr int64_t kInt8Operations = 4 * kSteps * 16 * 16 * 64 * 2;
int32_t multiply_add_bytes(int32_t seed, int64_t rounds) {
  return probe_tiles(seed, rounds, [] {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  });
}
#else
constexpr int64_t kInt8Operations = kChains * kSteps * kLanes<int32_t> * 4 * 2;
// The same of products of bytes, with activations from the first cache as in a product of matrices. Every other one of
// a chain is the negative of the one before, so that no sum grows out of its 32 bits.
int32_t multiply_add_bytes(int32_t seed, int64_t rounds) {
  constexpr int kReach = 8;
  alignas(64) int8_t quads[kReach * kChains * kQuadBytes];
  for (int quad = 0; quad < kReach * kChains; quad += 8) {
    int32_t values[32];
    for (int i = 0; i < 32; i++) {
      const int chain = (quad + i / 4) % kChains, turn = (quad + i / 4) / kChains;
      const int value = int(uint32_t(seed + 4 * chain + i % 4) % 64);
      values[i] = turn % 2 ? -value : value;
    }
    store_quads(values, quads + quad * kQuadBytes);
  }
  Quants weights = prepare<true>(splat(uint32_t(seed)) + 0x01020304u);
  Sums acc[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; i++) acc[i] = splat(seed + i);
#pragma GCC unroll 1
  for (int64_t r = 0; r < rounds * (kSteps / kReach); r++) {
    const int8_t* from = quads;
    asm volatile("" : "+r"(from) : : "memory");  // or products that never change would be computed once
#pragma GCC unroll 8
    for (int q = 0; q < kReach; q++)
#pragma GCC unroll 12
      for (int i = 0; i < kChains; i++) acc[i] = dot(acc[i], weights, from + (q * kChains + i) * kQuadBytes);
  }
  Sums total{};
#pragma GCC unroll 12
  for (int i = 0; i < kChains; i++) total += acc[i];
  return sum_lanes<int32_t>(total);
}

#endif

void int8_probe(Call& call, const ProbeAttrs& attrs) {
  int32_t seed = int32_t(*call.in[0].as<float>());
  call.parallel.for_each(attrs.chunks, [&](int64_t chunk, int) {
    call.out[0].as<float>()[chunk] = float(multiply_add_bytes(seed, attrs.rounds));
  });
}
void int8_probe_flops(Call& call, const NoAttrs&) { *call.out[0].as<float>() = float(kInt8Operations); }

void copy_probe(Call& call, const NoAttrs&) {
  const float* x = call.in[0].as<float>();
  float* y = call.out[0].as<float>();
  call.parallel.for_range(call.in[0].size(), 1 << 18, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes<float> <= end; i += kLanes<float>) {
#if defined(__AVX512F__)
      _mm512_stream_ps(y + i, load(x + i));
#elif defined(__AVX2__)
      _mm256_stream_ps(y + i, load(x + i));
#else
      store(y + i, load(x + i));
#endif
    }
    for (; i < end; i++) y[i] = x[i];
#if defined(__AVX2__)
    _mm_sfence();
#endif
  });
}

// The sum of n elements, 8 vectors at a time, of which each of the streams gives as many.
template <int kStreams>
float read_streams(const float* x, int64_t n, bool ahead) {
  constexpr int kRun = 8 / kStreams, kStep = kRun * kLanes<float>;
  constexpr int64_t kAhead = 2048 / sizeof(float);
  const int64_t length = n / kStreams / kStep * kStep;
  Vec<float> acc[8] = {};
  for (int64_t i = 0; i < length; i += kStep)
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      const float* p = x + j / kRun * length + i + j % kRun * kLanes<float>;
      if (ahead) __builtin_prefetch(p + kAhead);  // never faults
      acc[j] += load(p);
    }
  Vec<float> total{};
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) total += acc[j];
  return sum_lanes<float>(total);
}
void read_probe(Call& call, const ReadProbeAttrs& attrs) {
  const float* x = call.in[0].as<float>();
  const int64_t piece = call.in[0].size() / attrs.chunks;
  call.parallel.for_each(attrs.chunks, [&](int64_t chunk, int) {
    const float* p = x + chunk * piece;
    call.out[0].as<float>()[chunk] = attrs.streams == 8   ? read_streams<8>(p, piece, attrs.ahead)
                                     : attrs.streams == 4 ? read_streams<4>(p, piece, attrs.ahead)
                                     : attrs.streams == 2 ? read_streams<2>(p, piece, attrs.ahead)
                                                          : read_streams<1>(p, piece, attrs.ahead);
  });
}

}  // namespace

FOVEA_KERNELS(probe, FOVEA_KERNEL("fmaProbe", fma_probe, ProbeAttrs),
              FOVEA_KERNEL("fmaProbeFlops", fma_probe_flops, NoAttrs),
              FOVEA_KERNEL("bf16Probe", bf16_probe, ProbeAttrs),
              FOVEA_KERNEL("bf16ProbeFlops", bf16_probe_flops, NoAttrs),
              FOVEA_KERNEL("int8Probe", int8_probe, ProbeAttrs),
              FOVEA_KERNEL("int8ProbeFlops", int8_probe_flops, NoAttrs), FOVEA_KERNEL("copyProbe", copy_probe, NoAttrs),
              FOVEA_KERNEL("readProbe", read_probe, ReadProbeAttrs))

}  // namespace fovea::FOVEA_ISA
