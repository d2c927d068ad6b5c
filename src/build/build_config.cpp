#include "build/build_config.h"

#include <algorithm>
#include <array>
#include <variant>

#include "base/fields.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"
#include "tensor/cache_group.h"

namespace ingot {

namespace {

using Member = std::variant<int64_t BuildConfig::*, int BuildConfig::*, bool BuildConfig::*, std::string BuildConfig::*,
                            std::vector<std::string> BuildConfig::*>;
struct Entry {
  const char* name;
  Member member;
};

const std::array kEntries = {
    Entry{"max_batch_size", &BuildConfig::max_batch_size},
    Entry{"max_input_len", &BuildConfig::max_input_len},
    Entry{"max_seq_len", &BuildConfig::max_seq_len},
    Entry{"max_num_tokens", &BuildConfig::max_num_tokens},
    Entry{"max_beam_width", &BuildConfig::max_beam_width},
    Entry{"tokens_per_block", &BuildConfig::tokens_per_block},
    Entry{"gather_context_logits", &BuildConfig::gather_context_logits},
    Entry{"kv_cache_type", &BuildConfig::kv_cache_type},
    Entry{"dtype", &BuildConfig::dtype},
    Entry{"target", &BuildConfig::target},
    Entry{"threads", &BuildConfig::threads},
    Entry{"opt_level", &BuildConfig::opt_level},
    Entry{"strongly_typed", &BuildConfig::strongly_typed},
    Entry{"use_paged_context_fmha", &BuildConfig::use_paged_context_fmha},
    Entry{"tactic_sources", &BuildConfig::tactic_sources},
    Entry{"disable", &BuildConfig::disable},
};

constexpr int64_t kMostPositions = INT32_MAX;  // engines hold positions in 32 bits

void check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) fail(ErrorCode::kUsage, "{} is {}, needed {} to {}", name, value, least, most);
}

void check(const BuildConfig& c) {
  check_range("max_batch_size", c.max_batch_size, 1, 65536);
  check_range("max_input_len", c.max_input_len, 0, kMostPositions);
  check_range("max_seq_len", c.max_seq_len, 0, kMostPositions);
  check_range("max_num_tokens", c.max_num_tokens, 0, int64_t{1} << 20);
  check_range("tokens_per_block", c.tokens_per_block, 1, kMostPageSize);
  check_range("opt_level", c.opt_level, 0, 5);
  check_range("threads", c.threads, 0, kMostThreads);
  if (c.max_beam_width != 1)
    fail(ErrorCode::kUsage, "max_beam_width is {}; this version searches with one beam only", c.max_beam_width);
  if (!c.strongly_typed)
    fail(ErrorCode::kUsage, "strongly_typed is false; this version builds strongly typed networks only");
}

// The engine's dtype where none is asked for. What config.json says is no usage error.
std::string stored_dtype(const Json& model_config) {
  Scope scope("config.json");
  std::string name = model_config.get("dtype", model_config.get("torch_dtype", "bfloat16"));
  try {
    parse_user_dtype(name);
  } catch (const Error& error) {
    throw error.with_code(ErrorCode::kUnsupportedModel);
  }
  return name;
}

constexpr int64_t kDefaultNumTokens = 1024, kDefaultNumTokensCuda = 8192;
// Rows of logits that one step can give without gather_context_logits.
constexpr int64_t kDefaultOutputs = 256;

class Resolver {
 public:
  Resolver(const BuildConfig& asked, const ModelFacts& facts) : facts_(facts) { resolved_.config = asked; }

  ResolvedConfig run(const Json& model_config) {
    BuildConfig& c = resolved_.config;
    check(c);
    if (c.dtype.empty()) c.dtype = stored_dtype(model_config);
    resolved_.dtype = parse_user_dtype(c.dtype);
    c.dtype = std::string(user_dtype_name(resolved_.dtype));
    if (c.threads == 0) c.threads = std::min(usable_cpus(), kMostThreads);
    if (!c.kv_cache_type.empty() && c.kv_cache_type != "paged")
      change("kv_cache_type", c.kv_cache_type, std::string("paged"),
             "the KV cache of every architecture here is paged");
    c.kv_cache_type = "paged";
    if (!c.use_paged_context_fmha)
      change("use_paged_context_fmha", c.use_paged_context_fmha, true, "prompts always read the paged KV cache");
    resolved_.target = parse_target(c.target, c.threads);
    c.target = resolved_.target.text();
    lengths();
    resolved_.limits = {c.max_batch_size, c.max_seq_len, c.max_num_tokens,
                        c.gather_context_logits ? c.max_num_tokens : std::max(c.max_batch_size, kDefaultOutputs)};
    if (c.strict && !resolved_.overrides.empty()) {
      const Override& o = resolved_.overrides[0];
      fail(ErrorCode::kUsage, "--strict: {} would be {} instead of {}: {}", o.setting, o.used, o.asked, o.reason);
    }
    return std::move(resolved_);
  }

 private:
  void lengths() {
    BuildConfig& c = resolved_.config;
    if (c.max_seq_len == 0) c.max_seq_len = facts_.max_positions;
    if (facts_.max_positions_are_hard && c.max_seq_len > facts_.max_positions)
      change("max_seq_len", c.max_seq_len, facts_.max_positions, "the model has learned no later positions");
    if (c.max_input_len == 0) c.max_input_len = c.max_seq_len;
    if (c.max_input_len > c.max_seq_len)
      change("max_input_len", c.max_input_len, c.max_seq_len, "a prompt is part of the sequence");
    int64_t most = resolved_.target.kind == "cuda" ? kDefaultNumTokensCuda : kDefaultNumTokens;
    if (c.max_num_tokens == 0) c.max_num_tokens = std::max(c.max_batch_size, std::min(most, c.max_seq_len));
    if (c.max_num_tokens < c.max_batch_size)
      change("max_num_tokens", c.max_num_tokens, c.max_batch_size, "every sequence of a step has at least one token");
  }

  static std::string shown(bool value) { return value ? "true" : "false"; }
  static std::string shown(int64_t value) { return std::to_string(value); }
  static std::string shown(const std::string& value) { return value; }

  template <class T>
  void change(const char* setting, T& value, T used, const char* reason) {
    resolved_.overrides.push_back({setting, shown(value), shown(used), reason});
    value = used;
  }

  ModelFacts facts_;
  ResolvedConfig resolved_;
};

}  // namespace

Json to_json(const BuildConfig& config) {
  Json json = Json::object();
  for (const Entry& entry : kEntries)
    std::visit([&](auto member) { json.set(entry.name, value_to_json(config.*member)); }, entry.member);
  return json;
}

BuildConfig build_config_from_json(const Json& json) {
  BuildConfig config;
  std::vector<std::string> names;
  names.reserve(kEntries.size());
  for (const Entry& entry : kEntries) names.emplace_back(entry.name);
  for (const auto& [key, value] : json.as_object()) {
    Scope scope(format("key \"{}\"", key));
    auto entry = std::find_if(kEntries.begin(), kEntries.end(), [&](const Entry& e) { return key == e.name; });
    if (entry == kEntries.end())
      fail(ErrorCode::kUsage, "there is no such setting; the nearest is \"{}\"", nearest(key, names));
    std::visit([&](auto member) { value_from_json(value, config.*member); }, entry->member);
  }
  return config;
}

void check_resolved(const BuildConfig& c) {
  check(c);
  check_range("max_seq_len", c.max_seq_len, 1, kMostPositions);
  check_range("max_input_len", c.max_input_len, 1, c.max_seq_len);
  check_range("max_num_tokens", c.max_num_tokens, c.max_batch_size, int64_t{1} << 20);
  check_range("threads", c.threads, 1, kMostThreads);
  parse_user_dtype(c.dtype);
}

ResolvedConfig resolve(const BuildConfig& asked, const ModelFacts& facts, const Json& model_config) {
  return Resolver(asked, facts).run(model_config);
}

void save_config(const BuildConfig& config, const std::string& path) {
  Json json = Json::object();
  json.set("builder_config", to_json(config));
  json.set("plugin_config", Json::object());
  write_text_file(path, json.dump(2) + "\n");
}

BuildConfig load_config(const std::string& path) {
  Scope scope(path);
  Json json = parse_json(MappedFile(path).text());
  const Json* inner = json.find("builder_config");
  return build_config_from_json(inner ? *inner : json);
}

}  // namespace ingot
