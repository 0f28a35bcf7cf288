// The words and the small vector types of CUDA C++, for a host compiler.
#pragma once
#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

namespace fovea::emulator {

// Vectors of 2 and 4 are aligned to their size, at most 16 bytes, so that a sanitizer sees a misaligned access.
template <class T>
struct Vector1 {
  T x;
};
template <class T>
struct alignas(sizeof(T) * 2) Vector2 {
  T x, y;
};
template <class T>
struct Vector3 {
  T x, y, z;
};
template <class T>
struct alignas(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4) Vector4 {
  T x, y, z, w;
};

}  // namespace fovea::emulator

#define FOVEA_EMULATOR_VECTORS(name, T)                                 \
  using name##1 = ::fovea::emulator::Vector1<T>;                        \
  using name##2 = ::fovea::emulator::Vector2<T>;                        \
  using name##3 = ::fovea::emulator::Vector3<T>;                        \
  using name##4 = ::fovea::emulator::Vector4<T>;                        \
  constexpr name##1 make_##name##1(T x) { return {x}; }                 \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
FOVEA_EMULATOR_VECTORS(char, signed char)
FOVEA_EMULATOR_VECTORS(uchar, unsigned char)
FOVEA_EMULATOR_VECTORS(short, short)
FOVEA_EMULATOR_VECTORS(ushort, unsigned short)
FOVEA_EMULATOR_VECTORS(int, int)
FOVEA_EMULATOR_VECTORS(uint, unsigned)
FOVEA_EMULATOR_VECTORS(long, long)
FOVEA_EMULATOR_VECTORS(ulong, unsigned long)
FOVEA_EMULATOR_VECTORS(longlong, long long)
FOVEA_EMULATOR_VECTORS(ulonglong, unsigned long long)
FOVEA_EMULATOR_VECTORS(float, float)
FOVEA_EMULATOR_VECTORS(double, double)
#undef FOVEA_EMULATOR_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

// Of the CUDA thread that runs; the emulator sets them whenever it goes from one to another.
inline thread_local constinit uint3 threadIdx{}, blockIdx{};
inline thread_local constinit dim3 blockDim{}, gridDim{};
constexpr int warpSize = 32;
