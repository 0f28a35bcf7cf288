// The functions of cuda/ptx.h, which includes this file, on the emulator.
#pragma once
#include <cmath>
#include <cstring>

#include "cuda/ptx.h"
#include "test/emulator/engines.h"

namespace fovea::cuda {

// ---- sm_80

FOVEA_PTX int thread_index() { return int(threadIdx.x); }
FOVEA_PTX uint32_t shared_address(const void* shared) { return emulator::shared_address_of(shared); }
FOVEA_PTX void store_shared_32(uint32_t address, uint32_t value) {
  std::memcpy(emulator::shared_bytes(*emulator::current->block, address, 4, 4, "store_shared_32"), &value, 4);
}
FOVEA_PTX void cp_async_16(uint32_t to, const void* from, bool valid) { emulator::copy_async(to, from, 16, valid); }
FOVEA_PTX void cp_async_4(uint32_t to, const void* from, bool valid) { emulator::copy_async(to, from, 4, valid); }
FOVEA_PTX void cp_async_commit() { emulator::current->copies.commit(); }
template <int N>
FOVEA_PTX void cp_async_wait() {
  emulator::current->copies.wait(N);
}
FOVEA_PTX void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) { emulator::matrices_load(r, address, false); }
FOVEA_PTX void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) { emulator::matrices_load(r, address, true); }
template <class T>
FOVEA_PTX void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::multiply(kSame<T, Half>, c, a, {b0, b1});
}
template <class T>
FOVEA_PTX uint32_t pack_pair(float low, float high) {
  auto bits = [](float x) -> uint32_t {
    if (std::isnan(x)) return 0x7fff;  // whatever NaN it was
    if constexpr (kSame<T, Half>) return to_half(x).bits;
    else return to_bfloat16(x).bits;
  };
  return bits(low) | bits(high) << 16;
}
FOVEA_PTX float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}
FOVEA_PTX float tanh_fast(float x) { return std::tanh(x); }
FOVEA_PTX float reciprocal_fast(float x) { return 1 / x; }

// ---- sm_90: barriers in shared memory

FOVEA_PTX void mbarrier_init(uint64_t* barrier, uint32_t count) { emulator::barrier_init(barrier, count); }
FOVEA_PTX void mbarrier_expect(uint64_t* barrier, uint32_t bytes) { emulator::barrier_expect(barrier, bytes); }
FOVEA_PTX void mbarrier_arrive(uint64_t* barrier) { emulator::barrier_arrive(barrier, emulator::current->block->rank); }
FOVEA_PTX void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank) { emulator::barrier_arrive(barrier, rank); }
FOVEA_PTX void mbarrier_wait(uint64_t* barrier, uint32_t parity) { emulator::barrier_wait(barrier, parity); }
FOVEA_PTX void fence_mbarrier_init() {}
FOVEA_PTX void fence_async_proxy() {}

// ---- sm_90: tiles

FOVEA_PTX void tma_load_2d(void* to, const TensorMap* map, uint64_t* barrier, int x, int y) {
  emulator::tile_load(to, *map, barrier, {{x, y, 0, 0}}, 1u << emulator::current->block->rank);
}
FOVEA_PTX void tma_load_2d_multicast(void* to, const TensorMap* map, uint64_t* barrier, int x, int y, uint16_t mask) {
  emulator::tile_load(to, *map, barrier, {{x, y, 0, 0}}, mask);
}
FOVEA_PTX void tma_load_4d(void* to, const TensorMap* map, uint64_t* barrier, int x, int y, int z, int w) {
  emulator::tile_load(to, *map, barrier, {{x, y, z, w}}, 1u << emulator::current->block->rank);
}
FOVEA_PTX void tma_store_2d(const TensorMap* map, const void* from, int x, int y) {
  emulator::tile_store(*map, from, {{x, y, 0, 0}});
}
FOVEA_PTX void tma_store_4d(const TensorMap* map, const void* from, int x, int y, int z, int w) {
  emulator::tile_store(*map, from, {{x, y, z, w}});
}
FOVEA_PTX void tma_store_commit() { emulator::current->stores.commit(); }
template <int N>
FOVEA_PTX void tma_store_wait_read() {
  emulator::current->stores.wait(N);
}
FOVEA_PTX void tma_store_wait_all() { emulator::current->stores.wait(0); }
FOVEA_PTX void tma_prefetch(const TensorMap*) {}

// ---- sm_90: blocks and warps

FOVEA_PTX uint32_t cluster_rank() { return emulator::current->block->rank; }
FOVEA_PTX void cluster_sync() {
  emulator::arrive_and_wait(emulator::current->block->cluster->barrier, 0, "cluster_sync", 0);
}
FOVEA_PTX void named_barrier_sync(int id, int threads) {
  if (id < 0 || id >= emulator::kNamedBarriers || threads <= 0 || threads % emulator::kWarpSize)
    emulator::fail("named_barrier_sync(%d, %d)", id, threads);
  emulator::arrive_and_wait(emulator::current->block->barriers[id], threads, "named barrier %llu", uint64_t(id));
}
template <int R>
FOVEA_PTX void registers_release() {
  static_assert(R >= 24 && R <= 256 && R % 8 == 0);
}
template <int R>
FOVEA_PTX void registers_claim() {
  static_assert(R >= 24 && R <= 256 && R % 8 == 0);
}
FOVEA_PTX void stmatrix_x4(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
  emulator::matrices_store(address, {r0, r1, r2, r3});
}

// ---- sm_90a: products of a warpgroup

FOVEA_PTX void wgmma_fence() { emulator::product_fence(); }
FOVEA_PTX void wgmma_commit() { emulator::product_commit(); }
template <int N>
FOVEA_PTX void wgmma_wait() {
  emulator::product_wait(N);
}
template <int N>
FOVEA_PTX void wgmma_keep(float (&)[N]) {}

template <class T, int N, bool kTransposeA, bool kTransposeB>
FOVEA_PTX void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate) {
  static_assert(N % 32 == 0 && N >= 32 && N <= 256);
  emulator::product_issue({kSame<T, Half>, N, kTransposeA, kTransposeB, d, nullptr, a, b, accumulate != 0});
}
template <class T, int N, bool kTransposeB>
FOVEA_PTX void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  static_assert(N % 32 == 0 && N >= 32 && N <= 256);
  emulator::product_issue({kSame<T, Half>, N, false, kTransposeB, d, a, 0, b, accumulate != 0});
}

}  // namespace fovea::cuda
