#include "models/blocks/model_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/log.h"
#include "ops/attention.h"
#include "ops/indexing.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/rope.h"
#include "ops/sample.h"

namespace ingot {

namespace {

constexpr const char* kLastTokens = "last_tokens";

int64_t width_of(const Network& network, Value x) { return network.type(x).shape.back().constant(); }

bool same_bytes(const Checkpoint& checkpoint, std::string_view a, std::string_view b) {
  TensorView x = checkpoint.view(a), y = checkpoint.view(b);
  return x.type == y.type && std::memcmp(x.data, y.data, static_cast<size_t>(x.type.bytes())) == 0;
}

}  // namespace

AttentionSettings attention_settings(const DecoderSizes& sizes) {
  return {.heads = sizes.heads,
          .kv_heads = sizes.kv_heads,
          .head_size = sizes.head_size,
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(sizes.head_size)))};
}

// The ranges are placeholders: the builder knows the limits.
ModelWriter::ModelWriter(const Checkpoint& checkpoint, const ModelOptions& options, std::string prefix)
    : checkpoint_(checkpoint), options_(options), prefix_(std::move(prefix)) {
  network.dims = {{"tokens", 1, 512, 8192}, {"sequences", 1, 1, 256}, {"outputs", 1, 1, 256}};
  for (auto [name, size] : {std::pair<const char*, Dim>{"ids", "tokens"},
                            {"positions", "tokens"},
                            {"query_starts", Dim("sequences", 1, 1)},
                            {"context_lengths", "sequences"},
                            {"output_rows", "outputs"}})
    input(name, size);
  if (options_.choose_tokens) add_choice_inputs();
}

void ModelWriter::add_choice_inputs() {
  network.dims.push_back({"listed", 0, 0, int64_t{1} << 30});
  network.dims.push_back({"seats", 1, 1, 256});
  network.add_input("sample_options", {DType::kF32, {"outputs", int64_t{sample::kOptions}}, ""});
  network.add_input("sample_choices", {DType::kI32, {"outputs", int64_t{sample::kChoices}}, ""});
  network.add_input("sample_listed", {DType::kI32, {"listed", 2}, ""});
  network.add_state(kLastTokens, {DType::kI32, {"seats"}, ""});
}

Value ModelWriter::input(const std::string& name, Dim size) {
  return network.add_input(name, {DType::kI32, {std::move(size)}, ""});
}

Recipe ModelWriter::tensor(std::string_view name, const std::vector<int64_t>& shape) const {
  return tensor_named(prefix_ + std::string(name), shape);
}

Recipe ModelWriter::tensor_named(std::string_view full_name, const std::vector<int64_t>& shape) const {
  checkpoint_.require(full_name, shape);
  return recipe::tensor(std::string(full_name));
}

Value ModelWriter::weight(const std::string& name, Recipe recipe, DType dtype) {
  TensorType type = infer(recipe, [&](std::string_view leaf) { return *checkpoint_.find(leaf); });
  if (type.dtype != dtype) recipe = recipe::cast(std::move(recipe), dtype);
  type.dtype = dtype;
  return network.add_weight(name, std::move(recipe), std::move(type));
}

Value ModelWriter::head(Value table, std::string_view full_name, bool tied) {
  const TensorType& type = network.type(table);
  if (tied && !checkpoint_.is_random() && checkpoint_.has(full_name)) {
    tied = same_bytes(checkpoint_, leaves(network.node(table).recipe).front(), full_name);
    if (!tied)
      log_warning("the config ties the head to the embedding, but \"{}\" holds other values: they are used", full_name);
  }
  if (tied) return table;
  return matrix(std::string(full_name), tensor_named(full_name, type.sizes()));
}

Value ModelWriter::embed(std::string_view input, Value table, const std::string& name) {
  Value ids = network.find(input);
  if (options_.choose_tokens && input == "ids") ids = add(NextIds{}, {ids, network.find(kLastTokens)}, "next_ids");
  return add(Embedding{options_.activations}, {ids, table}, name);
}

Value ModelWriter::linear(Value x, const std::string& name, int64_t outputs, bool bias) {
  Recipe weight = tensor(name + ".weight", {outputs, width_of(network, x)});
  return linear(x, name, {weight, bias ? tensor(name + ".bias", {outputs}) : Recipe()});
}

Value ModelWriter::linear(Value x, const std::string& name, LinearRecipes recipes) {
  Value w = matrix(name + ".weight", std::move(recipes.weight));
  if (!recipes.bias) return add(Matmul{}, {x, w}, name);
  Value product = add(Matmul{}, {x, w}, name + ".product");
  return add(Add{}, {product, vector(name + ".bias", std::move(recipes.bias))}, name);
}

Value ModelWriter::gain_norm(Value x, const std::string& name, float epsilon, Recipe gain) {
  return add(RmsNorm{epsilon}, {x, vector(name + ".weight", std::move(gain))}, name);
}

Value ModelWriter::rms_norm(Value x, const std::string& name, float epsilon, int64_t width) {
  return gain_norm(x, name, epsilon, tensor(name + ".weight", {width ? width : width_of(network, x)}));
}

Value ModelWriter::rms_norm_plus_one(Value x, const std::string& name, float epsilon, int64_t width) {
  Recipe distance = tensor(name + ".weight", {width ? width : width_of(network, x)});
  return gain_norm(x, name, epsilon, recipe::add(recipe::cast(distance, DType::kF32), 1));
}

Value ModelWriter::layer_norm(Value x, const std::string& name, float epsilon) {
  int64_t width = width_of(network, x);
  Value gamma = vector(name + ".weight", tensor(name + ".weight", {width}));
  Value beta = vector(name + ".bias", tensor(name + ".bias", {width}));
  return add(LayerNorm{epsilon}, {x, gamma, beta}, name);
}

Value ModelWriter::rope_angles(const Rotation& rotation, const std::string& name) {
  Value frequencies = vector(name + ".inv_freq", rotation.frequencies);
  return add(RopeAngles{rotation.attention_factor}, {network.find("positions"), frequencies}, name);
}

Value ModelWriter::rope(Value x, Value angles, int64_t head_size, const std::string& name) {
  return add(ingot::Rope{.head_size = head_size}, {x, angles}, name);
}

std::string ModelWriter::group_of(int64_t window) {
  std::string group = window ? format("window_{}", window) : "full";
  auto known = std::find_if(network.groups.begin(), network.groups.end(),
                            [&](const CacheGroup& other) { return other.name == group; });
  if (known != network.groups.end()) return group;
  network.groups.push_back({group, options_.page_size, window});
  network.dims.push_back({"pages." + group, 1, 64, 4096});
  network.dims.push_back({"pool_pages." + group, 1, 4096, 65536});
  input("slots." + group, "tokens");
  input("page_starts." + group, Dim("sequences", 1, 1));
  input("page_list." + group, Dim("pages." + group));
  input("context_starts." + group, "sequences");
  return group;
}

Value ModelWriter::attention(int64_t layer, Value q, Value k, Value v, const AttentionSettings& settings,
                             const std::string& name) {
  // A window that no text outgrows is none, and its layers share the pages of the others.
  int64_t window = settings.window < options_.max_seq_len ? settings.window : 0;
  std::string group = group_of(window);
  TensorType state{
      options_.dtype, {Dim("pool_pages." + group), settings.kv_heads, options_.page_size, settings.head_size}, ""};
  Value slots = network.find("slots." + group), written[2];
  for (int i : {0, 1}) {
    std::string state_name = format("layers.{}.{}", layer, i == 0 ? "k" : "v");
    Value old = network.add_state(state_name, state, group);
    written[i] = add(KvWrite{}, {old, i == 0 ? k : v, slots}, name + (i == 0 ? ".k_cache" : ".v_cache"));
    states_.emplace_back(state_name, written[i]);
  }
  Attention op{.heads = settings.heads, .scale = settings.scale, .soft_cap = settings.soft_cap, .window = window};
  return add(op,
             {q, written[0], written[1], network.find("query_starts"), network.find("context_lengths"),
              network.find("page_starts." + group), network.find("page_list." + group),
              network.find("context_starts." + group)},
             name + ".attention");
}

Value ModelWriter::output_rows(Value x) { return add(GatherRows{}, {x, network.find("output_rows")}, "output_rows"); }

Value ModelWriter::logits(Value x, Value head) {
  if (network.type(x).dtype != DType::kF32) x = add(Cast{DType::kF32}, {x}, "lm_head.input");
  return add(Matmul{}, {x, head}, "lm_head");
}

Network ModelWriter::finish(Value logits) {
  network.add_output("logits", logits);
  if (options_.choose_tokens) {
    Values chosen = network.add(Sample{},
                                {logits, network.find("sample_options"), network.find("sample_choices"),
                                 network.find("sample_listed"), network.find(kLastTokens)},
                                "sample");
    network.add_output("chosen", chosen[0]);
    network.add_output("likeliest", chosen[2]);
    network.add_output("logprobs", chosen[3]);
    states_.emplace_back(kLastTokens, chosen[1]);
  }
  for (const auto& [name, value] : states_) network.add_output(name, value);
  return std::move(network);
}

}  // namespace ingot
