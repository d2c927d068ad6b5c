// What config.json says about a decoder, checked: sizes are positive and of sane magnitude, and whatever changes the
// mathematics without a weight to show for it is either handled by the architecture or refused by name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "models/model.h"
#include "ops/activation_function.h"

namespace ingot {

// The member `key`, or `otherwise` when absent or null. The error of a wrong type names the file and the key.
template <class T>
auto setting(const Json& config, std::string_view key, T otherwise) {
  Scope scope("config.json");
  return config.get(key, otherwise);
}

// The epsilon of a norm: 0 or more.
float read_epsilon(const Json& config, std::string_view key, double otherwise);

// The member `key`, or `otherwise` when absent or null; a positive integer that any size of a model may have. Without
// `otherwise` the key must be there.
int64_t read_size(const Json& config, std::string_view key, int64_t otherwise = 0);
int64_t read_layers(const Json& config, std::string_view key);

// The sizes of a decoder in the key names that most architectures share.
struct DecoderSizes {
  int64_t vocab = 0, hidden = 0, intermediate = 0, layers = 0;
  int64_t heads = 0, kv_heads = 0, head_size = 0;
  int64_t max_positions = 0;
  float epsilon = 0;  // of the norms

  int64_t q_width() const { return heads * head_size; }
  int64_t kv_width() const { return kv_heads * head_size; }
};

// What an architecture means by keys that config.json leaves out; head_size 0: hidden / heads.
struct SizeDefaults {
  int64_t head_size = 0;
  double epsilon = 1e-6;
};
DecoderSizes read_sizes(const Json& config, SizeDefaults defaults = {});

// The facts of a model whose config has these keys.
ModelFacts decoder_facts(const Json& config);

// The activation that `key` names, `otherwise` when it is absent. Unknown ones are refused.
ActivationFunction read_activation(const Json& config, std::string_view key, const char* otherwise);

// The member `key` as a window: 0 for null, `absent` when the key is not there.
int64_t read_window(const Json& config, std::string_view key, int64_t absent);

// The window of every layer, 0 for full attention: by `layer_types` when config has it, else layer i slides when
// slides(i).
std::vector<int64_t> layer_windows(const Json& config, int64_t layers, int64_t window,
                                   bool (*slides)(const Json&, int64_t));

// Refuses every feature of the list in config.cpp that config switches on and the architecture does not handle.
void refuse_features(const Json& config, std::initializer_list<std::string_view> handled);

}  // namespace ingot
