// Qwen3-MoE: Qwen3 in which most layers have a mixture of experts instead of the MLP.
#include <algorithm>

#include "models/blocks/gated_mlp.h"
#include "models/blocks/mixture.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

MixtureSettings read_mixture(const Json& config, ActivationFunction function) {
  return {.experts = read_size(config, config.find_set("num_experts") ? "num_experts" : "num_local_experts"),
          .top_k = read_size(config, "num_experts_per_tok", 8),
          .intermediate = read_size(config, "moe_intermediate_size"),
          .normalize = setting(config, "norm_topk_prob", false),
          .function = function};
}

bool has_experts(const Json& config, int64_t layer) {
  if (const Json* dense = config.find_set("mlp_only_layers"))
    for (const Json& index : dense->as_array())
      if (index.as_int() == layer) return false;
  return (layer + 1) % read_size(config, "decoder_sparse_step", 1) == 0;
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config);
  const bool bias = setting(config, "attention_bias", false);
  const ActivationFunction function = read_activation(config, "hidden_act", "silu");
  const MixtureSettings experts = read_mixture(config, function);
  AttentionSettings attention = attention_settings(sizes);
  attention.window = setting(config, "use_sliding_window", false) ? read_window(config, "sliding_window", 4096) : 0;
  refuse_features(config, {"sliding_window", "num_experts", "num_local_experts"});

  ModelWriter m(checkpoint, options, "model.");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles =
      m.rope_angles(make_rotation(rope_parameters(config), rope_context(config, sizes, options)), "rotary_emb");
  Value x = m.embed("ids", table, "embed_tokens");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    Value n = m.rms_norm(x, at + ".input_layernorm", sizes.epsilon);
    Value q = m.linear(n, at + ".self_attn.q_proj", sizes.q_width(), bias);
    Value k = m.linear(n, at + ".self_attn.k_proj", sizes.kv_width(), bias);
    Value v = m.linear(n, at + ".self_attn.v_proj", sizes.kv_width(), bias);
    q = m.rms_norm(q, at + ".self_attn.q_norm", sizes.epsilon, sizes.head_size);
    k = m.rms_norm(k, at + ".self_attn.k_norm", sizes.epsilon, sizes.head_size);
    q = m.rope(q, angles, sizes.head_size, at + ".self_attn.q_rope");
    k = m.rope(k, angles, sizes.head_size, at + ".self_attn.k_rope");
    Value a = m.attention(layer, q, k, v, attention, at + ".self_attn");
    a = m.linear(a, at + ".self_attn.o_proj", sizes.hidden, bias);
    x = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.rms_norm(x, at + ".post_attention_layernorm", sizes.epsilon);
    Value y = has_experts(config, layer) ? mixture(m, n, at + ".mlp", experts, {"gate_proj", "up_proj", "down_proj"})
                                         : gated_mlp(m, n, at + ".mlp", sizes.intermediate, function);
    x = m.add(Add{}, {x, y}, at);
  }
  x = m.rms_norm(m.output_rows(x), "norm", sizes.epsilon);
  return m.finish(m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", false))));
}

}  // namespace

ModelEntry qwen3_moe() { return {"Qwen3MoeForCausalLM", decoder_facts, load}; }

}  // namespace ingot::models
