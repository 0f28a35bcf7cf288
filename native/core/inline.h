// Kernel files are compiled once per instruction set. An ordinary inline function that they share would be emitted once
// per set under one name, and the linker could keep the AVX-512 copy for a machine without AVX-512. So everything that
// kernel files include is plain data, lives in an anonymous namespace, or is forced inline. nvcc compiles the same
// functions for the device, too, but for FOVEA_HOST_INLINE, which look into tables that are not there.
#pragma once
#define FOVEA_HOST_INLINE inline __attribute__((always_inline))
#if defined(__CUDACC__)
#define FOVEA_INLINE __host__ __device__ inline __attribute__((always_inline))
#else
#define FOVEA_INLINE FOVEA_HOST_INLINE
#endif
