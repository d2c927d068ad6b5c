// GPT-2: learned positions, layer norms, one matrix for q, k and v. Its matrices are stored [inputs, outputs].
#include <cmath>

#include "models/blocks/model_writer.h"
#include "models/model_list.h"
#include "ops/indexing.h"
#include "ops/pointwise.h"

namespace ingot::models {

namespace {

DecoderSizes read_gpt2_sizes(const Json& config) {
  DecoderSizes sizes;
  sizes.vocab = read_size(config, "vocab_size");
  sizes.hidden = read_size(config, "n_embd");
  sizes.intermediate = read_size(config, "n_inner", 4 * sizes.hidden);
  sizes.layers = read_layers(config, "n_layer");
  sizes.heads = sizes.kv_heads = read_size(config, "n_head");
  sizes.max_positions = read_size(config, "n_positions");
  sizes.epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  if (sizes.hidden % sizes.heads != 0)
    fail(ErrorCode::kRuntime, "config.json: \"n_embd\" {} is not a multiple of \"n_head\" {}", sizes.hidden,
         sizes.heads);
  sizes.head_size = sizes.hidden / sizes.heads;
  return sizes;
}

ModelFacts facts(const Json& config) {
  DecoderSizes sizes = read_gpt2_sizes(config);
  return {.architecture = architecture_of(config),
          .vocab_size = sizes.vocab,
          .hidden_size = sizes.hidden,
          .layers = sizes.layers,
          .max_positions = sizes.max_positions,
          .max_positions_are_hard = true};
}

float score_scale(const Json& config, int64_t head_size, int64_t layer) {
  double scale = setting(config, "scale_attn_weights", true) ? 1 / std::sqrt(static_cast<double>(head_size)) : 1;
  if (setting(config, "scale_attn_by_inverse_layer_idx", false)) scale /= static_cast<double>(layer + 1);
  return static_cast<float>(scale);
}

LinearRecipes conv1d(const ModelWriter& m, const std::string& name, int64_t inputs, int64_t outputs) {
  return {recipe::transpose(m.tensor(name + ".weight", {inputs, outputs})), m.tensor(name + ".bias", {outputs})};
}

Network load(Checkpoint& checkpoint, const ModelOptions& options) {
  const Json& config = checkpoint.config();
  const DecoderSizes sizes = read_gpt2_sizes(config);
  const int64_t hidden = sizes.hidden;
  const ActivationFunction function = read_activation(config, "activation_function", "gelu_new");
  AttentionSettings attention = attention_settings(sizes);
  refuse_features(config, {});
  if (options.max_seq_len > sizes.max_positions)
    fail(ErrorCode::kUsage, "the maximum sequence length {} exceeds the {} positions that the model has learned",
         options.max_seq_len, sizes.max_positions);

  ModelWriter m(checkpoint, options, checkpoint.has("wte.weight") ? "" : "transformer.");
  Value table = m.matrix("wte.weight", {sizes.vocab, hidden});
  Value position_table = m.matrix("wpe.weight", {sizes.max_positions, hidden});
  Value positions = m.embed("positions", position_table, "wpe");
  Value x = m.add(Add{}, {m.embed("ids", table, "wte"), positions}, "embeddings");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = format("h.{}", layer);
    attention.scale = score_scale(config, sizes.head_size, layer);
    Value n = m.layer_norm(x, at + ".ln_1", sizes.epsilon);
    Value qkv = m.linear(n, at + ".attn.c_attn", conv1d(m, at + ".attn.c_attn", hidden, 3 * hidden));
    Value q = m.add(Slice{0, hidden}, {qkv}, at + ".attn.q");
    Value k = m.add(Slice{hidden, 2 * hidden}, {qkv}, at + ".attn.k");
    Value v = m.add(Slice{2 * hidden, 3 * hidden}, {qkv}, at + ".attn.v");
    Value a = m.attention(layer, q, k, v, attention, at + ".attn");
    a = m.linear(a, at + ".attn.c_proj", conv1d(m, at + ".attn.c_proj", hidden, hidden));
    x = m.add(Add{}, {x, a}, at + ".attention_residual");
    n = m.layer_norm(x, at + ".ln_2", sizes.epsilon);
    Value y = m.linear(n, at + ".mlp.c_fc", conv1d(m, at + ".mlp.c_fc", hidden, sizes.intermediate));
    y = m.add(Activation{function}, {y}, at + ".mlp.act");
    y = m.linear(y, at + ".mlp.c_proj", conv1d(m, at + ".mlp.c_proj", sizes.intermediate, hidden));
    x = m.add(Add{}, {x, y}, at);
  }
  x = m.layer_norm(m.output_rows(x), "ln_f", sizes.epsilon);
  return m.finish(m.logits(x, m.head(table, "lm_head.weight", setting(config, "tie_word_embeddings", true))));
}

// The causal mask and what it fills in.
constexpr std::string_view kIgnored[] = {".attn.bias", ".attn.masked_bias"};

}  // namespace

ModelEntry gpt2() { return {"GPT2LMHeadModel", facts, load, kIgnored}; }

}  // namespace ingot::models
