// The arithmetic of CPU attention, compiled once per instruction set: some query rows that share a kv head meet a block
// of keys. Rows are (query, head) pairs. A row keeps a running maximum, sum and weighted sum of values (online
// softmax), all in powers of two.
//
// There are two forms. `narrow` takes few rows, with the elements of a head as vector lanes: q [rows][k_stride], scores
// [rows][kKeyBlock], result [rows][v_stride]. `wide` takes many rows, with the rows as lanes and everything transposed:
// q [k_stride][lanes], scores [kKeyBlock][lanes], result [v_stride][lanes]. Keys and values are then only ever
// broadcast, nothing in the cache needs transposing, and softmax needs no sums across lanes.
#pragma once

#include <cstdint>

#include "device/target.h"

namespace ingot {

constexpr int64_t kKeyBlock = 64;       // keys that meet the rows at a time
constexpr int64_t kMaxWideRows = 64;    // query rows of a block
constexpr float kHiddenScore = -1e30f;  // of positions that a row does not see; finite, so that differences exist

struct AttentionRows {
  int64_t count = 0;  // rows
  int64_t lanes = 0;  // wide: count rounded up to vectors
  int64_t head_size = 0;
  int64_t k_stride = 0;  // head sizes rounded up to vectors, zero-filled
  int64_t v_stride = 0;
  float soft_cap = 0;            // 0: none
  int32_t window = 0;            // the last so many positions up to its own are seen; never 0
  float* q = nullptr;            // times scale, and times log2(e) if there is no soft cap
  int32_t* positions = nullptr;  // [count rounded up] of each row; the last one repeats
  float* scores = nullptr;
  float* greatest = nullptr;  // [count rounded up], like sums and factors
  float* sums = nullptr;
  float* factors = nullptr;
  float* result = nullptr;
  uint32_t* weights = nullptr;      // AMX: [kKeyBlock][lanes], both parts of the scores
  uint16_t* values_bf16 = nullptr;  // AMX: [v_stride][kKeyBlock]
};

// Consecutive positions of one kv head, as f32; keys up to the next multiple of four are readable and finite.
struct AttentionKeys {
  const float* k = nullptr;          // [count][k_stride]
  const float* v = nullptr;          // [count][v_stride]
  const uint16_t* k_bf16 = nullptr;  // AMX instead: [kKeyBlock][k_stride]
  const uint16_t* v_bf16 = nullptr;  // [kKeyBlock][v_stride], zeros from `count` to a multiple of 32
  int64_t count = 0;                 // at most kKeyBlock
  int32_t first = 0;                 // position of the first
  bool all_seen = false;             // every row sees all of them
};

struct AttentionFunctions {
  int64_t lanes;             // floats of a vector
  int64_t stride_multiple;   // k_stride and v_stride are rounded up to it
  int64_t most_narrow_rows;  // with more rows, wide is faster
  bool wide_takes_bf16;      // keys come as k_bf16 and v_bf16, and states must be bf16
  // Resets the running state of the rows: no keys seen.
  void (*reset)(const AttentionRows& rows, bool wide);
  void (*attend_narrow)(const AttentionRows& rows, const AttentionKeys& keys);
  void (*attend_wide)(const AttentionRows& rows, const AttentionKeys& keys);
  // source [count][head_size] with rows `stride` apart, times `factor`, to [k_stride][lanes], zero-filled.
  void (*pack_wide)(const AttentionRows& rows, const float* const* source, float factor);
  // result [v_stride][lanes] to [count][v_stride].
  void (*unpack_wide)(const AttentionRows& rows, float* target);
};

extern const AttentionFunctions kAttentionFunctionsPortable, kAttentionFunctionsAvx2, kAttentionFunctionsAvx512,
    kAttentionFunctionsAmx;

inline const AttentionFunctions& attention_functions(CpuLevel level) {
  if (level == CpuLevel::kAmx) return kAttentionFunctionsAmx;
  if (level == CpuLevel::kAvx512) return kAttentionFunctionsAvx512;
  return level == CpuLevel::kAvx2 ? kAttentionFunctionsAvx2 : kAttentionFunctionsPortable;
}

}  // namespace ingot
