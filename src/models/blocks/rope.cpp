#include "models/blocks/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "base/error.h"

namespace ingot {

namespace {

using recipe::RopeFrequencies;
using recipe::RopeType;

double positive(const Json& parameters, std::string_view key) {
  if (!parameters.find_set(key))
    fail(ErrorCode::kRuntime, "config.json: the rope type \"{}\" needs \"{}\"", parameters.get("rope_type", ""), key);
  double value = parameters.get(key, 0.0);
  if (!(value > 0 && std::isfinite(value)))
    fail(ErrorCode::kRuntime, "config.json: the rope parameter \"{}\" is {}, it must be positive", key, value);
  return value;
}

int64_t original_positions(const Json& parameters, const RopeContext& context) {
  int64_t inner = parameters.get("original_max_position_embeddings", context.max_positions);
  int64_t original = context.original_positions ? context.original_positions : inner;
  if (original < 2)
    fail(ErrorCode::kRuntime, "config.json: \"original_max_position_embeddings\" is {}, it must be at least 2",
         original);
  return original;
}

// The part of each head that is rotated.
int64_t rotary_dim(const Json& parameters, const RopeContext& context) {
  double part = positive(parameters, "partial_rotary_factor");
  if (part != 1 && !context.partial)
    fail(ErrorCode::kUnsupportedModel,
         "config.json: \"partial_rotary_factor\" is {}, but this architecture is known only with whole heads rotated",
         part);
  auto dim = static_cast<int64_t>(static_cast<double>(context.head_size) * std::min(part, 1.0));
  if (part > 1 || dim < 2 || dim % 2 != 0)
    fail(ErrorCode::kRuntime, "config.json: \"partial_rotary_factor\" {} of heads of {} must be an even number", part,
         context.head_size);
  return dim;
}

// Unknown parameters might change the rotation.
void check_keys(const Json& parameters, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : parameters.as_object()) {
    bool common = key == "rope_type" || key == "type" || key == "rope_theta" || key == "partial_rotary_factor" ||
                  key == "original_max_position_embeddings" || key == "finetuned";
    if (value.is_null() || common || std::find(known.begin(), known.end(), key) != known.end()) continue;
    fail(ErrorCode::kUnsupportedModel, "config.json: the rope parameter \"{}\" of the type \"{}\" is not known", key,
         parameters.get("rope_type", ""));
  }
}

// Named by the rope type in config.json; they fill in what RopeFrequencies needs beyond theta and rotary_dim.

Rotation make_default(const Json& parameters, const RopeContext&, RopeFrequencies frequencies) {
  check_keys(parameters, {"factor"});
  return {recipe::rope_frequencies(frequencies)};
}

Rotation make_linear(const Json& parameters, const RopeContext&, RopeFrequencies frequencies) {
  check_keys(parameters, {"factor"});
  frequencies.type = RopeType::kLinear;
  frequencies.factor = positive(parameters, "factor");
  return {recipe::rope_frequencies(frequencies)};
}

// Up to the model's own length its frequencies are the default ones; beyond they depend on the length of the text.
Rotation make_dynamic(const Json& parameters, const RopeContext& context, RopeFrequencies frequencies) {
  check_keys(parameters, {"factor"});
  if (context.max_seq_len > context.max_positions)
    fail(ErrorCode::kUnsupportedModel,
         "the rope type \"dynamic\" is known only up to the {} positions of \"max_position_embeddings\"; the maximum "
         "sequence length {} must not exceed that",
         context.max_positions, context.max_seq_len);
  return {recipe::rope_frequencies(frequencies)};
}

Rotation make_llama3(const Json& parameters, const RopeContext& context, RopeFrequencies frequencies) {
  check_keys(parameters, {"factor", "low_freq_factor", "high_freq_factor"});
  frequencies.type = RopeType::kLlama3;
  frequencies.factor = positive(parameters, "factor");
  frequencies.low_freq_factor = positive(parameters, "low_freq_factor");
  frequencies.high_freq_factor = positive(parameters, "high_freq_factor");
  frequencies.original_max_position_embeddings = original_positions(parameters, context);
  return {recipe::rope_frequencies(frequencies)};
}

// One set of factors serves a whole engine: the long ones as soon as it can hold texts longer than the original length.
Rotation make_longrope(const Json& parameters, const RopeContext& context, RopeFrequencies frequencies) {
  check_keys(parameters, {"factor", "long_factor", "short_factor", "attention_factor"});
  int64_t original = original_positions(parameters, context);
  std::string_view key = context.max_seq_len > original ? "long_factor" : "short_factor";
  frequencies.type = RopeType::kLongrope;
  for (const Json& factor : parameters.at(key).as_array())
    frequencies.factors.push_back(static_cast<float>(factor.as_double()));
  if (static_cast<int64_t>(frequencies.factors.size()) != frequencies.rotary_dim / 2)
    fail(ErrorCode::kRuntime, "config.json: \"{}\" has {} numbers, {} are needed", key, frequencies.factors.size(),
         frequencies.rotary_dim / 2);
  double factor = parameters.find_set("factor")
                      ? positive(parameters, "factor")
                      : static_cast<double>(context.max_positions) / static_cast<double>(original);
  double attention = factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original))) : 1;
  if (parameters.find_set("attention_factor")) attention = positive(parameters, "attention_factor");
  return {recipe::rope_frequencies(std::move(frequencies)), static_cast<float>(attention)};
}

double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

double yarn_attention_factor(const Json& parameters, double factor) {
  if (parameters.find_set("attention_factor")) return positive(parameters, "attention_factor");
  double mscale = parameters.get("mscale", 0.0), all_dim = parameters.get("mscale_all_dim", 0.0);
  return mscale != 0 && all_dim != 0 ? yarn_scale(factor, mscale) / yarn_scale(factor, all_dim) : yarn_scale(factor, 1);
}

// Fast pairs keep their frequency, slow ones are divided by `factor`, with a ramp between (Peng et al., "YaRN", 2023).
Rotation make_yarn(const Json& parameters, const RopeContext& context, RopeFrequencies frequencies) {
  check_keys(parameters,
             {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"});
  auto original = static_cast<double>(original_positions(parameters, context));
  double factor = parameters.find_set("factor") ? positive(parameters, "factor")
                                                : static_cast<double>(context.max_positions) / original;
  double beta_fast = parameters.get("beta_fast", 32.0), beta_slow = parameters.get("beta_slow", 1.0);
  auto dim = static_cast<double>(frequencies.rotary_dim);
  auto pair_of = [&](double rotations) {
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(frequencies.theta));
  };
  double low = pair_of(beta_fast != 0 ? beta_fast : 32), high = pair_of(beta_slow != 0 ? beta_slow : 1);
  if (parameters.get("truncate", true)) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  std::vector<float> values = recipe::inverse_frequencies(frequencies);
  for (size_t i = 0; i < values.size(); ++i) {
    double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    values[i] = static_cast<float>(values[i] / factor * ramp + values[i] * (1 - ramp));
  }
  return {recipe::constant(std::move(values)), static_cast<float>(yarn_attention_factor(parameters, factor))};
}

struct NamedRope {
  std::string_view type;
  Rotation (*make)(const Json&, const RopeContext&, RopeFrequencies);
};
constexpr NamedRope kRopes[] = {
    {"default", make_default}, {"linear", make_linear},     {"dynamic", make_dynamic}, {"llama3", make_llama3},
    {"yarn", make_yarn},       {"longrope", make_longrope}, {"su", make_longrope},  // as the first Phi-3 checkpoints
                                                                                    // call it
};

}  // namespace

RopeContext rope_context(const Json& config, const DecoderSizes& sizes, const ModelOptions& options) {
  return {.head_size = sizes.head_size,
          .max_positions = sizes.max_positions,
          .max_seq_len = options.max_seq_len,
          .original_positions = setting(config, "original_max_position_embeddings", 0)};
}

Json rope_parameters(const Json& config, double default_theta) {
  const Json* older = config.find_set("rope_scaling");
  const Json* newer = config.find_set("rope_parameters");
  return completed_rope(older   ? *older
                        : newer ? *newer
                                : Json::object(),
                        setting(config, "rope_theta", default_theta), setting(config, "partial_rotary_factor", 1.0));
}

Json completed_rope(Json parameters, double theta, double partial_rotary_factor) {
  if (!parameters.is_object())
    fail(ErrorCode::kRuntime, "config.json: the rope parameters are {}, they must be an object", parameters.dump());
  if (!parameters.find_set("rope_type")) parameters.set("rope_type", parameters.get("type", "default"));
  if (!parameters.find_set("rope_theta")) parameters.set("rope_theta", theta);
  if (!parameters.find_set("partial_rotary_factor")) parameters.set("partial_rotary_factor", partial_rotary_factor);
  return parameters;
}

Rotation make_rotation(const Json& parameters, const RopeContext& context) {
  std::string type = parameters.get("rope_type", "default");
  const NamedRope* known =
      std::find_if(std::begin(kRopes), std::end(kRopes), [&](const NamedRope& rope) { return rope.type == type; });
  if (known == std::end(kRopes)) {
    std::vector<std::string> names;
    for (const NamedRope& rope : kRopes) names.emplace_back(rope.type);
    fail(ErrorCode::kUnsupportedModel, "config.json: the rope type \"{}\" is not known; known are {}", type,
         join(names));
  }
  RopeFrequencies frequencies;
  frequencies.theta = positive(parameters, "rope_theta");
  frequencies.rotary_dim = rotary_dim(parameters, context);
  return known->make(parameters, context, std::move(frequencies));
}

}  // namespace ingot
