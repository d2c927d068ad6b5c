// y[r, c] = RESULT, an expression of the floats a, b, c and d, for every row r and column < WIDTH
//
//   a = A[r', A_BEGIN + column] in rows of A_STRIDE elements; r' = r, or picked[r] with PICKED
//   b = B[r, B_BEGIN + column] in rows of B_STRIDE elements; a stride of 0 is one row for all, a negative one no b
//   c and d as b, from the first column on
//
// Elementwise ops and chains of them, embeddings, gathers, slices and casts are this kernel with other strides. A
// thread makes PACK neighbouring elements: loads what it needs once and stores once, however long the expression. The
// caller sees to it that PACK divides WIDTH, the strides and the begins, that buffers are at multiples of 16 bytes, and
// that there are fewer than 2^31 packs.
#include "device/activation.cuh"
#include "device/elements.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK)
    pointwise(const A_TYPE* as, const B_TYPE* bs, const C_TYPE* cs, const D_TYPE* ds, const int* picked, Y_TYPE* y,
              int rows) {
  constexpr uint32 kRowPacks = WIDTH / PACK;
  allow_next();
  const uint32 pack = blockIdx.x * BLOCK + threadIdx.x, row = pack / kRowPacks;
  const int64 column = (pack - row * kRowPacks) * PACK;
  wait_for_previous();
  if (row >= uint32(rows)) return;
  const int64 a_row = PICKED ? picked[row] : row;
  float a_values[PACK], b_values[PACK] = {}, c_values[PACK] = {}, d_values[PACK] = {}, results[PACK];
  load_floats<PACK>(as + a_row * A_STRIDE + A_BEGIN + column, a_values);
  if (B_STRIDE >= 0) load_floats<PACK>(bs + int64(row) * B_STRIDE + B_BEGIN + column, b_values);
  if (C_STRIDE >= 0) load_floats<PACK>(cs + int64(row) * C_STRIDE + column, c_values);
  if (D_STRIDE >= 0) load_floats<PACK>(ds + int64(row) * D_STRIDE + column, d_values);
#pragma unroll
  for (int i = 0; i < PACK; ++i) {
    [[maybe_unused]] const float a = a_values[i], b = b_values[i], c = c_values[i], d = d_values[i];
    results[i] = RESULT;
  }
  store_floats<PACK>(y + int64(pack) * PACK, results);
}
