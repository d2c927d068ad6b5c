// What the kernels that multiply pairs of bf16 share. Included into the namespace of one instruction set, after the
// epilogue. A strip tile is 16 k pairs of 16 features, 1 KiB: what a packed weight holds for 32 k.

// Where a strip's tiles are: `step` bytes apart for successive 32 k, with rows (k pairs) `stride` bytes apart.
struct PairStrip {
  const char* tiles;
  int64_t step, stride;
};

static PairStrip packed_strip(const MatmulTask& task, int64_t column, int64_t k_begin) {
  StripPlace place = strip_place<BF16Weights>(task, column);
  int64_t stride = place.step_stride * 2;
  return {static_cast<const char*>(task.w) + place.offset * 2 + k_begin / 2 * stride, stride * 16, stride};
}

// 32 floats as bf16, rounded to nearest even, the ones from `count` on as zeros.
static INGOT_INLINE __m512i round_to_bf16(const float* x, int64_t count) {
  Reg low = load_floats(x, count), high = count > 16 ? load_floats(x + 16, count - 16) : V::zero();
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Row-major weights of 16 features as tiles of a strip, `tiles` of them, zeros past n and k.
static void unpack_strip(const MatmulTask& task, int64_t column, int64_t k_begin, int64_t tiles, char* out) {
  for (int64_t tile = 0; tile < tiles; ++tile, out += kTileBytes) {
    Reg square[16];
    int64_t k = k_begin + tile * 32;
    for (int i = 0; i < 16; ++i)
      square[i] = column + i < task.n
                      ? load_some_pairs<BF16Weights>(static_cast<const uint16_t*>(task.w) + (column + i) * task.k + k,
                                                     task.k - k)
                      : V::zero();
    V::transpose(square);
    for (int i = 0; i < 16; ++i) _mm512_storeu_ps(out + i * 64, square[i]);
  }
}

static INGOT_INLINE int64_t block_depth(const MatmulTask& task, int64_t k_begin) {
  return task.k - k_begin < task.k_block ? task.k - k_begin : task.k_block;
}

// The strips of one tile of columns for one block of k; row-major weights are unpacked to `panel`. Strips past n repeat
// the last one, their products are not stored.
template <int kStrips>
static void find_strips(const MatmulTask& task, int64_t column, int64_t k_begin, char* panel,
                        PairStrip (&strips)[kStrips]) {
  int64_t tiles = (block_depth(task, k_begin) + 31) / 32;
  for (int i = 0; i < kStrips; ++i) {
    int64_t first = column + i * kStripColumns;
    if (i > 0 && first >= task.n) {
      strips[i] = strips[i - 1];
    } else if (task.panel_columns > 0) {
      strips[i] = packed_strip(task, first, k_begin);
    } else {
      char* out = panel + i * tiles * kTileBytes;
      unpack_strip(task, first, k_begin, tiles, out);
      strips[i] = {out, kTileBytes, 64};
    }
  }
}
