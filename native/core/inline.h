// Kernel files are compiled once per instruction set. An ordinary inline function that they share would be emitted once
// per set under one name, and the linker could keep the AVX-512 copy for a machine without AVX-512. So everything that
// kernel files include is plain data, lives in an anonymous namespace, or is forced inline.
#pragma once
#define FOVEA_INLINE inline __attribute__((always_inline))
