#include <immintrin.h>
#include <stdint.h>

#include "inspect/ceiling_loops.h"

namespace ingot::amx {

namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Two by two tiles of sums, as in the kernels; operands stay in their tiles.
double multiply(int64_t rounds) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.row_bytes[tile] = 64, config.rows[tile] = 16;
  alignas(64) uint16_t operand[16 * 32];
  for (int i = 0; i < 16 * 32; ++i) operand[i] = static_cast<uint16_t>(0x3a00 + i);  // about 0.0005 … 0.001
  __asm__ volatile("" ::: "memory");  // the tile intrinsics do not say which memory they read
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, operand, 64);
  _tile_loadd(5, operand, 64);
  _tile_loadd(6, operand, 64);
  _tile_loadd(7, operand, 64);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  alignas(64) float sink[16 * 16];
  _tile_stored(0, sink, 64);
  _tile_release();
  __asm__ volatile("" : : "m"(sink));
  return 4 * 16 * 16 * 32 * 2;
}

}  // namespace

const MatmulLoop kMatmulLoop = {"bf16 amx", false, multiply};

}  // namespace ingot::amx
