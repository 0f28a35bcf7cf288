// PTX of the matrix products of sm_90a; what each function does stands in ptx.h, which includes this file.
//
// Inline PTX numbers its operands and wants each accumulator spelled out: %0 to %(N / 2 - 1), then the others. The
// macros below spell them in steps of 16 accumulators, which are 32 columns.
#pragma once
#include "cuda/ptx.h"

namespace fovea::cuda {

FOVEA_PTX void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FOVEA_PTX void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
FOVEA_PTX void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
template <int N>
FOVEA_PTX void wgmma_keep(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// clang-format off
#define FOVEA_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FOVEA_NAMES_32 FOVEA_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FOVEA_NAMES_48 FOVEA_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define FOVEA_NAMES_64 FOVEA_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FOVEA_NAMES_80 FOVEA_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define FOVEA_NAMES_96 FOVEA_NAMES_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define FOVEA_NAMES_112 FOVEA_NAMES_96 \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define FOVEA_NAMES_128 FOVEA_NAMES_112 \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define FOVEA_FROM(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
  "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7]), "+f"(d[i + 8]), "+f"(d[i + 9]), \
  "+f"(d[i + 10]), "+f"(d[i + 11]), "+f"(d[i + 12]), "+f"(d[i + 13]), "+f"(d[i + 14]), "+f"(d[i + 15])
#define FOVEA_VALUES_16 FOVEA_FROM(0)
#define FOVEA_VALUES_32 FOVEA_VALUES_16, FOVEA_FROM(16)
#define FOVEA_VALUES_48 FOVEA_VALUES_32, FOVEA_FROM(32)
#define FOVEA_VALUES_64 FOVEA_VALUES_48, FOVEA_FROM(48)
#define FOVEA_VALUES_80 FOVEA_VALUES_64, FOVEA_FROM(64)
#define FOVEA_VALUES_96 FOVEA_VALUES_80, FOVEA_FROM(80)
#define FOVEA_VALUES_112 FOVEA_VALUES_96, FOVEA_FROM(96)
#define FOVEA_VALUES_128 FOVEA_VALUES_112, FOVEA_FROM(112)

// One instruction with `count` accumulators, m64n<n>k16; the numbers of the operands that follow them are given.
#define FOVEA_WGMMA_SS(type, n, count, a_, b_, accumulate_, transpose_a, transpose_b)                             \
  asm volatile("{ .reg .pred p;\nsetp.ne.b32 p, %" #accumulate_ ", 0;\n"                                          \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" FOVEA_NAMES_##count "}, "     \
               "%" #a_ ", %" #b_ ", p, 1, 1, %" #transpose_a ", %" #transpose_b "; }"                             \
               : FOVEA_VALUES_##count                                                                             \
               : "l"(a), "l"(b), "r"(accumulate), "n"(int(kTransposeA)), "n"(int(kTransposeB)))
#define FOVEA_WGMMA_RS(type, n, count, a0, a1, a2, a3, b_, accumulate_, transpose_b)                              \
  asm volatile("{ .reg .pred p;\nsetp.ne.b32 p, %" #accumulate_ ", 0;\n"                                          \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" FOVEA_NAMES_##count "}, "     \
               "{%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b_ ", p, 1, 1, %" #transpose_b "; }"                \
               : FOVEA_VALUES_##count                                                                             \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(int(kTransposeB)))

#define FOVEA_WGMMA_SS_ANY(type)                                                \
  if constexpr (N == 32) FOVEA_WGMMA_SS(type, 32, 16, 16, 17, 18, 19, 20);      \
  else if constexpr (N == 64) FOVEA_WGMMA_SS(type, 64, 32, 32, 33, 34, 35, 36); \
  else if constexpr (N == 96) FOVEA_WGMMA_SS(type, 96, 48, 48, 49, 50, 51, 52); \
  else if constexpr (N == 128) FOVEA_WGMMA_SS(type, 128, 64, 64, 65, 66, 67, 68); \
  else if constexpr (N == 160) FOVEA_WGMMA_SS(type, 160, 80, 80, 81, 82, 83, 84); \
  else if constexpr (N == 192) FOVEA_WGMMA_SS(type, 192, 96, 96, 97, 98, 99, 100); \
  else if constexpr (N == 224) FOVEA_WGMMA_SS(type, 224, 112, 112, 113, 114, 115, 116); \
  else FOVEA_WGMMA_SS(type, 256, 128, 128, 129, 130, 131, 132)
#define FOVEA_WGMMA_RS_ANY(type)                                                        \
  if constexpr (N == 32) FOVEA_WGMMA_RS(type, 32, 16, 16, 17, 18, 19, 20, 21, 22);      \
  else if constexpr (N == 64) FOVEA_WGMMA_RS(type, 64, 32, 32, 33, 34, 35, 36, 37, 38); \
  else if constexpr (N == 96) FOVEA_WGMMA_RS(type, 96, 48, 48, 49, 50, 51, 52, 53, 54); \
  else if constexpr (N == 128) FOVEA_WGMMA_RS(type, 128, 64, 64, 65, 66, 67, 68, 69, 70); \
  else if constexpr (N == 160) FOVEA_WGMMA_RS(type, 160, 80, 80, 81, 82, 83, 84, 85, 86); \
  else if constexpr (N == 192) FOVEA_WGMMA_RS(type, 192, 96, 96, 97, 98, 99, 100, 101, 102); \
  else if constexpr (N == 224) FOVEA_WGMMA_RS(type, 224, 112, 112, 113, 114, 115, 116, 117, 118); \
  else FOVEA_WGMMA_RS(type, 256, 128, 128, 129, 130, 131, 132, 133, 134)
// clang-format on

template <class T, int N, bool kTransposeA, bool kTransposeB>
FOVEA_PTX void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate) {
  static_assert(N % 32 == 0 && N >= 32 && N <= 256);
  if constexpr (kSame<T, Half>) {
    FOVEA_WGMMA_SS_ANY("f16");
  } else {
    FOVEA_WGMMA_SS_ANY("bf16");
  }
}
template <class T, int N, bool kTransposeB>
FOVEA_PTX void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  static_assert(N % 32 == 0 && N >= 32 && N <= 256);
  if constexpr (kSame<T, Half>) {
    FOVEA_WGMMA_RS_ANY("f16");
  } else {
    FOVEA_WGMMA_RS_ANY("bf16");
  }
}

#undef FOVEA_WGMMA_SS_ANY
#undef FOVEA_WGMMA_RS_ANY
#undef FOVEA_WGMMA_SS
#undef FOVEA_WGMMA_RS
#undef FOVEA_FROM
#undef FOVEA_VALUES_16
#undef FOVEA_VALUES_32
#undef FOVEA_VALUES_48
#undef FOVEA_VALUES_64
#undef FOVEA_VALUES_80
#undef FOVEA_VALUES_96
#undef FOVEA_VALUES_112
#undef FOVEA_VALUES_128
#undef FOVEA_NAMES_16
#undef FOVEA_NAMES_32
#undef FOVEA_NAMES_48
#undef FOVEA_NAMES_64
#undef FOVEA_NAMES_80
#undef FOVEA_NAMES_96
#undef FOVEA_NAMES_112
#undef FOVEA_NAMES_128

}  // namespace fovea::cuda
