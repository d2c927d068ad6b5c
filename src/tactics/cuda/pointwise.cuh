// y[r, c] = RESULT, an expression of the floats a and b, for every row r and column c < WIDTH
//
//   a = A[r', A_BEGIN + c] in rows of A_STRIDE elements; r' = r, or picked[r] with PICKED
//   b = B[r, B_BEGIN + c] in rows of B_STRIDE elements; a stride of 0 is one row for all, a negative one no b
//
// Elementwise ops, embeddings, gathers, slices and casts are this kernel with other strides. A thread makes PACKS packs
// of PACK neighbouring elements: all loads, then all results. The caller sees to it that PACK divides WIDTH, the
// strides and the begins, that buffers are at multiples of 16 bytes, and that there are fewer than 2^31 packs.
#include "device/activation.cuh"
#include "device/elements.cuh"

constexpr uint32 kRowPacks = WIDTH / PACK;

extern "C" __global__ void __launch_bounds__(BLOCK)
    pointwise(const A_TYPE* a, const B_TYPE* b, const int* picked, Y_TYPE* y, int rows) {
  allow_next();
  const uint32 packs = uint32(rows) * kRowPacks, first = blockIdx.x * (BLOCK * PACKS) + threadIdx.x;
  wait_for_previous();
  float as[PACKS][PACK], bs[PACKS][PACK];
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    const uint32 pack = first + i * BLOCK, row = pack / kRowPacks;
    if (pack >= packs) break;
    const int64 column = (pack - row * kRowPacks) * PACK;
    const int64 a_row = PICKED ? picked[row] : row;
    load_floats<PACK>(a + a_row * A_STRIDE + A_BEGIN + column, as[i]);
    if (B_STRIDE >= 0) load_floats<PACK>(b + int64(row) * B_STRIDE + B_BEGIN + column, bs[i]);
  }
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    const uint32 pack = first + i * BLOCK;
    if (pack >= packs) break;
    float results[PACK];
#pragma unroll
    for (int j = 0; j < PACK; ++j) {
      const float a = as[i][j], b = bs[i][j];
      (void)b;
      results[j] = RESULT;
    }
    store_floats<PACK>(y + int64(pack) * PACK, results);
  }
}
