#include "inspect/inspect_files.h"

#include <map>
#include <set>
#include <tuple>

#include "base/error.h"
#include "build/build.h"
#include "checkpoint/checkpoint.h"
#include "ir/text.h"
#include "plan/engine_file.h"
#include "tune/timing_cache.h"

namespace ingot {

namespace {

// What was asked for and a file of this kind does not have.
void refuse_other(const char* kind, const InspectOptions& options, const InspectOptions& has) {
  const std::tuple<const char*, bool, bool> flags[] = {{"layers", options.layers, has.layers},
                                                       {"tactics", options.tactics, has.tactics},
                                                       {"memory", options.memory, has.memory},
                                                       {"graph", options.graph, has.graph}};
  for (const auto& [name, asked, there] : flags)
    if (asked && !there) fail(ErrorCode::kUsage, "{} has no {} to show", kind, name);
}

Json types_json(const std::vector<PlanInput>& values) {
  Json object = Json::object();
  for (const PlanInput& value : values) object.set(value.name, print(value.type));
  return object;
}

Json program_json(const Program& program) {
  Json json = Json::object();
  json.set("target", program.target);
  for (const DimRange& dim : program.dims)
    if (!dim.symbol.starts_with("p")) json.set(dim.symbol, format("{}..{}", dim.min, dim.max));
  json.set("steps", static_cast<int64_t>(program.steps.size()));
  json.set("arena_bytes", program.arena_bytes);
  return json;
}

Json layers_json(const Program& program) {
  Json array = Json::array();
  for (const Step& step : program.steps) {
    Json json = Json::object();
    json.set("label", step.label);
    json.set("tactic", step.tactic);
    json.set("problem", step.problem);
    array.push(json);
  }
  return array;
}

// Every different problem of every program with its tactic, and how many steps it serves.
Json tactics_json(const Plan& plan) {
  Json array = Json::array();
  for (const Program& program : plan.programs) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const Step& step : program.steps) ++counts[{step.problem, step.tactic}];
    for (const auto& [key, count] : counts) {
      Json json = Json::object();
      json.set("problem", key.first);
      json.set("tactic", key.second);
      json.set("steps", count);
      array.push(json);
    }
  }
  return array;
}

Json memory_json(const Plan& plan) {
  Json json = Json::object(), weights = Json::array(), states = Json::object();
  for (const PlanWeight& weight : plan.weights) {
    Json entry = Json::object();
    entry.set("name", weight.name);
    entry.set("type", print(weight.type));
    entry.set("bytes", weight.bytes);
    entry.set("recipe", weight.recipe);
    weights.push(entry);
  }
  for (const PlanState& state : plan.states)
    states.set(state.name, print(state.type) + (state.group.empty() ? "" : " in group " + state.group));
  json.set("states", states);
  json.set("weights", weights);
  return json;
}

Json engine_json(const Path& file, const InspectOptions& options) {
  refuse_other("an engine", options, {.layers = true, .tactics = true, .memory = true});
  EngineFile engine = EngineFile::open(file, {.verify_weights = false});
  const Plan& plan = engine.plan();
  Json json = Json::object();
  json.set("kind", "engine");
  json.set("content_hash", engine.content_hash());
  json.set("bytes", engine.bytes());
  json.set("weights", static_cast<int64_t>(plan.weights.size()));
  json.set("weight_bytes", static_cast<int64_t>(engine.weights().size()));
  json.set("inputs", types_json(plan.inputs));
  json.set("outputs", types_json(plan.outputs));
  Json groups = Json::array(), programs = Json::array();
  for (const CacheGroup& group : plan.groups) groups.push(value_to_json(group));
  for (const Program& program : plan.programs) programs.push(program_json(program));
  json.set("cache_groups", groups);
  json.set("programs", programs);
  if (options.layers && !plan.programs.empty()) json.set("layers", layers_json(plan.programs[0]));
  if (options.tactics) json.set("tactics", tactics_json(plan));
  if (options.memory) json.set("memory", memory_json(plan));
  return json;
}

Json tensors_json(const std::vector<StoredTensor>& tensors) {
  Json object = Json::object();
  for (const StoredTensor& tensor : tensors) object.set(tensor.name, print(tensor.type));
  return object;
}

Json checkpoint_json(Checkpoint checkpoint, const InspectOptions& options) {
  refuse_other("a checkpoint", options, {.layers = true, .memory = true, .graph = true});
  Json json = Json::object();
  json.set("kind", "checkpoint");
  const ModelEntry& model = find_model(checkpoint.config());
  ModelFacts facts = model.facts(checkpoint.config());
  json.set("architecture", facts.architecture);
  json.set("layers", facts.layers);
  json.set("hidden_size", facts.hidden_size);
  json.set("vocab_size", facts.vocab_size);
  json.set("max_positions", facts.max_positions);
  BuildConfig config;
  config.threads = 1;
  Network network =
      loaded_network(checkpoint, resolve(config, facts, checkpoint.config()));  // names a lone config's tensors
  int64_t parameters = 0, bytes = 0;
  Json tensors = Json::object();
  for (const std::string& name : checkpoint.names()) {
    const TensorType& type = checkpoint.type(name);
    parameters += type.elements();
    bytes += type.bytes();
    tensors.set(name, print(type));
  }
  json.set("parameters", parameters);
  json.set("bytes", bytes);
  if (options.graph) json.set("graph", print(network));
  if (options.layers || options.memory) json.set("tensors", tensors);
  return json;
}

// Of the entries that share a device, or a source with its version.
struct Share {
  int64_t entries = 0;
  std::set<std::string> problems;
};

Json shares_json(const char* name, const std::map<std::string, Share>& shares) {
  Json array = Json::array();
  for (const auto& [key, share] : shares) {
    Json json = Json::object();
    json.set(name, key);
    json.set("problems", static_cast<int64_t>(share.problems.size()));
    json.set("entries", share.entries);
    array.push(json);
  }
  return array;
}

Json timing_cache_json(const Path& path) {
  TimingCache cache;
  std::vector<std::string> damage = cache.merge_text(MappedFile(path).text());
  std::map<std::string, Share> devices, sources;
  cache.for_each([&](const std::string& device, const std::string& problem, const std::string& candidate) {
    for (Share* share : {&devices[device], &sources[candidate.substr(0, candidate.find(' '))]}) {
      ++share->entries;
      share->problems.insert(problem);
    }
  });
  Json json = Json::object(), damaged = Json::array();
  json.set("kind", "timing cache");
  json.set("entries", static_cast<int64_t>(cache.size()));
  json.set("devices", shares_json("device", devices));
  json.set("sources", shares_json("source", sources));
  for (const std::string& line : damage) damaged.push(line);
  json.set("damaged_lines", damaged);
  return json;
}

}  // namespace

Json inspect_path(const Path& path, const InspectOptions& options) {
  namespace fs = std::filesystem;
  Scope scope(path.string());
  if (!fs::exists(path)) fail(ErrorCode::kUsage, "there is no such file or directory");
  if (fs::is_directory(path)) {
    if (fs::exists(path / "rank0.engine")) return engine_json(path / "rank0.engine", options);
    if (fs::exists(path / "config.json")) return checkpoint_json(Checkpoint::open(path), options);
    fail(ErrorCode::kUsage, "the directory holds neither rank0.engine nor config.json");
  }
  if (path.extension() == ".engine") return engine_json(path, options);
  if (path.extension() == ".safetensors") {
    refuse_other("a safetensors file", options, {});
    Json json = Json::object();
    json.set("kind", "safetensors");
    json.set("tensors", tensors_json(SafetensorsFile(path).tensors()));
    return json;
  }
  if (path.extension() == ".json") return checkpoint_json(Checkpoint::random(path, 0), options);
  if (MappedFile(path).text().starts_with("# ingot timing cache")) {
    refuse_other("a timing cache", options, {});
    return timing_cache_json(path);
  }
  fail(ErrorCode::kUsage, "this is no engine, checkpoint, safetensors file or timing cache");
}

std::string inspect(const std::string& path, const InspectOptions& options) {
  return inspect_path(path, options).dump(2);
}

}  // namespace ingot
