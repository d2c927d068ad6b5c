// Tensor-core products of one warp over 16-bit operands with sums in f32 (sm_80 and later), and their operands' loads.
//
// With lane = 4 g + t, the operands of C[16, 8] += A[16, 16] · B[16, 8] lie in registers as
//   a[0] A[g][2t, 2t+1]   a[1] A[g+8][2t, 2t+1]   a[2] A[g][2t+8, 2t+9]   a[3] A[g+8][2t+8, 2t+9]
//   b[0] B[2t, 2t+1][g]   b[1] B[2t+8, 2t+9][g]
//   c[0] C[g][2t]   c[1] C[g][2t+1]   c[2] C[g+8][2t]   c[3] C[g+8][2t+1]
#pragma once

#include "device/prelude.cuh"

__device__ __forceinline__ void mma(bf16, float (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma(f16, float (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

template <class T>
__device__ __forceinline__ void mma(T type, float (&c)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  mma(type, c, a[0], a[1], a[2], a[3], b0, b1);
}

// Four 8 x 8 matrices of 16-bit elements: lanes 8 i … 8 i + 7 give the addresses of the rows of matrix i, 16 bytes each;
// v[i] is then this lane's row g, elements 2t and 2t+1, of matrix i.
__device__ __forceinline__ void load_matrices(uint32 (&v)[4], uint32 shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(shared_row)
               : "memory");
}
// The same of the matrices transposed.
__device__ __forceinline__ void load_transposed(uint32 (&v)[4], uint32 shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(shared_row)
               : "memory");
}
// Transposes an 8 x 8 matrix that lies in the registers of a warp, a pair of elements of row g in lane 4 g + t.
__device__ __forceinline__ uint32 transposed(uint32 v) {
  uint32 y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(v));
  return y;
}
