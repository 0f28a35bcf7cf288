// The mathematical functions and bit operations of CUDA C++ that a host's <math.h> lacks.
//
// Those with a rounding mode in their name are what they say: one rounding, never contracted with a neighbour. The fast
// ones (__expf, ...) are as exact as the host's, so a test that needs their error must not count on finding it here.
#pragma once
#include <math.h>
#include <stdlib.h>

#include <bit>
#include <cstdint>

// ---- minimum and maximum, with the mixed types of CUDA; of a number and NaN, the number

inline int min(int a, int b) { return a < b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
inline long min(long a, long b) { return a < b ? a : b; }
inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double min(float a, double b) { return fmin(double(a), b); }
inline double min(double a, float b) { return fmin(a, double(b)); }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
inline long max(long a, long b) { return a < b ? b : a; }
inline unsigned long max(unsigned long a, unsigned long b) { return a < b ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a < b ? b : a; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double max(float a, double b) { return fmax(double(a), b); }
inline double max(double a, float b) { return fmax(a, double(b)); }

// ---- bits

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int i = 0; i < 32; i++) result |= (x >> i & 1u) << (31 - i);
  return result;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(unsigned(x))) << 32 | __brev(unsigned(x >> 32));
}
inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
// Four bytes of the eight in (a, b), chosen by the low 3 bits of each nibble; its high bit repeats the byte's sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t both = uint64_t(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    unsigned choice = selector >> (4 * i), byte = unsigned(both >> (8 * (choice & 7))) & 0xffu;
    if (choice & 8) byte = byte & 0x80u ? 0xffu : 0;
    result |= byte << (8 * i);
  }
  return result;
}
// c plus the products of signed bytes.
inline int __dp4a(int a, int b, int c) {
  for (int shift = 0; shift < 32; shift += 8) c += int(int8_t(a >> shift)) * int(int8_t(b >> shift));
  return c;
}

// ---- the same bits as another type

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __double2hiint(double x) { return int(std::bit_cast<uint64_t>(x) >> 32); }
inline int __double2loint(double x) { return int(uint32_t(std::bit_cast<uint64_t>(x))); }
inline double __hiloint2double(int high, int low) {
  return std::bit_cast<double>(uint64_t(uint32_t(high)) << 32 | uint32_t(low));
}

// ---- conversions: to the nearest even, down, up or towards zero; too large is the largest, NaN is 0

namespace fovea::emulator {
template <class Integer, class Float>
Integer saturate(Float x) {
  constexpr Integer lowest = Integer(Integer(-1) < 0 ? Integer(1) << (sizeof(Integer) * 8 - 1) : 0);
  constexpr Integer highest = Integer(~lowest);
  if (isnan(x)) return 0;
  if (x <= Float(lowest)) return lowest;
  return x >= Float(highest) ? highest : Integer(x);
}
// Keeps the compiler from fusing what it is given with the next operation.
template <class Float>
Float rounded(Float x) {
  asm("" : "+m"(x));
  return x;
}
}  // namespace fovea::emulator

inline int __float2int_rn(float x) { return fovea::emulator::saturate<int>(nearbyintf(x)); }
inline int __float2int_rz(float x) { return fovea::emulator::saturate<int>(truncf(x)); }
inline int __float2int_rd(float x) { return fovea::emulator::saturate<int>(floorf(x)); }
inline int __float2int_ru(float x) { return fovea::emulator::saturate<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return fovea::emulator::saturate<unsigned>(nearbyintf(x)); }
inline unsigned __float2uint_rz(float x) { return fovea::emulator::saturate<unsigned>(truncf(x)); }
inline long long __float2ll_rn(float x) { return fovea::emulator::saturate<long long>(nearbyintf(x)); }
inline long long __float2ll_rz(float x) { return fovea::emulator::saturate<long long>(truncf(x)); }
inline int __double2int_rn(double x) { return fovea::emulator::saturate<int>(nearbyint(x)); }
inline int __double2int_rz(double x) { return fovea::emulator::saturate<int>(trunc(x)); }
inline long long __double2ll_rn(double x) { return fovea::emulator::saturate<long long>(nearbyint(x)); }
inline long long __double2ll_rz(double x) { return fovea::emulator::saturate<long long>(trunc(x)); }
inline float __double2float_rn(double x) { return float(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline double __ll2double_rn(long long x) { return double(x); }

// ---- arithmetic with one rounding

inline float __fadd_rn(float a, float b) { return fovea::emulator::rounded(a + b); }
inline float __fsub_rn(float a, float b) { return fovea::emulator::rounded(a - b); }
inline float __fmul_rn(float a, float b) { return fovea::emulator::rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return fovea::emulator::rounded(a / b); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frsqrt_rn(float a) { return float(1.0 / sqrt(double(a))); }
inline double __dadd_rn(double a, double b) { return fovea::emulator::rounded(a + b); }
inline double __dsub_rn(double a, double b) { return fovea::emulator::rounded(a - b); }
inline double __dmul_rn(double a, double b) { return fovea::emulator::rounded(a * b); }
inline double __ddiv_rn(double a, double b) { return fovea::emulator::rounded(a / b); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return sqrt(a); }

// ---- functions

constexpr double kFoveaEmulatorPi = 3.141592653589793238462643383279502884;

inline float rsqrtf(float x) { return float(1.0 / sqrt(double(x))); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float rcbrtf(float x) { return float(1.0 / cbrt(double(x))); }
inline float sinpif(float x) { return float(sin(kFoveaEmulatorPi * fmod(double(x), 2))); }
inline float cospif(float x) { return float(cos(kFoveaEmulatorPi * fmod(double(x), 2))); }
inline double sinpi(double x) { return sin(kFoveaEmulatorPi * fmod(x, 2)); }
inline double cospi(double x) { return cos(kFoveaEmulatorPi * fmod(x, 2)); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline float normcdff(float x) { return float(0.5 * erfc(-double(x) * sqrt(0.5))); }
inline double normcdf(double x) { return 0.5 * erfc(-x * sqrt(0.5)); }
inline float fdividef(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
inline float __saturatef(float x) { return x > 0 ? fminf(x, 1.0f) : 0.0f; }
