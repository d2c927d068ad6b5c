#include "models/model.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/log.h"

namespace ingot {

namespace {

// "Qwen2Moe" of "Qwen2MoeForCausalLM": the common endings would drown the difference.
std::string family(std::string_view architecture) {
  for (std::string_view ending : {"ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model"})
    if (architecture.ends_with(ending)) return std::string(architecture.substr(0, architecture.size() - ending.size()));
  return std::string(architecture);
}

ModelOptions completed(ModelOptions options, const ModelFacts& facts) {
  if (options.max_seq_len == 0) options.max_seq_len = facts.max_positions;
  if (options.max_seq_len < 1)
    fail(ErrorCode::kUsage, "the maximum sequence length is {}, it must be positive", options.max_seq_len);
  if (options.page_size < 1) fail(ErrorCode::kUsage, "the page size is {}, it must be positive", options.page_size);
  for (DType dtype : {options.dtype, options.activations})
    if (!is_float(dtype)) fail(ErrorCode::kUsage, "a model needs a float dtype, not {}", enum_name(dtype));
  if (options.max_seq_len > facts.max_positions)
    log_warning("the maximum sequence length {} exceeds the {} positions that the model was made for",
                options.max_seq_len, facts.max_positions);
  return options;
}

// Values of the loaded network are known by the label of the op that made them.
void name_origins(Network& network) {
  for (size_t i = 0; i < network.nodes().size(); ++i) {
    Node& node = network.mutable_node({static_cast<int>(i), 0});
    if (node.kind != NodeKind::kOp) continue;
    node.origins.assign(node.types.size(), {});
    for (size_t result = 0; result < node.types.size(); ++result)
      node.origins[result] = {node.types.size() == 1 ? node.label : format("{}.{}", node.label, result)};
  }
}

void check_all_used(const Network& network, const Checkpoint& checkpoint, const ModelEntry& entry) {
  std::set<std::string> used;
  for (const Node& node : network.nodes())
    if (node.kind == NodeKind::kWeight)
      for (std::string& name : leaves(node.recipe)) used.insert(std::move(name));
  std::vector<std::string> unused;
  for (std::string& name : checkpoint.names()) {
    bool ignored = std::any_of(entry.ignored.begin(), entry.ignored.end(),
                               [&](std::string_view ending) { return name.ends_with(ending); });
    // A head left over is a copy of the embedding that it is tied to: one that differs would be in use.
    bool copy = name == "lm_head.weight" || name == "embed_out.weight";
    if (!used.contains(name) && !ignored && !copy) unused.push_back(std::move(name));
  }
  if (unused.empty()) return;
  const size_t count = unused.size(), shown = std::min<size_t>(count, 8);
  unused.resize(shown);
  fail(ErrorCode::kUnsupportedModel,
       "{} tensors of the checkpoint have no place in {}: {}{}; the model differs from what its config.json says",
       count, entry.architecture, join(unused), count > shown ? ", …" : "");
}

}  // namespace

std::string architecture_of(const Json& config) {
  const Json* names = config.find_set("architectures");
  if (!names || (names->is_array() && names->as_array().empty()))
    fail(ErrorCode::kUnsupportedModel, "config.json names no architecture; \"architectures\" must hold one");
  Scope scope("config.json: key \"architectures\"");
  return names->as_array().front().as_string();
}

const ModelEntry& find_model(const Json& config) {
  std::string architecture = architecture_of(config);
  std::vector<std::string> known, families;
  for (const ModelEntry& entry : model_list()) {
    if (entry.architecture == architecture) return entry;
    known.emplace_back(entry.architecture);
    families.push_back(family(entry.architecture));
  }
  auto closest = std::find(families.begin(), families.end(), nearest(family(architecture), families));
  fail(ErrorCode::kUnsupportedModel, "the architecture \"{}\" is not known; the nearest known one is {}; known are {}",
       architecture, known[static_cast<size_t>(closest - families.begin())], join(known));
}

Network load_model(Checkpoint& checkpoint, const ModelOptions& options) {
  const ModelEntry& entry = find_model(checkpoint.config());
  Scope scope(std::string(entry.architecture));
  Network network = entry.load(checkpoint, completed(options, entry.facts(checkpoint.config())));
  check_all_used(network, checkpoint, entry);
  name_origins(network);
  return network;
}

}  // namespace ingot
