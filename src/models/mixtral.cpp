// Mixtral: Mistral with a mixture of experts instead of the MLP.
#include "models/blocks/mixture.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

constexpr SizeDefaults kDefaults = {.epsilon = 1e-5};

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config, kDefaults);
  const MixtureSettings experts = {.experts = read_size(config, "num_local_experts", 8),
                                   .top_k = read_size(config, "num_experts_per_tok", 2),
                                   .intermediate = sizes.intermediate,
                                   .normalize = true,
                                   .function = read_activation(config, "hidden_act", "silu")};
  AttentionSettings attention = attention_settings(sizes);
  attention.window = read_window(config, "sliding_window", 0);
  refuse_features(config, {"sliding_window", "num_local_experts"});

  ModelWriter m(checkpoint, options, "model.");
  // The newer library calls the module mlp, in the network and in checkpoints with fused experts.
  const bool renamed = m.has_tensor("layers.0.mlp.gate.weight");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles =
      m.rope_angles(make_rotation(rope_parameters(config, 1e6), rope_context(config, sizes, options)), "rotary_emb");
  Value x = m.embed("ids", table, "embed_tokens");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    Value n = m.rms_norm(x, at + ".input_layernorm", sizes.epsilon);
    Value q = m.linear(n, at + ".self_attn.q_proj", sizes.q_width());
    Value k = m.linear(n, at + ".self_attn.k_proj", sizes.kv_width());
    Value v = m.linear(n, at + ".self_attn.v_proj", sizes.kv_width());
    q = m.rope(q, angles, sizes.head_size, at + ".self_attn.q_rope");
    k = m.rope(k, angles, sizes.head_size, at + ".self_attn.k_rope");
    Value a = m.attention(layer, q, k, v, attention, at + ".self_attn");
    a = m.linear(a, at + ".self_attn.o_proj", sizes.hidden);
    x = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.rms_norm(x, at + ".post_attention_layernorm", sizes.epsilon);
    x = m.add(Add{}, {x, mixture(m, n, at + (renamed ? ".mlp" : ".block_sparse_moe"), experts, {"w1", "w3", "w2"})},
              at);
  }
  x = m.rms_norm(m.output_rows(x), "norm", sizes.epsilon);
  return m.finish(m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", false))));
}

}  // namespace

ModelEntry mixtral() { return {"MixtralForCausalLM", decoder_facts, load}; }

}  // namespace ingot::models
