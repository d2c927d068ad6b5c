// Gemma 2: norms before and after attention and MLP, norm weights stored as distances from one, soft caps on scores and
// logits; every other layer sees a sliding window.
#include <cmath>

#include "models/blocks/gated_mlp.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

constexpr SizeDefaults kDefaults = {.head_size = 256};

// A cap that is absent has its default, one that is null is none.
float read_cap(const Json& config, std::string_view key, double absent) {
  return static_cast<float>(config.find(key) ? setting(config, key, 0.0) : absent);
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config, kDefaults);
  const bool bias = setting(config, "attention_bias", false);
  const ActivationFunction function = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  const std::vector<int64_t> windows = layer_windows(config, sizes.layers, read_size(config, "sliding_window", 4096),
                                                     [](const Json&, int64_t layer) { return layer % 2 == 0; });
  const float final_cap = read_cap(config, "final_logit_softcapping", 30);
  AttentionSettings attention = attention_settings(sizes);
  attention.scale =
      static_cast<float>(1 / std::sqrt(static_cast<double>(read_size(config, "query_pre_attn_scalar", 256))));
  attention.soft_cap = read_cap(config, "attn_logit_softcapping", 50);
  refuse_features(config,
                  {"sliding_window", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"});

  ModelWriter m(checkpoint, options, "model.");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles =
      m.rope_angles(make_rotation(rope_parameters(config), rope_context(config, sizes, options)), "rotary_emb");
  Value x = m.embed("ids", table, "embed_tokens");
  // The factor has the precision of the activations.
  double factor = rounded(options.activations, std::sqrt(static_cast<double>(sizes.hidden)));
  x = m.add(Scale{static_cast<float>(factor)}, {x}, "embed_tokens.scaled");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    attention.window = windows[static_cast<size_t>(layer)];
    Value n = m.rms_norm_plus_one(x, at + ".input_layernorm", sizes.epsilon);
    Value q = m.linear(n, at + ".self_attn.q_proj", sizes.q_width(), bias);
    Value k = m.linear(n, at + ".self_attn.k_proj", sizes.kv_width(), bias);
    Value v = m.linear(n, at + ".self_attn.v_proj", sizes.kv_width(), bias);
    q = m.rope(q, angles, sizes.head_size, at + ".self_attn.q_rope");
    k = m.rope(k, angles, sizes.head_size, at + ".self_attn.k_rope");
    Value a = m.attention(layer, q, k, v, attention, at + ".self_attn");
    a = m.linear(a, at + ".self_attn.o_proj", sizes.hidden, bias);
    a = m.rms_norm_plus_one(a, at + ".post_attention_layernorm", sizes.epsilon);
    x = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.rms_norm_plus_one(x, at + ".pre_feedforward_layernorm", sizes.epsilon);
    Value y = gated_mlp(m, n, at + ".mlp", sizes.intermediate, function);
    y = m.rms_norm_plus_one(y, at + ".post_feedforward_layernorm", sizes.epsilon);
    x = m.add(Add{}, {x, y}, at);
  }
  x = m.rms_norm_plus_one(m.output_rows(x), "norm", sizes.epsilon);
  Value logits = m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", true)));
  if (final_cap != 0) logits = m.add(SoftCap{final_cap}, {logits}, "final_logit_softcapping");
  return m.finish(logits);
}

}  // namespace

ModelEntry gemma2() { return {"Gemma2ForCausalLM", decoder_facts, load}; }

}  // namespace ingot::models
