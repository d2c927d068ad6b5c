// The storage layouts of weights: what a matmul kernel wants to stream instead of plain rows. A layout cuts a [n, k]
// weight into blocks of `rows_per_block` rows that are packed independently of each other and stored one after the
// other; the last block is filled up with zero rows. A [experts, n, k] weight is its experts' packings in turn.
#pragma once

#include <cstdint>
#include <string_view>

#include "tensor/type.h"

namespace ingot {

struct WeightLayout {
  std::string_view name;  // "tiles_16x32": what TensorType::layout and the recipe's pack(…) hold
  int64_t rows_per_block;
  // Whether it can hold a constant row-major type of rank 2 or 3; all other members are called only if so.
  bool (*accepts)(const TensorType& type);
  // The stored size of the whole weight, padding included: a multiple of the size of one full block.
  int64_t (*packed_bytes)(const TensorType& type);
  // Packs one block: `rows` (1 … rows_per_block) row-major rows of `cols` elements. Writes exactly the bytes of one
  // full block, the missing rows as zeros. `source` need not be aligned. Called from several threads at once.
  void (*pack)(DType dtype, const void* source, int64_t rows, int64_t cols, void* out);
};

// The layout called `name`, or nullptr.
const WeightLayout* find_weight_layout(std::string_view name);

}  // namespace ingot
