// What kernels are told of values that they hand over in tiles (kernels/cpu/tiles.h).
#pragma once

#include <string>
#include <string_view>
#include <tuple>

#include "base/fields.h"
#include "kernels/cpu/tiles.h"

namespace ingot {

// Parameters of a kernel that can write its result, the last one, so.
struct GivesTiles {
  int64_t gives_tiles = 0;  // the columns of a block; 0: rows of f32
  static constexpr auto fields() { return std::tuple{field("gives_tiles", &GivesTiles::gives_tiles)}; }
};

// The layout of such a value in the type of a problem, and the columns of its blocks; 0 for other layouts.
std::string tiles_layout(int64_t block);
int64_t tiles_block(std::string_view layout);

// Whether a value of at most so many rows takes no more room in tiles than row major; it takes less with fewer rows.
inline bool tiles_fit(int64_t rows, int64_t columns) { return rows >= kTileRows && columns % kTileColumns == 0; }

// Throws an Error with kIncompatible unless kernels can write blocks of so many columns; 0 is right as well.
void check_tiles_block(int64_t block);

}  // namespace ingot
