// The tile products of AMX attention, cut into units. Included by attention_blocks_amx.cpp alone.
#pragma once

#include <hwy/highway.h>
#include <immintrin.h>

#include <cstdint>

namespace ingot {
namespace {

constexpr int64_t kGroup = 32;  // rows

// All eight tiles are 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfiguration kTiles;

// Targets [16][32] += A [16][32 depths] B [32 depths][32]. B are pairs in two parts; strides of A count elements, those
// of B words.
struct TileProduct {
  const uint16_t* a = nullptr;
  const uint32_t* b = nullptr;
  float* target = nullptr;
  int64_t a_row = 0, a_depth = 0, a_target = 0;
  int64_t b_row = 0, b_depth = 0, b_part = 0;
  int64_t depths = 0, targets = 0;
  bool both = true;  // else the first 16 columns alone
  bool adds = true;  // else the target is overwritten

  int64_t units() const { return depths * targets; }
};

// A product that is worked off in small units, among which a core finds time for vectors. Few tile registers are in
// use, so that more are left for the loads and products in flight: a core has few, and shares them between its hardware
// threads.
class TileWork {
 public:
  explicit TileWork(const TileProduct& product) : p_(product), left_(product.units()) {
    __asm__ volatile("" ::: "memory");  // tile loads do not say which memory they read
  }
  int64_t left() const { return left_; }

  // A quarter of a unit: one product. The four of them follow each other.
  template <int kQuarter>
  HWY_INLINE void quarter() {
    const uint32_t* b = p_.b + depth_ * p_.b_depth + kQuarter / 2 * p_.b_part;
    if constexpr (kQuarter == 0) {
      if (depth_ == 0) open();
      _tile_loadd(2, p_.a + depth_ * p_.a_depth, p_.a_row * 2);
    }
    if constexpr (kQuarter % 2 == 0) {
      _tile_loadd(3, b, p_.b_row * 4);
      _tile_dpbf16ps(0, 2, 3);
    } else if (p_.both) {
      _tile_loadd(3, b + 16, p_.b_row * 4);
      _tile_dpbf16ps(1, 2, 3);
    }
    if constexpr (kQuarter == 3) {
      --left_;
      if (++depth_ == p_.depths) close();
    }
  }
  HWY_INLINE void next() {
    quarter<0>();
    quarter<1>();
    quarter<2>();
    quarter<3>();
  }

  void finish() {
    while (left_ > 0) next();
  }

 private:
  HWY_INLINE void open() {
    if (p_.adds) {
      _tile_loadd(0, p_.target, kGroup * 4);
      if (p_.both) _tile_loadd(1, p_.target + 16, kGroup * 4);
    } else {
      _tile_zero(0);
      _tile_zero(1);
    }
  }
  HWY_INLINE void close() {
    _tile_stored(0, p_.target, kGroup * 4);
    if (p_.both) _tile_stored(1, p_.target + 16, kGroup * 4);
    p_.target += 16 * kGroup;
    p_.a += p_.a_target;
    depth_ = 0;
  }

  TileProduct p_;
  int64_t left_, depth_ = 0;
};

}  // namespace
}  // namespace ingot
