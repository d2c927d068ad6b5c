// Llama: rotary grouped-query attention and a gated MLP, each behind an RMS norm and added to the residual stream.
#include "models/blocks/gated_mlp.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config);
  const bool attention_bias = setting(config, "attention_bias", false), mlp_bias = setting(config, "mlp_bias", false);
  const ActivationFunction function = read_activation(config, "hidden_act", "silu");
  const AttentionSettings attention = attention_settings(sizes);
  refuse_features(config, {});

  ModelWriter m(checkpoint, options, "model.");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles =
      m.rope_angles(make_rotation(rope_parameters(config), rope_context(config, sizes, options)), "rotary_emb");
  Value x = m.embed("ids", table, "embed_tokens");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    Value n = m.rms_norm(x, at + ".input_layernorm", sizes.epsilon);
    Value q = m.linear(n, at + ".self_attn.q_proj", sizes.q_width(), attention_bias);
    Value k = m.linear(n, at + ".self_attn.k_proj", sizes.kv_width(), attention_bias);
    Value v = m.linear(n, at + ".self_attn.v_proj", sizes.kv_width(), attention_bias);
    q = m.rope(q, angles, sizes.head_size, at + ".self_attn.q_rope");
    k = m.rope(k, angles, sizes.head_size, at + ".self_attn.k_rope");
    Value a = m.attention(layer, q, k, v, attention, at + ".self_attn");
    a = m.linear(a, at + ".self_attn.o_proj", sizes.hidden, attention_bias);
    x = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.rms_norm(x, at + ".post_attention_layernorm", sizes.epsilon);
    x = m.add(Add{}, {x, gated_mlp(m, n, at + ".mlp", sizes.intermediate, function, mlp_bias)}, at);
  }
  x = m.rms_norm(m.output_rows(x), "norm", sizes.epsilon);
  return m.finish(m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", false))));
}

// Buffers that old checkpoints hold.
constexpr std::string_view kIgnored[] = {".rotary_emb.inv_freq"};

}  // namespace

ModelEntry llama() { return {"LlamaForCausalLM", decoder_facts, load, kIgnored}; }

}  // namespace ingot::models
