// Values that go from one step to another as a product packs them (AMX): rounded to bf16, in tiles of 16 rows by 32
// columns. Blocks of kMatmulRowBlock rows follow each other, in each of these blocks of `block` columns, in each of
// these the row tiles, each a run of tiles; what is missing of the last row tile is undefined. The columns are a
// multiple of 32. Functions here are static because files for wide instruction sets include them.
#pragma once

#include <cstdint>

namespace ingot {

// Products take rows in blocks of at most so many, which bounds their scratch memory.
constexpr int64_t kMatmulRowBlock = 512;

constexpr int64_t kTileRows = 16, kTileColumns = 32;
constexpr int64_t kTileBytes = 1024, kTileRowBytes = 64;

// The first tile of a row tile, in the block of `depth` columns from `begin` on, of one block of rows.
static inline char* tile_at(void* packed, int64_t rows, int64_t begin, int64_t depth, int64_t tile) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows, steps = (depth + kTileColumns - 1) / kTileColumns;
  return static_cast<char*>(packed) + (begin / kTileColumns * tiles + tile * steps) * kTileBytes;
}

struct TiledRows {
  void* data = nullptr;
  int64_t rows = 0, columns = 0, block = 0;
};

// The row of a tile that holds the 32 columns from `column` on; the next ones, up to the end of the block, are
// kTileBytes further on each.
static inline char* tile_row(const TiledRows& to, int64_t row, int64_t column) {
  const int64_t first = row / kMatmulRowBlock * kMatmulRowBlock, begin = column / to.block * to.block;
  const int64_t rows = to.rows - first < kMatmulRowBlock ? to.rows - first : kMatmulRowBlock;
  const int64_t depth = to.columns - begin < to.block ? to.columns - begin : to.block;
  char* tiles =
      tile_at(static_cast<char*>(to.data) + first * to.columns * 2, rows, begin, depth, (row - first) / kTileRows);
  return tiles + (column - begin) / kTileColumns * kTileBytes + (row - first) % kTileRows * kTileRowBytes;
}

// Rounds `count` floats, a multiple of 32, to the columns from `column` on. For machines with avx512_bf16.
void put_in_tiles(const TiledRows& to, int64_t row, int64_t column, const float* x, int64_t count);

}  // namespace ingot
