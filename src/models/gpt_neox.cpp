// GPT-NeoX: layer norms, attention that rotates a part of every head, a plain MLP; both read the layer's input when the
// residual is parallel. q, k and v stand in one matrix, head by head.
#include "models/blocks/model_writer.h"
#include "models/model_list.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

Rotation read_rotation(const Json& config, const DecoderSizes& sizes, const ModelOptions& options) {
  const Json* parameters =
      config.find_set("rope_scaling") ? config.find_set("rope_scaling") : config.find_set("rope_parameters");
  double theta = setting(config, "rotary_emb_base", setting(config, "rope_theta", 10000.0));
  double part = setting(config, "rotary_pct", setting(config, "partial_rotary_factor", 0.25));
  RopeContext context = rope_context(config, sizes, options);
  context.partial = true;
  return make_rotation(completed_rope(parameters ? *parameters : Json::object(), theta, part), context);
}

// Part 0, 1 or 2 (q, k or v) of a weight or bias whose rows are [heads, 3, head_size].
Recipe part_of_heads(const Recipe& recipe, const DecoderSizes& sizes, int64_t part, std::vector<int64_t> columns) {
  std::vector<int64_t> split = {sizes.heads, 3, sizes.head_size}, joined = {sizes.q_width()};
  split.insert(split.end(), columns.begin(), columns.end());
  joined.insert(joined.end(), columns.begin(), columns.end());
  return recipe::reshape(recipe::slice(recipe::reshape(recipe, split), 1, part, part + 1), joined);
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_sizes(config);
  const float epsilon = read_epsilon(config, "layer_norm_eps", 1e-5);
  const bool bias = setting(config, "attention_bias", true), parallel = setting(config, "use_parallel_residual", true);
  const ActivationFunction function = read_activation(config, "hidden_act", "gelu");
  const AttentionSettings attention = attention_settings(sizes);
  refuse_features(config, {"use_parallel_residual", "rotary_pct"});
  if (sizes.kv_heads != sizes.heads || sizes.q_width() != sizes.hidden)
    fail(ErrorCode::kUnsupportedModel, "config.json: GPT-NeoX has as many k and v heads as q heads, {} wide together",
         sizes.hidden);

  ModelWriter m(checkpoint, options, "gpt_neox.");
  Value table = m.matrix("embed_in.weight", {sizes.vocab, sizes.hidden});
  Value angles = m.rope_angles(read_rotation(config, sizes, options), "rotary_emb");
  Value x = m.embed("ids", table, "embed_in");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("layers.{}", layer);
    const std::string qkv = at + ".attention.query_key_value";
    Recipe weights = m.tensor(qkv + ".weight", {3 * sizes.hidden, sizes.hidden});
    Recipe biases = bias ? m.tensor(qkv + ".bias", {3 * sizes.hidden}) : Recipe();
    auto projection = [&](int64_t part) {
      return LinearRecipes{part_of_heads(weights, sizes, part, {sizes.hidden}),
                           bias ? part_of_heads(biases, sizes, part, {}) : Recipe()};
    };

    Value n = m.layer_norm(x, at + ".input_layernorm", epsilon);
    Value q = m.linear(n, at + ".attention.query", projection(0));
    Value k = m.linear(n, at + ".attention.key", projection(1));
    Value v = m.linear(n, at + ".attention.value", projection(2));
    q = m.rope(q, angles, sizes.head_size, at + ".attention.q_rope");
    k = m.rope(k, angles, sizes.head_size, at + ".attention.k_rope");
    Value a = m.attention(layer, q, k, v, attention, at + ".attention");
    a = m.linear(a, at + ".attention.dense", sizes.hidden, bias);
    Value attended = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.layer_norm(parallel ? x : attended, at + ".post_attention_layernorm", epsilon);
    Value y = m.linear(n, at + ".mlp.dense_h_to_4h", sizes.intermediate, true);
    y = m.add(Activation{function}, {y}, at + ".mlp.act");
    x = m.add(Add{}, {attended, m.linear(y, at + ".mlp.dense_4h_to_h", sizes.hidden, true)}, at);
  }
  x = m.layer_norm(m.output_rows(x), "final_layer_norm", epsilon);
  std::string_view head = checkpoint.has("lm_head.weight") ? "lm_head.weight" : "embed_out.weight";
  return m.finish(m.logits(x, m.head(table, head, setting(config, "tie_word_embeddings", false))));
}

// Buffers: the causal mask, what it fills in, the rotary frequencies.
constexpr std::string_view kIgnored[] = {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"};

}  // namespace

ModelEntry gpt_neox() { return {"GPTNeoXForCausalLM", decoder_facts, load, kIgnored}; }

}  // namespace ingot::models
