// The arithmetic of CPU attention, compiled once per instruction set: some query rows that share a kv head meet a block
// of keys. Rows are (query, head) pairs. A row keeps a running maximum, sum and weighted sum of values (online
// softmax), all in powers of two.
//
// There are two forms. `narrow` takes few rows, with the elements of a head as vector lanes: q [rows][k_stride], scores
// [rows][kKeyBlock], result [rows][v_stride]. `wide` takes many rows, with the rows as lanes and everything transposed:
// q [k_stride][lanes], scores [kKeyBlock][lanes], result [v_stride][lanes]. Keys and values are then only ever
// broadcast, nothing in the cache needs transposing, and softmax needs no sums across lanes. AMX has its own wide form.
#pragma once

#include <cstdint>

#include "device/target.h"

namespace ingot {

constexpr int64_t kKeyBlock = 64;       // keys that meet the rows at a time
constexpr int64_t kMaxWideRows = 64;    // query rows of a block; AMX takes several such blocks together
constexpr float kHiddenScore = -1e30f;  // of positions that a row does not see; finite, so that differences exist

struct AttentionRows {
  int64_t count = 0;  // rows
  int64_t lanes = 0;  // wide: count rounded up to vectors
  int64_t head_size = 0;
  int64_t k_stride = 0;  // head sizes rounded up to vectors, zero-filled
  int64_t v_stride = 0;
  int64_t v_size = 0;
  float soft_cap = 0;                     // 0: none
  int32_t window = 0;                     // the last so many positions up to its own are seen; never 0
  const float* const* sources = nullptr;  // wide: the queries of each row, and of `following` rows of the next block
  int64_t following = 0;
  float factor = 1;              // wide: scale, times log2(e) if there is no soft cap
  float* q = nullptr;            // queries times factor
  int32_t* positions = nullptr;  // [count rounded up] of each row; the last one repeats
  float* scores = nullptr;
  float* greatest = nullptr;  // [count rounded up], like sums and factors
  float* sums = nullptr;
  float* factors = nullptr;
  float* result = nullptr;
  uint16_t* values_bf16 = nullptr;  // AMX: [most_wide_keys][v_stride], in tiles
  float* const* targets = nullptr;  // wide: where the results of each row go, divided by the sums if `divided`
  bool divided = false;
  bool in_tiles = false;  // AVX-512: targets are rows of tiles (tiles.h), all of a head's in one block
};

// Consecutive positions of one kv head, as f32; keys up to the next multiple of four are readable and finite.
struct AttentionKeys {
  const float* k = nullptr;          // [count][k_stride]
  const float* v = nullptr;          // [count][v_stride]
  const uint16_t* k_bf16 = nullptr;  // AMX instead: [count][k_stride], like v_bf16 with zeros to a multiple of 32 keys
  const uint16_t* v_bf16 = nullptr;  // [count][v_stride]
  int64_t count = 0;                 // at most kKeyBlock, or most_wide_keys
  int32_t first_position = 0;
  bool new_queries = false;  // wide: queries are yet to be read from rows.sources
  bool first = false;        // no keys were seen before
  bool last = false;         // wide: results are due
  bool all_seen = false;     // every row sees all of them
  bool laid_out = false;     // AMX: values_bf16 is what the last call made of the same values, or more of them
};

struct AttentionFunctions {
  int64_t lanes;             // rows.lanes is a multiple of it
  int64_t stride_multiple;   // k_stride and v_stride are rounded up to it
  int64_t most_narrow_rows;  // with more rows, wide is faster
  int64_t most_wide_rows;    // a multiple of kMaxWideRows
  int64_t most_wide_keys;    // of one call
  bool wide_takes_bf16;      // keys come as k_bf16 and v_bf16, and states must be bf16
  void (*attend_narrow)(const AttentionRows& rows, const AttentionKeys& keys);
  void (*attend_wide)(const AttentionRows& rows, const AttentionKeys& keys);
};

extern const AttentionFunctions kAttentionFunctionsPortable, kAttentionFunctionsAvx2, kAttentionFunctionsAvx512,
    kAttentionFunctionsAmx;

inline const AttentionFunctions& attention_functions(CpuLevel level) {
  if (level == CpuLevel::kAmx) return kAttentionFunctionsAmx;
  if (level == CpuLevel::kAvx512) return kAttentionFunctionsAvx512;
  return level == CpuLevel::kAvx2 ? kAttentionFunctionsAvx2 : kAttentionFunctionsPortable;
}

}  // namespace ingot
