#include <immintrin.h>

#include "kernels/cpu/tiles.h"

namespace ingot {

void put_in_tiles(const TiledRows& to, int64_t row, int64_t column, const float* x, int64_t count) {
  for (const int64_t end = column + count; column < end;) {
    const int64_t block_end = (column / to.block + 1) * to.block, stop = block_end < end ? block_end : end;
    for (char* line = tile_row(to, row, column); column < stop; column += kTileColumns, line += kTileBytes, x += 32) {
      // The next row of the tile is written long after this one, too far apart for the hardware to foresee.
      __builtin_prefetch(line + kTileRowBytes, 1);
      const __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
      _mm512_storeu_si512(line, reinterpret_cast<__m512i>(rounded));
    }
  }
}

}  // namespace ingot
