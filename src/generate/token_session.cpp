#include "generate/token_session.h"

#include <algorithm>

#include "base/error.h"

namespace ingot {

namespace {

std::vector<int32_t> ids_of(const Json& config) {
  const Json* value = config.is_object() ? config.find_set("eos_token_id") : nullptr;
  if (!value) return {};
  Scope scope("key \"eos_token_id\"");
  std::vector<int32_t> ids;
  if (value->is_array())
    value_from_json(*value, ids);
  else
    value_from_json(*value, ids.emplace_back());
  return ids;
}

}  // namespace

std::vector<int32_t> read_eos_ids(const LoadedEngine& engine) {
  Path file = engine.directory() / "generation_config.json";
  if (!engine.directory().empty() && std::filesystem::exists(file)) {
    Scope scope(file.string());
    auto ids = ids_of(parse_json(read_text_file(file)));
    if (!ids.empty()) return ids;
  }
  const Json* pretrained = engine.config().find_set("pretrained_config");
  return pretrained ? ids_of(*pretrained) : std::vector<int32_t>{};
}

TokenSession::TokenSession(std::shared_ptr<const LoadedEngine> engine, const TokenSessionOptions& options)
    : runner_(engine, options.runner), scheduler_(runner_.groups(), runner_.pool(), runner_.limits()) {
  eos_ids_ = options.eos_ids ? *options.eos_ids : read_eos_ids(*engine);
  const Json* build = engine->config().find("build_config");
  max_input_len_ = build ? build->get("max_input_len", 0) : 0;
}

TokenSession::~TokenSession() = default;

void TokenSession::check(const TokenRequest& request) const {
  check_sampling(request.params);
  for (int32_t id : request.ids)
    if (id < 0 || id >= runner_.vocab_size())
      fail(ErrorCode::kUsage, "the prompt holds the id {}; the model knows 0 to {}", id, runner_.vocab_size() - 1);
  auto tokens = static_cast<int64_t>(request.ids.size());
  if (max_input_len_ > 0 && tokens > max_input_len_)
    fail(ErrorCode::kUsage, "the prompt has {} tokens; the engine's max_input_len is {}", tokens, max_input_len_);
}

uint64_t TokenSession::submit(TokenRequest request) {
  check(request);
  std::vector<int32_t> stops = request.params.stop_ids;
  if (!request.params.ignore_eos) stops.insert(stops.end(), eos_ids_.begin(), eos_ids_.end());
  auto running = std::make_unique<Running>(Running{Sampler(request.params, request.ids, stops), stops});
  uint64_t id = next_id_++;
  scheduler_.add({.id = id, .tokens = std::move(request.ids), .max_new_tokens = request.params.max_tokens});
  requests_.emplace(id, std::move(running));
  return id;
}

int64_t TokenSession::max_new_tokens(int64_t prompt_tokens) const {
  if (max_input_len_ > 0 && prompt_tokens > max_input_len_) return 0;
  int64_t longest = scheduler_.longest_sequence(limits().max_seq_len);
  // The last new token is never fed back, so the pool may be one shorter.
  return std::min(limits().max_seq_len, longest + 1) - prompt_tokens;
}

void TokenSession::cancel(uint64_t id) {
  scheduler_.remove(id);
  requests_.erase(id);
}

std::string TokenSession::finish_reason(const Running& running, int32_t id) const {
  const Sampler& sampler = running.sampler;
  bool stops = std::find(running.stops.begin(), running.stops.end(), id) != running.stops.end();
  if (stops && sampler.accepted() >= sampler.params().min_tokens) return "stop";
  return sampler.accepted() >= sampler.params().max_tokens ? "length" : "";
}

std::vector<TokenEvent> TokenSession::step() {
  if (!scheduler_.next(batch_)) return {};
  std::span<float> logits = runner_.run(batch_);
  auto vocab = static_cast<size_t>(runner_.vocab_size());
  sampled_.assign(batch_.outputs.size(), {});
  runner_.context().threads().parallel_for(static_cast<int64_t>(sampled_.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      sampled_[i] = requests_.at(batch_.outputs[i].request)->sampler.sample(logits.subspan(i * vocab, vocab));
  });
  std::vector<TokenEvent> events;
  for (size_t i = 0; i < sampled_.size(); ++i) {
    uint64_t id = batch_.outputs[i].request;
    Running& running = *requests_.at(id);
    running.sampler.accept(sampled_[i].id);
    std::string reason = finish_reason(running, sampled_[i].id);
    TokenEvent event{id, std::move(sampled_[i]), std::move(reason)};
    if (event.finish_reason.empty())
      scheduler_.append(id, event.token.id);
    else
      cancel(id);
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace ingot
