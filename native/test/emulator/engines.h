// The units beside the threads: barriers in shared memory, the copy engine, tensor cores. What the functions of
// cuda/ptx.h do on the emulator.
#pragma once
#include <cstdint>

#include "cuda/tensor_map.h"
#include "test/emulator/machine.h"

namespace fovea::emulator {

// ---- cp.async (copies.cc)

void copy_async(uint32_t to, const void* from, uint32_t bytes, bool valid);

// ---- mbarrier (copies.cc)

void barrier_init(const void* barrier, uint32_t count);
void barrier_expect(const void* barrier, uint32_t bytes);
// On the barrier at the same place in the block of that rank.
void barrier_arrive(const void* barrier, uint32_t rank);
void barrier_wait(const void* barrier, uint32_t parity);

// ---- TMA (copies.cc)

struct Place {
  int64_t at[cuda::kTensorMapRank];
};
// Into the same place of every block whose bit is set.
void tile_load(const void* to, const cuda::TensorMap& map, const void* barrier, Place place, uint32_t blocks);
void tile_store(const cuda::TensorMap& map, const void* from, Place place);

// ---- tensor cores (tensor_core.cc)

void matrices_load(uint32_t (&r)[4], uint32_t address, bool transposed);
void matrices_store(uint32_t address, const uint32_t (&r)[4]);
void multiply(bool half, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// A product of a warpgroup, of which every warp computes 16 rows. `a_registers`, if not nullptr, go before `a`.
struct Product {
  bool half;
  int columns;
  bool transpose_a, transpose_b;
  float* d;
  const uint32_t* a_registers;
  uint64_t a, b;
  bool accumulate;
};
void product_issue(const Product& product);
void product_fence();
void product_commit();
void product_wait(int groups);

}  // namespace fovea::emulator
