// What cannot be loaded is refused with the reason, never loaded wrongly.
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "model_files.h"
#include "models/model.h"

namespace ingot {
namespace {

struct Refusal {
  ErrorCode code;
  std::string message;
};

Refusal refusal_of(Checkpoint checkpoint, const ModelOptions& options = {}) {
  try {
    load_model(checkpoint, options);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "was not refused";
  return {};
}

// The refusal of a golden's config with `key` set to the JSON `value`.
Refusal refusal_with(const std::string& golden, const std::string& key, std::string_view value,
                     const ModelOptions& options = {}) {
  TemporaryModel model;
  Json config = golden_config(golden);
  config.set(key, parse_json(value));
  return refusal_of(model.random(config), options);
}

#define EXPECT_REFUSED(refusal, expected_code, ...)                                        \
  do {                                                                                     \
    Refusal got = (refusal);                                                               \
    EXPECT_EQ(got.code, expected_code) << got.message;                                     \
    for (const char* part : {__VA_ARGS__})                                                 \
      EXPECT_NE(got.message.find(part), std::string::npos) << got.message << "\n" << part; \
  } while (false)

constexpr ErrorCode kUnsupported = ErrorCode::kUnsupportedModel, kWorld = ErrorCode::kRuntime;

TEST(Refusal, UnknownArchitectureNamesTheNearest) {
  EXPECT_REFUSED(refusal_with("llama", "architectures", R"(["Qwen2MoeForCausalLM"])"), kUnsupported,
                 "\"Qwen2MoeForCausalLM\" is not known", "the nearest known one is Qwen3MoeForCausalLM");
  EXPECT_REFUSED(refusal_with("llama", "architectures", R"(["Gemma3ForConditionalGeneration"])"), kUnsupported,
                 "the nearest known one is Gemma3ForCausalLM");
  EXPECT_REFUSED(refusal_with("llama", "architectures", "[]"), kUnsupported, "architectures");
  EXPECT_REFUSED(refusal_with("llama", "architectures", "null"), kUnsupported, "architectures");
  EXPECT_REFUSED(refusal_with("llama", "architectures", "[7]"), kWorld, "string");
}

TEST(Refusal, UnknownRope) {
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_scaling", R"({"rope_type": "spiral", "factor": 2})"), kUnsupported,
                 "rope type \"spiral\"", "llama3");
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_scaling", R"({"type": "mrope", "mrope_section": [1, 2, 3]})"),
                 kUnsupported, "rope type \"mrope\"");
  EXPECT_REFUSED(refusal_with("llama", "rope_parameters", R"({"rope_type": "default", "mrope_section": [1, 2, 3]})"),
                 kUnsupported, "\"mrope_section\"");
  EXPECT_REFUSED(refusal_with("llama", "rope_parameters", R"({"full_attention": {"rope_type": "default"}})"),
                 kUnsupported, "\"full_attention\"");
  EXPECT_REFUSED(refusal_with("llama", "partial_rotary_factor", "0.5"), kUnsupported, "\"partial_rotary_factor\"");
}

TEST(Refusal, BadRopeParameters) {
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_scaling", R"({"type": "linear"})"), kWorld, "needs \"factor\"");
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_scaling", R"({"type": "linear", "factor": 0})"), kWorld, "factor");
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_scaling", R"({"type": "llama3", "factor": 8})"), kWorld,
                 "low_freq_factor");
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_scaling", R"("linear")"), kWorld, "must be an object");
  EXPECT_REFUSED(refusal_with("llama3-rope", "rope_theta", "-1"), kWorld, "rope_theta");
  EXPECT_REFUSED(refusal_with("gpt-neox-serial", "rotary_pct", "0.2"), kWorld, "even");
  EXPECT_REFUSED(refusal_with("phi3-longrope", "rope_scaling",
                              R"({"type": "longrope", "long_factor": [1, 2], "short_factor": [1, 2]})"),
                 kWorld, "long_factor", "3 are needed");
  EXPECT_REFUSED(refusal_with("phi3-longrope", "rope_scaling", R"({"type": "longrope", "short_factor": [1, 2]})"),
                 kWorld, "long_factor");
  EXPECT_REFUSED(refusal_with("phi3-longrope", "original_max_position_embeddings", "-5"), kWorld,
                 "original_max_position_embeddings");
  EXPECT_REFUSED(refusal_with("gemma3-nested", "rope_parameters", R"({"rope_type": "default"})"), kWorld,
                 "sliding_attention");
}

TEST(Refusal, DynamicRopeBeyondTheModelsLimit) {
  EXPECT_REFUSED(
      refusal_with("llama3-rope", "rope_scaling", R"({"type": "dynamic", "factor": 2})", {.max_seq_len = 513}),
      kUnsupported, "\"dynamic\"", "512");
}

TEST(Refusal, UnknownActivation) {
  EXPECT_REFUSED(refusal_with("llama", "hidden_act", "\"mish\""), kUnsupported, "\"mish\"", "silu");
  EXPECT_REFUSED(refusal_with("gemma2", "hidden_activation", "\"xielu\""), kUnsupported, "\"xielu\"");
  EXPECT_REFUSED(refusal_with("gpt2", "activation_function", "\"gelu_10\""), kUnsupported, "\"gelu_10\"");
}

TEST(Refusal, FeaturesThatLeaveNoTraceAmongTheTensors) {
  EXPECT_REFUSED(refusal_with("llama", "alibi", "true"), kUnsupported, "\"alibi\" is true");
  EXPECT_REFUSED(refusal_with("llama", "clip_qkv", "8.0"), kUnsupported, "\"clip_qkv\" is 8");
  EXPECT_REFUSED(refusal_with("llama", "sliding_window", "1024"), kUnsupported, "\"sliding_window\"");
  EXPECT_REFUSED(refusal_with("qwen3", "logits_scaling", "8"), kUnsupported, "\"logits_scaling\"");
  EXPECT_REFUSED(refusal_with("phi3", "attn_logit_softcapping", "50.0"), kUnsupported, "\"attn_logit_softcapping\"");
  EXPECT_REFUSED(refusal_with("gemma3", "attn_logit_softcapping", "50.0"), kUnsupported, "\"attn_logit_softcapping\"");
  EXPECT_REFUSED(refusal_with("gemma2", "use_bidirectional_attention", "true"), kUnsupported, "bidirectional");
  EXPECT_REFUSED(refusal_with("mistral-sliding", "quantization_config", R"({"quant_method": "gptq"})"), kUnsupported,
                 "\"quantization_config\"", "gptq");
  EXPECT_REFUSED(refusal_with("gpt2", "add_cross_attention", "true"), kUnsupported, "\"add_cross_attention\"");
  EXPECT_REFUSED(refusal_with("llama", "num_local_experts", "8"), kUnsupported, "\"num_local_experts\"");
}

TEST(Refusal, FeaturesThatAreSwitchedOffAreFine) {
  TemporaryModel model;
  Json config = golden_config("llama");
  for (auto [key, value] : {std::pair{"alibi", "false"},
                            {"clip_qkv", "null"},
                            {"logit_scale", "1.0"},
                            {"no_rope_layers", "[]"},
                            {"n_shared_experts", "0"},
                            {"unknown_but_harmless", "7"}})
    config.set(key, parse_json(value));
  Checkpoint checkpoint = model.random(config);
  EXPECT_NO_THROW(load_model(checkpoint, {}));
}

TEST(Refusal, LayerTypes) {
  EXPECT_REFUSED(refusal_with("gemma2", "layer_types", R"(["full_attention"])"), kWorld, "1 entries for 2 layers");
  EXPECT_REFUSED(refusal_with("gemma2", "layer_types", R"(["chunked_attention", "full_attention"])"), kUnsupported,
                 "\"chunked_attention\"");
  EXPECT_REFUSED(refusal_with("qwen2", "layer_types", R"(["sliding_attention", "full_attention"])"), kWorld, "layer 0",
                 "sliding_window");
}

TEST(Refusal, Sizes) {
  EXPECT_REFUSED(refusal_with("llama", "hidden_size", "null"), kWorld, "no \"hidden_size\"");
  EXPECT_REFUSED(refusal_with("llama", "num_attention_heads", "0"), kWorld, "\"num_attention_heads\" is 0");
  EXPECT_REFUSED(refusal_with("llama", "num_key_value_heads", "3"), kWorld, "num_key_value_heads");
  EXPECT_REFUSED(refusal_with("llama", "vocab_size", "-1"), kWorld, "\"vocab_size\" is -1");
  EXPECT_REFUSED(refusal_with("llama", "num_hidden_layers", "1000000000"), kWorld, "num_hidden_layers");
  EXPECT_REFUSED(refusal_with("llama", "head_dim", "9223372036854775807"), kWorld, "head_dim");
  EXPECT_REFUSED(refusal_with("llama", "vocab_size", R"("many")"), kWorld, "vocab_size");
  EXPECT_REFUSED(refusal_with("qwen2", "num_attention_heads", "6"), kWorld, "not a multiple");
  EXPECT_REFUSED(refusal_with("gpt2", "n_head", "5"), kWorld, "not a multiple");
  EXPECT_REFUSED(refusal_with("mixtral", "num_experts_per_tok", "5"), kWorld, "top_k");
}

TEST(Refusal, Options) {
  EXPECT_REFUSED(refusal_with("gpt2", "n_ctx", "256", {.max_seq_len = 257}), ErrorCode::kUsage, "257", "256");
  EXPECT_REFUSED(refusal_with("llama", "use_cache", "true", {.max_seq_len = -1}), ErrorCode::kUsage, "-1");
  EXPECT_REFUSED(refusal_with("llama", "use_cache", "true", {.page_size = 0}), ErrorCode::kUsage, "page size");
  EXPECT_REFUSED(refusal_with("llama", "use_cache", "true", {.dtype = DType::kI8}), ErrorCode::kUsage, "i8");
}

// --- tensors --------------------------------------------------------------------------------------------------------

using Tensors = std::map<std::string, std::vector<int64_t>>;

Tensors tensors_of(const Json& config) {
  TemporaryModel model;
  Checkpoint checkpoint = model.random(config);
  load_model(checkpoint, {});
  Tensors tensors;
  for (const std::string& name : checkpoint.names()) tensors[name] = checkpoint.find(name)->sizes();
  return tensors;
}

TEST(Tensors, MissingOnesAreNamed) {
  Json config = golden_config("llama-linear");
  Tensors tensors = tensors_of(config);
  EXPECT_EQ(tensors.erase("model.layers.1.mlp.up_proj.weight"), 1u);
  TemporaryModel model;
  EXPECT_REFUSED(refusal_of(model.stored(config, tensors)), kWorld, "no tensor \"model.layers.1.mlp.up_proj.weight\"");
}

TEST(Tensors, UnusedOnesAreNamed) {
  Json config = golden_config("llama-linear");
  Tensors tensors = tensors_of(config);
  tensors["model.layers.0.self_attn.q_proj.bias"] = {32};
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {4};  // a known buffer
  TemporaryModel model;
  EXPECT_REFUSED(refusal_of(model.stored(config, tensors)), kUnsupported, "1 tensors",
                 "model.layers.0.self_attn.q_proj.bias");
}

TEST(Tensors, WrongShapesAreNamed) {
  Json config = golden_config("llama-linear");
  Tensors tensors = tensors_of(config);
  tensors["model.norm.weight"] = {31};
  TemporaryModel model;
  EXPECT_REFUSED(refusal_of(model.stored(config, tensors)), kWorld, "model.norm.weight", "f32[31]", "f32[32]");
}

TEST(Tensors, IgnoredEndingsDoNotHideOthers) {
  Json config = golden_config("gpt-neox-serial");
  Tensors tensors = tensors_of(config);
  for (const char* buffer : {"bias", "masked_bias", "rotary_emb.inv_freq"})
    tensors[std::string("gpt_neox.layers.0.attention.") + buffer] = {2};
  {
    TemporaryModel model;
    Checkpoint checkpoint = model.stored(config, tensors);
    EXPECT_NO_THROW(load_model(checkpoint, {}));
  }
  tensors["gpt_neox.layers.0.attention.query_key_value.extra_bias"] = {2};
  TemporaryModel model;
  EXPECT_REFUSED(refusal_of(model.stored(config, tensors)), kUnsupported, "query_key_value.extra_bias");
}

TEST(Tensors, ATiedHeadThatIsStoredTooIsUsedOnlyWhenItDiffers) {
  Json config = golden_config("llama-linear");
  config.set("tie_word_embeddings", true);
  Tensors tensors = tensors_of(config);
  tensors["lm_head.weight"] = {64, 32};
  TemporaryModel model;
  Checkpoint equal = model.stored(config, tensors);  // all zero
  EXPECT_EQ(load_model(equal, {}).find("lm_head.weight").node, -1);

  // The first stored tensor is lm_head.weight.
  std::fstream file(model.path() / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  uint64_t header = 0;
  file.seekg(0);
  file.read(reinterpret_cast<char*>(&header), 8);
  file.seekp(static_cast<std::streamoff>(8 + header));
  file.write("\1\1\1\1", 4);
  file.close();
  Checkpoint different = Checkpoint::open(model.path());
  EXPECT_NE(load_model(different, {}).find("lm_head.weight").node, -1);
}

}  // namespace
}  // namespace ingot
