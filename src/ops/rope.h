// Rotary position embeddings.
#pragma once

#include "ops/op.h"

namespace ingot {

// The rotation of every token, shared by all layers with the same frequencies: row i holds r/2 cosines and then r/2
// sines of positions[i] * frequencies, times `attention_factor`. positions i32 [tokens], frequencies f32 [r/2];
// result f32 [tokens, r]. Angles are computed in f32: the product is rounded to f32 before cos and sin.
struct RopeAngles {
  static constexpr std::string_view name = "rope_angles";
  float attention_factor = 1;
  static constexpr auto fields() { return std::tuple{field("attention_factor", &RopeAngles::attention_factor)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, false}; }
};

// Rotates the first r elements of every head. x [tokens, heads * head_size], angles f32 [tokens, r], r even and at most
// head_size. Pair i of a head is elements (i, i + r/2), or (2i, 2i + 1) when interleaved:
// (a, b) becomes (a cos - b sin, b cos + a sin).
struct Rope {
  static constexpr std::string_view name = "rope";
  int64_t head_size = 0;
  bool interleaved = false;
  static constexpr auto fields() {
    return std::tuple{field("head_size", &Rope::head_size), field("interleaved", &Rope::interleaved)};
  }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, true}; }
};

}  // namespace ingot
