// The public Builder: its network, its configuration with the times in memory, and both around build().
#include <algorithm>
#include <array>

#include "base/log.h"
#include "build/build.h"
#include "build/callback_progress.h"
#include "build/pretrained_model.h"
#include "ir/text.h"

namespace ingot {

namespace {

constexpr std::array kPrecisions = {"float32", "float16", "bfloat16"};
// Keys of a saved configuration beside those of BuildConfig.
constexpr std::array kOwnKeys = {"precision", "tensor_parallel", "use_refit", "int8", "fp8"};
// Settings that concern one build only and are not saved.
constexpr std::array kUnsavedKeys = {"timing_cache", "frozen", "strict", "max_host_bytes"};

template <size_t n>
bool is_one_of(const std::array<const char*, n>& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

void refuse_what_is_missing(const BuilderOptions& options) {
  if (options.use_refit && options.int8)
    fail(ErrorCode::kUsage,
         "use_refit and int8 exclude each other: weights that were folded with their int8 scales cannot be replaced "
         "later; leave out one of them");
  if (options.tensor_parallel != 1)
    fail(ErrorCode::kUsage, "tensor_parallel is {}; this version builds for one device, needed 1",
         options.tensor_parallel);
  const std::pair<const char*, bool> later[] = {
      {"use_refit", options.use_refit}, {"int8", options.int8}, {"fp8", options.fp8}};
  for (const auto& [name, asked] : later)
    if (asked) fail(ErrorCode::kUsage, "{} is true; this version does not have it, needed false", name);
  if (!options.strongly_typed || !options.build.strongly_typed)
    fail(ErrorCode::kUsage, "strongly_typed is false; this version builds strongly typed networks only");
}

void check_extra(const std::map<std::string, std::string>& extra) {
  const Json settings = to_json(BuildConfig{});
  for (const auto& [name, value] : extra)
    if (settings.find(name) || is_one_of(kOwnKeys, name) || is_one_of(kUnsavedKeys, name))
      fail(ErrorCode::kUsage, "the attribute \"{}\" has the name of a setting; set that, or choose another name", name);
}

std::shared_ptr<TimingCache> open_times(const std::string& file) {
  auto times = std::make_shared<TimingCache>();
  if (file.empty()) return times;
  std::error_code unreachable;
  if (!std::filesystem::exists(file, unreachable)) {
    log_warning("timing cache {}: there is no such file; a fresh one is used", file);
    return times;
  }
  try {
    *times = TimingCache::load(file);
  } catch (const Error& error) {
    log_warning("timing cache {}: {}; a fresh one is used", file, error.what());
  }
  return times;
}

std::shared_ptr<TimingCache> times_of(const BuilderOptions& options) {
  if (const auto* file = std::get_if<std::string>(&options.timing_cache)) return open_times(*file);
  const auto& shared = std::get<std::shared_ptr<TimingCache>>(options.timing_cache);
  return shared ? shared : std::make_shared<TimingCache>();
}

}  // namespace

struct NetworkDefinition::Impl {
  PretrainedModel model;
  Network network;
};

std::string NetworkDefinition::text() const { return print(impl_->network); }

std::vector<std::string> NetworkDefinition::named_parameters() const {
  std::vector<std::string> names;
  for (const Node& node : impl_->network.nodes())
    if (node.kind == NodeKind::kWeight) names.push_back(node.name);
  return names;
}

NetworkDefinition Builder::create_network(const PretrainedModel& model) const {
  Checkpoint& checkpoint = model.impl().checkpoint;
  const Json& config = checkpoint.config();
  ResolvedConfig resolved = resolve({}, find_model(config).facts(config), config);
  NetworkDefinition definition;
  definition.impl_ = std::make_shared<const NetworkDefinition::Impl>(
      NetworkDefinition::Impl{model, loaded_network(checkpoint, resolved)});
  return definition;
}

BuilderConfig Builder::create_builder_config(const std::string& precision, const BuilderOptions& options) const {
  if (!is_one_of(kPrecisions, precision))
    fail(ErrorCode::kUsage, "the precision is \"{}\"; allowed are {}", precision,
         join({kPrecisions.begin(), kPrecisions.end()}));
  if (!options.build.dtype.empty() && options.build.dtype != precision)
    fail(ErrorCode::kUsage, "the precision is {} and build.dtype {}; leave build.dtype empty", precision,
         options.build.dtype);
  if (!options.build.timing_cache.empty())
    fail(ErrorCode::kUsage,
         "build.timing_cache is {}; a Builder takes it as BuilderOptions::timing_cache and writes it with "
         "save_timing_cache",
         options.build.timing_cache);
  refuse_what_is_missing(options);
  check_extra(options.extra);
  BuilderConfig config;
  config.build_ = options.build;
  config.build_.dtype = precision;
  if (options.opt_level) config.build_.opt_level = *options.opt_level;
  config.extra_ = options.extra;
  config.times_ = times_of(options);
  return config;
}

BuildReport Builder::build_engine(const NetworkDefinition& network, const BuilderConfig& config,
                                  const std::string& directory, const ProgressCallback& callback) const {
  CallbackProgress progress(callback);
  return build(network.impl_->model.impl().checkpoint, config.build_, *config.times_, directory, progress);
}

void Builder::save_timing_cache(const BuilderConfig& config, const std::string& path) { config.times_->save(path); }

void Builder::save_config(const BuilderConfig& config, const std::string& path) {
  Json inner = Json::object();
  inner.set("precision", config.precision());
  inner.set("tensor_parallel", 1);
  for (const char* refused : {"use_refit", "int8", "fp8"}) inner.set(refused, false);
  const Json settings = to_json(config.build_);
  for (const auto& [name, value] : settings.as_object())
    if (name != "dtype") inner.set(name, value);  // it is the precision
  for (const auto& [name, value] : config.extra_) inner.set(name, value);
  Json json = Json::object();
  json.set("builder_config", inner);
  json.set("plugin_config", Json::object());
  write_text_file(path, json.dump(2) + "\n");
}

BuilderConfig Builder::load_config(const std::string& path) {
  Scope scope(path);
  const Json json = parse_json(MappedFile(path).text()), known = to_json(BuildConfig{});
  const Json& saved = json.at("builder_config");
  std::vector<std::string> names(kOwnKeys.begin(), kOwnKeys.end());
  for (const auto& [name, value] : known.as_object()) names.push_back(name);
  BuilderOptions options;
  Json settings = Json::object();
  for (const auto& [key, value] : saved.as_object()) {
    if (is_one_of(kOwnKeys, key)) continue;
    if (known.find(key))
      settings.set(key, value);
    else if (value.is_string())
      options.extra[key] = value.as_string();
    else
      fail(ErrorCode::kUsage, "key \"{}\": there is no such setting, the nearest is \"{}\"; an attribute is a string",
           key, nearest(key, names));
  }
  options.build = build_config_from_json(settings);
  options.strongly_typed = options.build.strongly_typed;
  options.tensor_parallel = saved.get("tensor_parallel", 1);
  options.use_refit = saved.get("use_refit", false);
  options.int8 = saved.get("int8", false);
  options.fp8 = saved.get("fp8", false);
  return Builder().create_builder_config(saved.at("precision").as_string(), options);
}

}  // namespace ingot
