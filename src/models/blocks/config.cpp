#include "models/blocks/config.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace ingot {

namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24, kMaxLayers = 4096, kMaxPositions = (int64_t{1} << 31) - 1;

int64_t limited(std::string_view key, int64_t value, int64_t limit) {
  if (value < 1 || value > limit)
    fail(ErrorCode::kRuntime, "config.json: \"{}\" is {}, it must be between 1 and {}", key, value, limit);
  return value;
}

int64_t read_limited(const Json& config, std::string_view key, int64_t otherwise, int64_t limit) {
  if (!config.find_set(key) && otherwise == 0)
    fail(ErrorCode::kRuntime, "config.json has no \"{}\", which this architecture needs", key);
  return limited(key, setting(config, key, otherwise), limit);
}

struct NamedFunction {
  std::string_view name;
  ActivationFunction function;
};

// The names of the transformers library. gelu_new, gelu_fast and gelu_pytorch_tanh are the same formula.
constexpr NamedFunction kFunctions[] = {
    {"silu", ActivationFunction::kSilu},
    {"swish", ActivationFunction::kSilu},
    {"gelu", ActivationFunction::kGelu},
    {"gelu_python", ActivationFunction::kGelu},
    {"gelu_new", ActivationFunction::kGeluTanh},
    {"gelu_fast", ActivationFunction::kGeluTanh},
    {"gelu_pytorch_tanh", ActivationFunction::kGeluTanh},
    {"quick_gelu", ActivationFunction::kQuickGelu},
    {"relu", ActivationFunction::kRelu},
    {"tanh", ActivationFunction::kTanh},
    {"sigmoid", ActivationFunction::kSigmoid},
};

// Keys that change the mathematics and leave no trace among the tensors, so that the account of tensors cannot catch
// them. A feature is off when its key is absent, null, false, 0, "" or empty, or equal to `neutral`.
struct Feature {
  std::string_view key;
  double neutral = 0;
};
constexpr Feature kFeatures[] = {
    {"quantization_config"},
    {"compression_config"},
    {"alibi"},
    {"use_alibi"},
    {"clip_qkv"},
    {"sliding_window"},
    {"attention_chunk_size"},
    {"no_rope_layers"},
    {"rope_interleaved"},
    {"rope_ratio", 1},
    {"rotary_pct", 1},
    {"attn_logit_softcapping"},
    {"final_logit_softcapping"},
    {"query_pre_attn_scalar"},
    {"attention_multiplier"},
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"logits_soft_cap"},
    {"lm_head_multiplier", 1},
    {"output_multiplier_scale", 1},
    {"embedding_scale", 1},
    {"scale_emb", 1},
    {"scale_depth"},
    {"scale_embedding"},
    {"mup_enabled"},
    {"use_qk_norm"},
    {"qk_layernorm"},
    {"qk_norm"},
    {"use_parallel_residual"},
    {"parallel_attn"},
    {"norm_after"},
    {"is_encoder_decoder"},
    {"add_cross_attention"},
    {"use_bidirectional_attention"},
    {"use_mrope"},
    {"pruned_heads"},
    {"num_experts", 1},
    {"num_local_experts", 1},
    {"n_routed_experts"},
    {"n_shared_experts"},
    {"shared_expert_intermediate_size"},
    {"shared_intermediate_size"},
    {"routed_scaling_factor", 1},
    {"scoring_func"},
    {"sparse_mixer"},
};

bool is_off(const Json& value, double neutral) {
  if (value.is_null()) return true;
  if (value.is_bool()) return !value.as_bool();
  if (value.is_number()) return value.as_double() == 0 || value.as_double() == neutral;
  if (value.is_string()) return value.as_string().empty();
  return value.is_array() ? value.as_array().empty() : value.as_object().empty();
}

}  // namespace

int64_t read_size(const Json& config, std::string_view key, int64_t otherwise) {
  return read_limited(config, key, otherwise, kMaxSize);
}

int64_t read_layers(const Json& config, std::string_view key) { return read_limited(config, key, 0, kMaxLayers); }

float read_epsilon(const Json& config, std::string_view key, double otherwise) {
  const double epsilon = setting(config, key, otherwise);
  if (!(epsilon >= 0 && std::isfinite(epsilon)))
    fail(ErrorCode::kRuntime, "config.json: \"{}\" is {}, it must be 0 or more", key, epsilon);
  return static_cast<float>(epsilon);
}

DecoderSizes read_sizes(const Json& config, SizeDefaults defaults) {
  DecoderSizes sizes;
  sizes.vocab = read_size(config, "vocab_size");
  sizes.hidden = read_size(config, "hidden_size");
  sizes.intermediate = read_size(config, "intermediate_size");
  sizes.layers = read_layers(config, "num_hidden_layers");
  sizes.heads = read_size(config, "num_attention_heads");
  sizes.kv_heads = read_size(config, "num_key_value_heads", sizes.heads);
  sizes.max_positions = read_limited(config, "max_position_embeddings", 0, kMaxPositions);
  if (!config.find_set("head_dim") && defaults.head_size == 0 && sizes.hidden % sizes.heads != 0)
    fail(ErrorCode::kRuntime, "config.json: \"hidden_size\" {} is not a multiple of \"num_attention_heads\" {}",
         sizes.hidden, sizes.heads);
  sizes.head_size = read_size(config, "head_dim", defaults.head_size ? defaults.head_size : sizes.hidden / sizes.heads);
  if (sizes.heads % sizes.kv_heads != 0)
    fail(ErrorCode::kRuntime, "config.json: \"num_attention_heads\" {} is not a multiple of \"num_key_value_heads\" {}",
         sizes.heads, sizes.kv_heads);
  sizes.epsilon = read_epsilon(config, "rms_norm_eps", defaults.epsilon);
  return sizes;
}

ModelFacts decoder_facts(const Json& config) {
  return {.architecture = architecture_of(config),
          .vocab_size = read_size(config, "vocab_size"),
          .hidden_size = read_size(config, "hidden_size"),
          .layers = read_layers(config, "num_hidden_layers"),
          .max_positions = read_limited(config, "max_position_embeddings", 0, kMaxPositions)};
}

ActivationFunction read_activation(const Json& config, std::string_view key, const char* otherwise) {
  std::string name = setting(config, key, otherwise);
  for (const NamedFunction& known : kFunctions)
    if (known.name == name) return known.function;
  std::vector<std::string> names;
  for (const NamedFunction& known : kFunctions) names.emplace_back(known.name);
  fail(ErrorCode::kUnsupportedModel, "config.json: the activation \"{}\" of \"{}\" is not known; known are {}", name,
       key, join(names));
}

int64_t read_window(const Json& config, std::string_view key, int64_t absent) {
  const Json* window = config.find(key);
  if (!window) return absent;
  return window->is_null() ? 0 : limited(key, setting(config, key, 0), kMaxPositions);
}

std::vector<int64_t> layer_windows(const Json& config, int64_t layers, int64_t window,
                                   bool (*slides)(const Json&, int64_t)) {
  std::vector<int64_t> windows;
  const Json* types = config.find_set("layer_types");
  if (types && static_cast<int64_t>(types->as_array().size()) != layers)
    fail(ErrorCode::kRuntime, "config.json: \"layer_types\" has {} entries for {} layers", types->as_array().size(),
         layers);
  for (int64_t i = 0; i < layers; ++i) {
    bool sliding = !types && window > 0 && slides(config, i);
    if (types) {
      const std::string& type = types->as_array()[static_cast<size_t>(i)].as_string();
      sliding = type == "sliding_attention";
      if (!sliding && type != "full_attention")
        fail(ErrorCode::kUnsupportedModel,
             "config.json: \"layer_types\" names \"{}\"; known are full_attention and sliding_attention", type);
      if (sliding && window == 0)
        fail(ErrorCode::kRuntime, "config.json: layer {} has sliding attention, but there is no \"sliding_window\"", i);
    }
    windows.push_back(sliding ? window : 0);
  }
  return windows;
}

void refuse_features(const Json& config, std::initializer_list<std::string_view> handled) {
  for (const Feature& feature : kFeatures) {
    if (std::find(handled.begin(), handled.end(), feature.key) != handled.end()) continue;
    const Json* value = config.find(feature.key);
    if (value && !is_off(*value, feature.neutral))
      fail(ErrorCode::kUnsupportedModel,
           "config.json: \"{}\" is {}, but this architecture is known only without that feature", feature.key,
           value->dump().substr(0, 200));
  }
}

}  // namespace ingot
