// Products of warpgroups (wgmma): acc[64 x N] += a[64 x 16] * b[N x 16]^T, operands bf16 or f16, sums f32, N = 16, 32
// ... 256. Needs sm_90a.
//
// A warpgroup is four warps of which the first has a number divisible by 4. Thread t of it holds of the sum, for
// j = 0 .. N/8-1, in acc[4j .. 4j+3]:
//   row 16 (t/32) + (t%32)/4,      columns 8j + 2 (t%4) and the next,
//   row 16 (t/32) + (t%32)/4 + 8,  the same columns.
// As the operand a from registers it holds in a[0 .. 3], packed in pairs of columns: the upper row at columns 2 (t%4),
// the lower row there, the upper row at columns 2 (t%4) + 8, the lower row there.
//
// Operands in shared memory are described by a descriptor of tiles with the 128-byte swizzle: rows of 64 elements along
// k (128 bytes), groups of 8 rows 1024 bytes apart, at a multiple of 1024 bytes. Step s of 16 along k is the descriptor
// plus 2 s. An operand b that has n as its fastest dimension (TRANSPOSED) lies in tiles of 64 columns of n: a row of
// 128 bytes for every k; step s is the descriptor plus 128 s.
//
// Order: begin_products(), products, commit_products(), then wait_for_products<how many groups may still run>(). Sums
// (and operands in registers) are not touched between; hold(acc) after the wait keeps the compiler from doing so.
#pragma once

#include "device/prelude.cuh"

__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
template <int COUNT>
__device__ __forceinline__ void hold(float (&values)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(values[i])::"memory");
}

// k is the fastest dimension.
__device__ __forceinline__ uint64 describe_tile(const void* shared) {
  return (uint64(1) << 62) | (uint64(64) << 32) | (uint64(1) << 16) | ((shared_address(shared) & 0x3ffff) >> 4);
}
// n is the fastest dimension; tiles of 64 columns lie `column_bytes` apart.
__device__ __forceinline__ uint64 describe_transposed_tile(const void* shared, uint32 column_bytes) {
  return (uint64(1) << 62) | (uint64(64) << 32) | (uint64(column_bytes >> 4) << 16) |
         ((shared_address(shared) & 0x3ffff) >> 4);
}

// Four matrices of 8 x 8 elements of 2 bytes, packed in pairs as above (one register each): lane i gives the address of
// row i % 8 of matrix i / 8, 16 bytes.
__device__ __forceinline__ void store_matrices(void* row, uint32 a, uint32 b, uint32 c, uint32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}

// run(acc, a, b, add): acc = (add ? acc : 0) + a * b^T.
template <class T, int N>
struct Wgmma;

// clang-format off
// Piece by piece of 16 columns: the sums as operands, and their numbers.
#define INGOT_SUMS(i)                                                                                                  \
  "+f"(acc[8 * i]), "+f"(acc[8 * i + 1]), "+f"(acc[8 * i + 2]), "+f"(acc[8 * i + 3]), "+f"(acc[8 * i + 4]),            \
      "+f"(acc[8 * i + 5]), "+f"(acc[8 * i + 6]), "+f"(acc[8 * i + 7])
#define INGOT_SUMS_0 INGOT_SUMS(0)
#define INGOT_SUMS_1 INGOT_SUMS_0, INGOT_SUMS(1)
#define INGOT_SUMS_2 INGOT_SUMS_1, INGOT_SUMS(2)
#define INGOT_SUMS_3 INGOT_SUMS_2, INGOT_SUMS(3)
#define INGOT_SUMS_4 INGOT_SUMS_3, INGOT_SUMS(4)
#define INGOT_SUMS_5 INGOT_SUMS_4, INGOT_SUMS(5)
#define INGOT_SUMS_6 INGOT_SUMS_5, INGOT_SUMS(6)
#define INGOT_SUMS_7 INGOT_SUMS_6, INGOT_SUMS(7)
#define INGOT_SUMS_8 INGOT_SUMS_7, INGOT_SUMS(8)
#define INGOT_SUMS_9 INGOT_SUMS_8, INGOT_SUMS(9)
#define INGOT_SUMS_10 INGOT_SUMS_9, INGOT_SUMS(10)
#define INGOT_SUMS_11 INGOT_SUMS_10, INGOT_SUMS(11)
#define INGOT_SUMS_12 INGOT_SUMS_11, INGOT_SUMS(12)
#define INGOT_SUMS_13 INGOT_SUMS_12, INGOT_SUMS(13)
#define INGOT_SUMS_14 INGOT_SUMS_13, INGOT_SUMS(14)
#define INGOT_SUMS_15 INGOT_SUMS_14, INGOT_SUMS(15)
#define INGOT_NUMBERS_0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define INGOT_NUMBERS_1 INGOT_NUMBERS_0 ", " "%8, %9, %10, %11, %12, %13, %14, %15"
#define INGOT_NUMBERS_2 INGOT_NUMBERS_1 ", " "%16, %17, %18, %19, %20, %21, %22, %23"
#define INGOT_NUMBERS_3 INGOT_NUMBERS_2 ", " "%24, %25, %26, %27, %28, %29, %30, %31"
#define INGOT_NUMBERS_4 INGOT_NUMBERS_3 ", " "%32, %33, %34, %35, %36, %37, %38, %39"
#define INGOT_NUMBERS_5 INGOT_NUMBERS_4 ", " "%40, %41, %42, %43, %44, %45, %46, %47"
#define INGOT_NUMBERS_6 INGOT_NUMBERS_5 ", " "%48, %49, %50, %51, %52, %53, %54, %55"
#define INGOT_NUMBERS_7 INGOT_NUMBERS_6 ", " "%56, %57, %58, %59, %60, %61, %62, %63"
#define INGOT_NUMBERS_8 INGOT_NUMBERS_7 ", " "%64, %65, %66, %67, %68, %69, %70, %71"
#define INGOT_NUMBERS_9 INGOT_NUMBERS_8 ", " "%72, %73, %74, %75, %76, %77, %78, %79"
#define INGOT_NUMBERS_10 INGOT_NUMBERS_9 ", " "%80, %81, %82, %83, %84, %85, %86, %87"
#define INGOT_NUMBERS_11 INGOT_NUMBERS_10 ", " "%88, %89, %90, %91, %92, %93, %94, %95"
#define INGOT_NUMBERS_12 INGOT_NUMBERS_11 ", " "%96, %97, %98, %99, %100, %101, %102, %103"
#define INGOT_NUMBERS_13 INGOT_NUMBERS_12 ", " "%104, %105, %106, %107, %108, %109, %110, %111"
#define INGOT_NUMBERS_14 INGOT_NUMBERS_13 ", " "%112, %113, %114, %115, %116, %117, %118, %119"
#define INGOT_NUMBERS_15 INGOT_NUMBERS_14 ", " "%120, %121, %122, %123, %124, %125, %126, %127"

// A .. G: the numbers of the operands behind the sums.
#define INGOT_WGMMA(TYPE, SUFFIX, N, LAST, A, B, C, D, E, F, G)                                                        \
  template <>                                                                                                          \
  struct Wgmma<TYPE, N> {                                                                                              \
    static constexpr int kSums = N / 2;                                                                                \
    template <int TRANSPOSED = 0>                                                                                      \
    static __device__ __forceinline__ void run(float (&acc)[N / 2], uint64 a, uint64 b, bool add) {                    \
      asm volatile("{.reg .pred p; setp.ne.b32 p, %" #C ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." SUFFIX  \
                   " {" INGOT_NUMBERS_##LAST "}, %" #A ", %" #B ", p, 1, 1, 0, %" #D ";}"                              \
                   : INGOT_SUMS_##LAST                                                                                 \
                   : "l"(a), "l"(b), "r"(int(add)), "n"(TRANSPOSED));                                                  \
    }                                                                                                                  \
    template <int TRANSPOSED = 0>                                                                                      \
    static __device__ __forceinline__ void run(float (&acc)[N / 2], const uint32 (&a)[4], uint64 b, bool add) {        \
      asm volatile("{.reg .pred p; setp.ne.b32 p, %" #F ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." SUFFIX  \
                   " {" INGOT_NUMBERS_##LAST "}, {%" #A ", %" #B ", %" #C ", %" #D "}, %" #E ", p, 1, 1, %" #G ";}"    \
                   : INGOT_SUMS_##LAST                                                                                 \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)), "n"(TRANSPOSED));              \
    }                                                                                                                  \
  };
#define INGOT_WGMMA_TYPES(N, LAST, A, B, C, D, E, F, G)                                                                \
  INGOT_WGMMA(bf16, "bf16.bf16", N, LAST, A, B, C, D, E, F, G)                                                         \
  INGOT_WGMMA(f16, "f16.f16", N, LAST, A, B, C, D, E, F, G)
INGOT_WGMMA_TYPES(16, 0, 8, 9, 10, 11, 12, 13, 14)
INGOT_WGMMA_TYPES(32, 1, 16, 17, 18, 19, 20, 21, 22)
INGOT_WGMMA_TYPES(48, 2, 24, 25, 26, 27, 28, 29, 30)
INGOT_WGMMA_TYPES(64, 3, 32, 33, 34, 35, 36, 37, 38)
INGOT_WGMMA_TYPES(80, 4, 40, 41, 42, 43, 44, 45, 46)
INGOT_WGMMA_TYPES(96, 5, 48, 49, 50, 51, 52, 53, 54)
INGOT_WGMMA_TYPES(112, 6, 56, 57, 58, 59, 60, 61, 62)
INGOT_WGMMA_TYPES(128, 7, 64, 65, 66, 67, 68, 69, 70)
INGOT_WGMMA_TYPES(144, 8, 72, 73, 74, 75, 76, 77, 78)
INGOT_WGMMA_TYPES(160, 9, 80, 81, 82, 83, 84, 85, 86)
INGOT_WGMMA_TYPES(176, 10, 88, 89, 90, 91, 92, 93, 94)
INGOT_WGMMA_TYPES(192, 11, 96, 97, 98, 99, 100, 101, 102)
INGOT_WGMMA_TYPES(208, 12, 104, 105, 106, 107, 108, 109, 110)
INGOT_WGMMA_TYPES(224, 13, 112, 113, 114, 115, 116, 117, 118)
INGOT_WGMMA_TYPES(240, 14, 120, 121, 122, 123, 124, 125, 126)
INGOT_WGMMA_TYPES(256, 15, 128, 129, 130, 131, 132, 133, 134)
#undef INGOT_WGMMA_TYPES
#undef INGOT_WGMMA
// clang-format on
