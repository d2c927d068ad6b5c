// Phi-3: Llama with q, k and v in one matrix and gate and up in another; longrope; every layer may see a sliding
// window.
#include "models/blocks/gated_mlp.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

constexpr SizeDefaults kDefaults = {.epsilon = 1e-5};

Rotation read_rotation(const Json& config, const DecoderSizes& sizes, const ModelOptions& options) {
  Json parameters = rope_parameters(config);
  // What the first checkpoints call yarn is longrope.
  if (parameters.get("rope_type", "") == "yarn") parameters.set("rope_type", "longrope");
  RopeContext context = rope_context(config, sizes, options);
  context.partial = true;
  return make_rotation(parameters, context);
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config, kDefaults);
  const ActivationFunction function = read_activation(config, "hidden_act", "silu");
  AttentionSettings attention = attention_settings(sizes);
  attention.window = read_window(config, "sliding_window", 0);
  refuse_features(config, {"sliding_window"});

  ModelWriter m(checkpoint, options, "model.");
  Value table = m.matrix("embed_tokens.weight", {sizes.vocab, sizes.hidden});
  Value angles = m.rope_angles(read_rotation(config, sizes, options), "rotary_emb");
  Value x = m.embed("ids", table, "embed_tokens");
  const int64_t k_begin = sizes.q_width(), v_begin = k_begin + sizes.kv_width(), v_end = v_begin + sizes.kv_width();
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    Recipe qkv = m.tensor(at + ".self_attn.qkv_proj.weight", {v_end, sizes.hidden});
    Recipe gate_up = m.tensor(at + ".mlp.gate_up_proj.weight", {2 * sizes.intermediate, sizes.hidden});
    auto rows = [](const Recipe& matrix, int64_t begin, int64_t end) {
      return LinearRecipes{recipe::slice(matrix, 0, begin, end), {}};
    };

    Value n = m.rms_norm(x, at + ".input_layernorm", sizes.epsilon);
    Value q = m.linear(n, at + ".self_attn.q_proj", rows(qkv, 0, k_begin));
    Value k = m.linear(n, at + ".self_attn.k_proj", rows(qkv, k_begin, v_begin));
    Value v = m.linear(n, at + ".self_attn.v_proj", rows(qkv, v_begin, v_end));
    q = m.rope(q, angles, sizes.head_size, at + ".self_attn.q_rope");
    k = m.rope(k, angles, sizes.head_size, at + ".self_attn.k_rope");
    Value a = m.attention(layer, q, k, v, attention, at + ".self_attn");
    a = m.linear(a, at + ".self_attn.o_proj", sizes.hidden);
    x = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.rms_norm(x, at + ".post_attention_layernorm", sizes.epsilon);
    Value gate = m.linear(n, at + ".mlp.gate_proj", rows(gate_up, 0, sizes.intermediate));
    Value up = m.linear(n, at + ".mlp.up_proj", rows(gate_up, sizes.intermediate, 2 * sizes.intermediate));
    Value product = gated_product(m, gate, up, at + ".mlp", function);
    x = m.add(Add{}, {x, m.linear(product, at + ".mlp.down_proj", sizes.hidden)}, at);
  }
  x = m.rms_norm(m.output_rows(x), "norm", sizes.epsilon);
  return m.finish(m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", false))));
}

}  // namespace

ModelEntry phi3() { return {"Phi3ForCausalLM", decoder_facts, load}; }

}  // namespace ingot::models
