// Storage types on the device: 16-bit floats are computed through float32, everything else as itself.
#pragma once
#include "core/half.h"
#include "cuda/kernel.h"
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace fovea::cuda {

// What a kernel computes an element of type T in.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<Half> {
  using type = float;
};
template <>
struct ComputeOf<Bfloat16> {
  using type = float;
};
template <>
struct ComputeOf<Bool> {
  using type = bool;
};
template <class T>
using Compute = typename ComputeOf<T>::type;
// What sums of T are accumulated in: float64 for itself, else float32 (accumulator_of in core/dtype.h).
template <class T>
using Accumulator = std::conditional_t<kSame<T, double>, double, float>;

// Rounded to nearest even; the device's own instructions where there are some.
template <class T>
FOVEA_INLINE Compute<T> widen(T x) {
  return x;
}
FOVEA_INLINE float widen(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  return to_float(x);
#endif
}
FOVEA_INLINE float widen(Bfloat16 x) { return to_float(x); }
FOVEA_INLINE bool widen(Bool x) { return x.value != 0; }

template <class T>
FOVEA_INLINE T narrow(Compute<T> x) {
  return x;
}
template <>
FOVEA_INLINE Half narrow<Half>(float x) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(x))};
#else
  return to_half(x);
#endif
}
template <>
FOVEA_INLINE Bfloat16 narrow<Bfloat16>(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
  return to_bfloat16(x);
#endif
}
template <>
FOVEA_INLINE Bool narrow<Bool>(bool x) {
  return {uint8_t(x)};
}

// Calls body with a value of the storage type of `dtype`:
//   dispatch(x.dtype, [&](auto zero) { using T = decltype(zero); ... })
template <class Body>
void dispatch(Dtype dtype, Body&& body) {
  switch (dtype) {
    case Dtype::f32: return body(float{});
    case Dtype::f64: return body(double{});
    case Dtype::f16: return body(Half{});
    case Dtype::bf16: return body(Bfloat16{});
    case Dtype::i32: return body(int32_t{});
    case Dtype::i64: return body(int64_t{});
    case Dtype::u8: return body(uint8_t{});
    case Dtype::i8: return body(int8_t{});
    case Dtype::boolean: return body(Bool{});
  }
}
template <class Body>
void dispatch_float(Dtype dtype, Body&& body) {
  switch (dtype) {
    case Dtype::f64: return body(double{});
    case Dtype::f16: return body(Half{});
    case Dtype::bf16: return body(Bfloat16{});
    default: return body(float{});
  }
}

}  // namespace fovea::cuda
