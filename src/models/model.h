// From a checkpoint's config to a network: names, types and shapes only, never weight values.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "ir/network.h"

namespace ingot {

struct ModelOptions {
  DType dtype = DType::kBF16;       // of weights and KV cache
  DType activations = DType::kF32;  // of the values between ops
  int64_t max_seq_len = 0;          // positions; 0: the model's own limit
  int64_t page_size = 16;           // of every cache group
  bool choose_tokens = false;       // the network ends in tokens, and reads those of the step before by itself
};

// What the tools need to know about a model besides its network.
struct ModelFacts {
  std::string architecture;  // "LlamaForCausalLM"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t max_positions = 0;            // what the model was made for
  bool max_positions_are_hard = false;  // learned positions: there is nothing beyond
};

// One architecture. `load` appends everything to an empty network; it throws an Error with kUnsupportedModel for a
// feature that it does not know (a rope type, an activation), naming the config key.
struct ModelEntry {
  std::string_view architecture;  // as config.json spells it
  ModelFacts (*facts)(const Json& config);
  Network (*load)(Checkpoint& checkpoint, const ModelOptions& options);
  // Ends of the names of checkpoint tensors that may be left over, such as mask buffers.
  std::span<const std::string_view> ignored = {};
};

std::span<const ModelEntry> model_list();

// The first of config's `architectures`.
std::string architecture_of(const Json& config);

// The entry for config's architecture. Throws an Error with kUnsupportedModel that names the nearest known one.
const ModelEntry& find_model(const Json& config);

// The loaded network, with every checkpoint tensor accounted for: one that is missing, or unused and not listed by the
// model as ignored, is an Error that names it.
//
// Its inputs, all i32: ids [tokens], positions [tokens], query_starts [sequences+1], context_lengths [sequences],
// output_rows [outputs], and per cache group g: slots.g [tokens], page_starts.g [sequences+1], page_list.g [pages.g],
// context_starts.g [sequences] (see ops/attention.h). States layers.N.k and layers.N.v
// [pool_pages.g, kv_heads, page_size, head_size]. Output logits f32 [outputs, vocab_size], and the final states.
//
// With choose_tokens, it also has the state last_tokens [seats] and the inputs sample_options f32 [outputs, 6],
// sample_choices i32 [outputs, 8] and sample_listed i32 [listed, 2] (see ops/sample.h); ids below 0 name tokens that
// were chosen before (next_ids); the output chosen i32 [outputs] holds the new ones, likeliest i32 [outputs, 20] and
// logprobs f32 [outputs, 21] what is told about them.
Network load_model(Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace ingot
