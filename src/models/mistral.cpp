// Mistral: Llama without biases, in which every layer sees a sliding window.
#include "models/blocks/gated_mlp.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config);
  const ActivationFunction function = read_activation(config, "hidden_act", "silu");
  const int64_t window = read_window(config, "sliding_window", 4096);
  const std::vector<int64_t> windows =
      layer_windows(config, sizes.layers, window, [](const Json&, int64_t) { return true; });
  AttentionSettings attention = attention_settings(sizes);
  refuse_features(config, {"sliding_window"});

  ModelWriter m(checkpoint, options, "model.");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles =
      m.rope_angles(make_rotation(rope_parameters(config), rope_context(config, sizes, options)), "rotary_emb");
  Value x = m.embed("ids", table, "embed_tokens");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    attention.window = windows[static_cast<size_t>(layer)];
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
    x = m.add(Add{}, {x, gated_mlp(m, n, at + ".mlp", sizes.intermediate, function)}, at);
  }
  x = m.rms_norm(m.output_rows(x), "norm", sizes.epsilon);
  return m.finish(m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", false))));
}

// Buffers that old checkpoints hold.
constexpr std::string_view kIgnored[] = {".rotary_emb.inv_freq"};

}  // namespace

ModelEntry mistral() { return {"MistralForCausalLM", decoder_facts, load, kIgnored}; }

}  // namespace ingot::models
