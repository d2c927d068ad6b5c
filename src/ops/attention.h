// Attention over a paged KV cache.
//
// A step is a packed list of tokens of several sequences. A state (one for K, one for V per layer) is
// [pool_pages, kv_heads, page_size, head_size]: page p holds, per head, the vectors of page_size consecutive positions.
// Per cache group a step brings these i32 inputs:
//   slots          [tokens]       where each token is written: page * page_size + offset in the page; -1 writes nothing
//   page_starts    [sequences+1]  where each sequence's pages begin in page_list
//   page_list      [pages]        page numbers, in the order of positions
//   context_starts [sequences]    the position held by the first slot of the first listed page (0 unless a window
//                                 let earlier pages go)
// and, shared by all groups:
//   query_starts    [sequences+1] where each sequence's tokens begin in the packed list
//   context_lengths [sequences]   positions in the cache after this step's tokens were written
//
// A sequence stands in a step once, and nothing in a step writes what is in front of its tokens there: these positions
// are in the cache when the step starts. So a page that several sequences list is full, or copied before one goes on.
#pragma once

#include "ops/op.h"

namespace ingot {

// state' = state with x[i] written to slots[i]. x [tokens, kv_heads * head_size] float; stored in the state's dtype.
struct KvWrite {
  static constexpr std::string_view name = "kv_write";
  static constexpr auto fields() { return std::tuple{}; }
  Types infer(const Types& inputs) const;  // state, x, slots
  HostTensors evaluate(const HostTensors& inputs) const;
  int aliased_input(int) const { return 0; }
};

// Inputs: q [tokens, heads * head_size], k state, v state, query_starts, context_lengths, page_starts, page_list,
// context_starts. Result: [tokens, heads * v_head_size] of q's dtype. Query j of a sequence with n queries and context
// length c stands at position c - n + j, and sees positions up to its own; with window w only the last w of those
// (w = 0: all). Scores are q·k * scale, then soft-capped (soft_cap * tanh(s / soft_cap), 0: none), then softmax in f32.
// heads is a multiple of the state's kv_heads: head h reads kv head h / (heads / kv_heads).
struct Attention {
  static constexpr std::string_view name = "attention";
  int64_t heads = 1;
  float scale = 1;
  float soft_cap = 0;
  int64_t window = 0;
  static constexpr auto fields() {
    return std::tuple{field("heads", &Attention::heads), field("scale", &Attention::scale),
                      field("soft_cap", &Attention::soft_cap), field("window", &Attention::window)};
  }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  double flops(const Types& inputs) const;
};

// Everything between the merged projection and attention, in one pass over qkv: split, per-head RMS norm of q and k (if
// `norm`), rotation of q and k, and writing k and v. Inputs: qkv [tokens, (heads + 2 * kv_heads) * head_size] holding
// q, k and v in each row; angles f32 [tokens, r]; k state, v state; slots; and with `norm` q_gamma and k_gamma, f32
// [head_size]. Results: q [tokens, heads * head_size], the k state, the v state.
struct RopeKvWrite {
  static constexpr std::string_view name = "rope_kv_write";
  int64_t heads = 1;
  bool interleaved = false;
  bool norm = false;
  float epsilon = 1e-6f;
  static constexpr auto fields() {
    return std::tuple{field("heads", &RopeKvWrite::heads), field("interleaved", &RopeKvWrite::interleaved),
                      field("norm", &RopeKvWrite::norm), field("epsilon", &RopeKvWrite::epsilon)};
  }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  int aliased_input(int output) const { return output == 0 ? -1 : output + 1; }
};

}  // namespace ingot
