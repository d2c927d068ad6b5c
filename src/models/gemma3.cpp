// Gemma 3, the text model: Gemma 2 with an RMS norm over every head of q and k; one layer in six attends to everything,
// the others see a sliding window and rotate by frequencies of their own.
#include <cmath>

#include "models/blocks/gated_mlp.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

constexpr SizeDefaults kDefaults = {.head_size = 256};

struct Rotations {
  Rotation full, sliding;
};

// The newer key style has an object per layer type; in the older one rope_scaling is for full attention alone.
Rotations read_rotations(const Json& config, const RopeContext& context) {
  const Json* newer = config.find_set("rope_parameters");
  Json local = Json::object();
  if (newer) local = newer->at("sliding_attention");
  Json full = newer ? completed_rope(newer->at("full_attention"), 1e6) : rope_parameters(config, 1e6);
  return {make_rotation(full, context),
          make_rotation(completed_rope(local, setting(config, "rope_local_base_freq", 1e4)), context)};
}

std::vector<int64_t> read_windows(const Json& config, int64_t layers) {
  return layer_windows(config, layers, read_size(config, "sliding_window", 4096), [](const Json& c, int64_t layer) {
    return (layer + 1) % read_size(c, "sliding_window_pattern", 6) != 0;
  });
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config, kDefaults);
  const bool bias = setting(config, "attention_bias", false);
  const ActivationFunction function = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  const std::vector<int64_t> windows = read_windows(config, sizes.layers);
  const Rotations rotations = read_rotations(config, rope_context(config, sizes, options));
  const auto final_cap = static_cast<float>(setting(config, "final_logit_softcapping", 0.0));
  AttentionSettings attention = attention_settings(sizes);
  attention.scale =
      static_cast<float>(1 / std::sqrt(static_cast<double>(read_size(config, "query_pre_attn_scalar", 256))));
  refuse_features(config, {"sliding_window", "query_pre_attn_scalar", "final_logit_softcapping"});

  ModelWriter m(checkpoint, options, "model.");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles = m.rope_angles(rotations.full, "rotary_emb");
  Value local_angles = m.rope_angles(rotations.sliding, "rotary_emb_local");
  Value x = m.embed("ids", table, "embed_tokens");
  // The factor has the precision of the activations.
  double factor = rounded(options.activations, std::sqrt(static_cast<double>(sizes.hidden)));
  x = m.add(Scale{static_cast<float>(factor)}, {x}, "embed_tokens.scaled");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    attention.window = windows[static_cast<size_t>(layer)];
    Value turn = attention.window ? local_angles : angles;
    Value n = m.rms_norm_plus_one(x, at + ".input_layernorm", sizes.epsilon);
    Value q = m.linear(n, at + ".self_attn.q_proj", sizes.q_width(), bias);
    Value k = m.linear(n, at + ".self_attn.k_proj", sizes.kv_width(), bias);
    Value v = m.linear(n, at + ".self_attn.v_proj", sizes.kv_width(), bias);
    q = m.rms_norm_plus_one(q, at + ".self_attn.q_norm", sizes.epsilon, sizes.head_size);
    k = m.rms_norm_plus_one(k, at + ".self_attn.k_norm", sizes.epsilon, sizes.head_size);
    q = m.rope(q, turn, sizes.head_size, at + ".self_attn.q_rope");
    k = m.rope(k, turn, sizes.head_size, at + ".self_attn.k_rope");
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

ModelEntry gemma3() { return {"Gemma3ForCausalLM", decoder_facts, load}; }

}  // namespace ingot::models
