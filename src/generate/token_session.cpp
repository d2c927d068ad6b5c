#include "generate/token_session.h"

#include <algorithm>

#include "base/error.h"
#include "text/eos_ids.h"

namespace ingot {

namespace {

// Of a matrix that came back; empty where it did not.
template <class T>
std::span<const T> row_of(std::span<const std::byte> matrix, size_t row, size_t columns) {
  if (matrix.empty()) return {};
  return {reinterpret_cast<const T*>(matrix.data()) + row * columns, columns};
}

}  // namespace

std::vector<int32_t> read_eos_ids(const LoadedEngine& engine) {
  Path file = engine.directory() / "generation_config.json";
  if (!engine.directory().empty() && std::filesystem::exists(file)) {
    Scope scope(file.string());
    auto ids = read_eos_ids(parse_json(read_text_file(file)));
    if (!ids.empty()) return ids;
  }
  const Json* pretrained = engine.config().find_set("pretrained_config");
  return pretrained ? read_eos_ids(*pretrained) : std::vector<int32_t>{};
}

TokenSession::TokenSession(std::shared_ptr<const LoadedEngine> engine, const TokenSessionOptions& options)
    : runner_(engine, options.runner), scheduler_(runner_.groups(), runner_.pool(), runner_.limits()) {
  run_ahead_ = options.run_ahead;
  eos_ids_ = options.eos_ids ? *options.eos_ids : read_eos_ids(*engine);
  const Json* build = engine->config().find("build_config");
  max_input_len_ = build ? build->get("max_input_len", 0) : 0;
}

TokenSession::~TokenSession() {
  try {
    for (const Flight& flight : flights_) flight.results.wait();
  } catch (const std::exception&) {  // nobody is left to tell
  }
}

void TokenSession::check(const TokenRequest& request) const {
  check_sampling(request.params);
  for (int32_t id : request.ids)
    if (id < 0 || id >= runner_.vocab_size())
      fail(ErrorCode::kUsage, "the prompt holds the id {}; the model knows 0 to {}", id, runner_.vocab_size() - 1);
  for (int32_t id : request.params.stop_ids)
    if (id < 0 || id >= runner_.vocab_size())
      fail(ErrorCode::kUsage, "the stop id {} can never come; the model knows 0 to {}", id, runner_.vocab_size() - 1);
  auto tokens = static_cast<int64_t>(request.ids.size());
  if (max_input_len_ > 0 && tokens > max_input_len_)
    fail(ErrorCode::kUsage, "the prompt has {} tokens; the engine's max_input_len is {}", tokens, max_input_len_);
}

uint64_t TokenSession::submit(TokenRequest request) {
  if (request.params.max_tokens == 0) {
    // A prompt without room for one token is refused for that below.
    constexpr int64_t kUsual = 128;
    const int64_t room = max_new_tokens(static_cast<int64_t>(request.ids.size()));
    request.params.max_tokens = std::clamp<int64_t>(room, 1, kUsual);
  }
  check(request);
  std::vector<int32_t> stops = request.params.stop_ids;
  if (!request.params.ignore_eos) stops.insert(stops.end(), eos_ids_.begin(), eos_ids_.end());
  auto running = std::make_unique<Running>(Running{Sampler(request.params, request.ids, stops), stops, 0});
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
  if (!runner_.chooses_tokens()) return step_on_host();
  while (!flights_.empty() && !is_awaited(flights_.front())) land_flight();
  if (flights_.empty() && !start_flight()) return {};
  if (run_ahead_ && flights_.size() < 2) start_flight();
  return land_flight();
}

std::vector<TokenEvent> TokenSession::step_on_host() {
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
    events.push_back(accept(id, *requests_.at(id), std::move(sampled_[i])));
    if (events.back().finish_reason.empty())
      scheduler_.append(id, events.back().token.id);
    else
      cancel(id);
  }
  return events;
}

TokenEvent TokenSession::accept(uint64_t id, Running& running, SampledToken token) {
  running.sampler.accept(token.id);
  std::string reason = finish_reason(running, token.id);
  return {id, std::move(token), std::move(reason)};
}

// Plans the next step, with tokens under way as its inputs, and starts it.
bool TokenSession::start_flight() {
  if (!scheduler_.next(batch_)) return false;
  Flight flight = landed_.empty() ? Flight{{}, {}, runner_.make_readback()} : std::move(landed_.back());
  if (!landed_.empty()) landed_.pop_back();
  flight.outputs = batch_.outputs;
  flight.logit_rows.clear();
  bool told = false;
  for (size_t i = 0; i < flight.outputs.size(); ++i) {
    uint64_t id = flight.outputs[i].request;
    Running& running = *requests_.at(id);
    running.sampler.describe(scheduler_.seat(id), running.under_way > 0, batch_.sampling);
    if (!running.sampler.told_by_device())
      flight.logit_rows.push_back(i);
    else
      told |= running.sampler.params().logprobs >= 0;
    ++running.under_way;
    if (running.sampler.accepted() + running.under_way < running.sampler.params().max_tokens) scheduler_.promise(id);
  }
  runner_.start(batch_, told, flight.logit_rows, flight.results);
  flights_.push_back(std::move(flight));
  return true;
}

bool TokenSession::is_awaited(const Flight& flight) const {
  return flight.outputs.empty() || std::ranges::any_of(flight.outputs, [&](const StepBatch::Output& output) {
           return requests_.contains(output.request);
         });
}

// Waits for the oldest flight and tells what it brought.
std::vector<TokenEvent> TokenSession::land_flight() {
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  flight.results.wait();
  std::span<const int32_t> ids = row_of<int32_t>(flight.results.part(0), 0, flight.outputs.size());
  std::vector<TokenEvent> events;
  for (size_t i = 0, logits = 0; i < flight.outputs.size(); ++i) {
    uint64_t id = flight.outputs[i].request;
    bool has_logits = logits < flight.logit_rows.size() && flight.logit_rows[logits] == i;
    if (has_logits) ++logits;
    auto found = requests_.find(id);
    if (found == requests_.end()) continue;  // it ended while this token was under way
    Running& running = *found->second;
    --running.under_way;
    auto vocab = static_cast<size_t>(runner_.vocab_size());
    events.push_back(accept(
        id, running,
        has_logits ? running.sampler.tell(ids[i], row_of<float>(flight.results.part(2 + logits), 0, vocab))
                   : running.sampler.tell(ids[i], row_of<int32_t>(flight.results.part(1), i, sample::kMostLikeliest),
                                          row_of<float>(flight.results.part(2), i, 1 + sample::kMostLikeliest))));
    if (events.back().finish_reason.empty())
      scheduler_.keep_promise(id, ids[i]);
    else
      cancel(id);
  }
  landed_.push_back(std::move(flight));
  return events;
}

}  // namespace ingot
