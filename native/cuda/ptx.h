// The instructions that kernels use beyond CUDA C++, each behind one function. nvcc gets the PTX (ptx_sm80.h,
// ptx_sm90.h, wgmma.h), other compilers an emulation (native/test/emulator/ptx_emulated.h).
// https://docs.nvidia.com/cuda/parallel-thread-execution/
//
// Shared memory is named by a pointer or by the 32-bit address that shared_address() makes of it. T is Bfloat16 or
// Half. "The warp" and "the warpgroup" (4 warps, the first a multiple of 4) mean that all their threads call together.
#pragma once
#include "core/arithmetic.h"
#include "core/half.h"
#include "cuda/kernel.h"
#include "cuda/tensor_map.h"

#define FOVEA_PTX __device__ __forceinline__

namespace fovea::cuda {

// ---- sm_80

// threadIdx.x, read anew: what is made of it takes no registers from what ran before.
FOVEA_PTX int thread_index();

FOVEA_PTX uint32_t shared_address(const void* shared);
FOVEA_PTX void store_shared_32(uint32_t address, uint32_t value);

// Copies 16 or 4 bytes from global to shared memory in the background, both aligned to that; zeros when not valid, and
// nothing is read then. Copies since the last commit are a group; wait<N>() until all but the last N groups are there,
// as far as the calling thread is concerned: others need a barrier afterwards.
FOVEA_PTX void cp_async_16(uint32_t to, const void* from, bool valid);
FOVEA_PTX void cp_async_4(uint32_t to, const void* from, bool valid);
FOVEA_PTX void cp_async_commit();
template <int N>
FOVEA_PTX void cp_async_wait();

// The warp loads four 8 x 8 matrices of 16-bit elements. Lane 8 i + j gives the address of row j of matrix i (16 bytes,
// aligned); r[i] of lane l gets elements 2 (l % 4) and the next of row l / 4, or with _trans, of column l / 4.
FOVEA_PTX void ldmatrix_x4(uint32_t (&r)[4], uint32_t address);
FOVEA_PTX void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address);

// The warp computes C[16, 8] += A[16, 16] B[16, 8], with g = lane / 4 and t = 2 (lane % 4):
//   a: rows g, g + 8, g, g + 8 and columns t, t, t + 8, t + 8, each with the next column
//   b0, b1: rows t, t + 8 of column g, each with the next row
//   c: (g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)
template <class T>
FOVEA_PTX void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
// Two values in one register, `low` in the lower half, rounded to nearest even.
template <class T>
FOVEA_PTX uint32_t pack_pair(float low, float high);

// Approximations, within 2 ulp and 2^-11; results below the normal numbers are 0.
FOVEA_PTX float exp2_fast(float x);
FOVEA_PTX float tanh_fast(float x);
FOVEA_PTX float reciprocal_fast(float x);

// ---- sm_90: barriers in shared memory that count arrivals and bytes

// A phase ends when `count` threads have arrived and all bytes that were expected have come. wait(parity) returns once
// the phase of that parity has ended: the first is 0, and waiting for 1 on a new barrier returns at once.
FOVEA_PTX void mbarrier_init(uint64_t* barrier, uint32_t count);
FOVEA_PTX void mbarrier_expect(uint64_t* barrier, uint32_t bytes);  // arrives, too
FOVEA_PTX void mbarrier_arrive(uint64_t* barrier);
// On that of another block of the cluster: says that a slot may be filled anew. It orders no plain accesses, which
// would cost every arrival a fence.
FOVEA_PTX void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank);
FOVEA_PTX void mbarrier_wait(uint64_t* barrier, uint32_t parity);
FOVEA_PTX void fence_mbarrier_init();  // after mbarrier_init(), before the barrier after which others use it
FOVEA_PTX void fence_async_proxy();    // after plain writes to shared memory that TMA or wgmma read

// ---- sm_90: tiles between global and shared memory, by one thread

// The tile at element (x, y, ...), innermost first, to 1024-byte aligned shared memory. All bytes of the box count on
// the barrier, zeros beyond the tensor included. Multicast: into the same place, and onto the same barrier, of all
// blocks of the cluster whose bit is set in `mask`.
FOVEA_PTX void tma_load_2d(void* to, const TensorMap* map, uint64_t* barrier, int x, int y);
FOVEA_PTX void tma_load_2d_multicast(void* to, const TensorMap* map, uint64_t* barrier, int x, int y, uint16_t mask);
FOVEA_PTX void tma_load_4d(void* to, const TensorMap* map, uint64_t* barrier, int x, int y, int z, int w);
FOVEA_PTX void tma_store_2d(const TensorMap* map, const void* from, int x, int y);
FOVEA_PTX void tma_store_4d(const TensorMap* map, const void* from, int x, int y, int z, int w);
// Stores since the last commit are a group. wait_read<N>(): until all but the last N groups have read shared memory,
// which a block must await before it ends; wait_all(): until everything has been written.
FOVEA_PTX void tma_store_commit();
template <int N>
FOVEA_PTX void tma_store_wait_read();
FOVEA_PTX void tma_store_wait_all();
FOVEA_PTX void tma_prefetch(const TensorMap* map);

// ---- sm_90: blocks and warps

FOVEA_PTX uint32_t cluster_rank();
FOVEA_PTX void cluster_sync();  // all threads of all blocks of the cluster
// Barrier `id` (1..15; 0 is __syncthreads) of `threads` threads, a multiple of 32.
FOVEA_PTX void named_barrier_sync(int id, int threads);
// The warpgroup gives registers back, or waits for more, down or up to R per thread.
template <int R>
FOVEA_PTX void registers_release();
template <int R>
FOVEA_PTX void registers_claim();
// The warp stores four 8 x 8 matrices, the reverse of ldmatrix_x4.
FOVEA_PTX void stmatrix_x4(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3);

// ---- sm_90a: matrix products of a warpgroup

// How a matrix of 16-bit elements lies in shared memory, 128-byte swizzle, 1024-byte aligned. Bits 0..13 of a
// descriptor: address / 16; 16..29: leading byte offset / 16; 32..45: stride byte offset / 16, here always that from
// 8 rows of 128 bytes to the next; 62..63: the swizzle, 1 for 128 bytes.
//
// Transposed: for each k a row of 64 elements of the other axis (128 bytes), panel after panel of `panel_bytes` along
// that axis. The next 16 k are 2048 bytes further.
FOVEA_PTX uint64_t descriptor_mn_major(uint32_t address, uint32_t panel_bytes) {
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t(panel_bytes >> 4) << 16 | uint64_t(1024 >> 4) << 32 |
         uint64_t(1) << 62;
}
// K-major: rows of 64 k (128 bytes), row after row. The next 16 k are 32 bytes further; no use of the leading offset.
FOVEA_PTX uint64_t descriptor_k_major(uint32_t address) { return descriptor_mn_major(address, 16); }

FOVEA_PTX void wgmma_fence();  // before the first product, and after the program has touched its registers
FOVEA_PTX void wgmma_commit();
template <int N>
FOVEA_PTX void wgmma_wait();  // until all but the last N committed groups are done
// Keeps the compiler from moving accesses to `d` across: around products whose results are waited for later.
template <int N>
FOVEA_PTX void wgmma_keep(float (&d)[N]);

// D[64, N] = A[64, 16] B[16, N], added to D if `accumulate`, in the background: D must not be touched before it is
// waited for. Thread i holds, with g = i % 32 / 4 and t = 2 (i % 4), d[4 j], d[4 j + 1]: row 16 (i / 32) + g and
// columns 8 j + t and the next; d[4 j + 2], d[4 j + 3]: the same of row + 8. N is a multiple of 32.
template <class T, int N, bool kTransposeA = false, bool kTransposeB = false>
FOVEA_PTX void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate);
// A in registers, each warp's 16 rows as for mma_m16n8k16.
template <class T, int N, bool kTransposeB = false>
FOVEA_PTX void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int accumulate);

}  // namespace fovea::cuda

#if defined(__CUDACC__)
#include "cuda/ptx_sm80.h"
#include "cuda/ptx_sm90.h"
#include "cuda/wgmma.h"
#else
#include "test/emulator/ptx_emulated.h"
#endif
