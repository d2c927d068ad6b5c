// Qwen2: Llama with biases on q, k and v; the layers from max_window_layers on may see a sliding window.
#include "models/blocks/gated_mlp.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

std::vector<int64_t> read_windows(const Json& config, int64_t layers) {
  int64_t window = setting(config, "use_sliding_window", false) ? read_window(config, "sliding_window", 4096) : 0;
  return layer_windows(config, layers, window,
                       [](const Json& c, int64_t layer) { return layer >= c.get("max_window_layers", 28); });
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config);
  const ActivationFunction function = read_activation(config, "hidden_act", "silu");
  const std::vector<int64_t> windows = read_windows(config, sizes.layers);
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
    Value q = m.linear(n, at + ".self_attn.q_proj", sizes.q_width(), true);
    Value k = m.linear(n, at + ".self_attn.k_proj", sizes.kv_width(), true);
    Value v = m.linear(n, at + ".self_attn.v_proj", sizes.kv_width(), true);
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

}  // namespace

ModelEntry qwen2() { return {"Qwen2ForCausalLM", decoder_facts, load}; }

}  // namespace ingot::models
