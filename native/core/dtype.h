// Element types. float16 and bfloat16 are storage only: kernels compute them through float32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/inline.h"

namespace fovea {

enum class Dtype : uint8_t { f32, f64, f16, bf16, i32, i64, u8, i8, boolean };
constexpr int kDtypes = 9;

// Storage types: 16-bit floats are kept apart from integers of the same width.
struct Half {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};
struct Bool {
  uint8_t value;
};

constexpr size_t kDtypeBytes[kDtypes] = {4, 8, 2, 2, 4, 8, 1, 1, 1};
constexpr const char* kDtypeNames[kDtypes] = {"float32", "float64", "float16", "bfloat16", "int32",
                                              "int64",   "uint8",   "int8",    "bool"};

FOVEA_HOST_INLINE size_t bytes_of(Dtype t) { return kDtypeBytes[int(t)]; }
FOVEA_HOST_INLINE const char* name_of(Dtype t) { return kDtypeNames[int(t)]; }

// Sets of dtypes, for the type rule of an op.
using DtypeSet = uint16_t;
constexpr DtypeSet set_of(Dtype t) { return DtypeSet(1u << int(t)); }
constexpr DtypeSet kFloatTypes = 0b000001111, kIntTypes = 0b011110000, kBoolType = 0b100000000, kAnyType = 0b111111111;

// What a kernel accumulates in, and what statistics (mean, lse, ...) are stored in.
FOVEA_INLINE Dtype accumulator_of(Dtype t) { return t == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

}  // namespace fovea
