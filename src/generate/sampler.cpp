#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace ingot {

namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

std::string shown(float value) { return print_float(value); }
std::string shown(int64_t value) { return std::to_string(value); }

template <class T>
void check(bool holds, const char* name, T value, const char* needed) {
  if (!holds) fail(ErrorCode::kUsage, "{} is {}; it must be {}", name, shown(value), needed);
}

uint64_t mix(uint64_t x) {  // the finalizer of splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

int32_t likeliest_of(std::span<const float> logits) {
  // Blocks keep the compare-and-branch out of the way of the vector unit.
  constexpr size_t kBlock = 256;
  float best = kImpossible;
  size_t best_block = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    float largest = kImpossible;
    for (float logit : logits.subspan(begin, std::min(kBlock, logits.size() - begin)))
      largest = logit > largest ? logit : largest;
    if (largest > best) {
      best = largest;
      best_block = begin;
    }
  }
  for (size_t i = best_block; i < logits.size(); ++i)
    if (logits[i] == best) return static_cast<int32_t>(i);
  return 0;
}

constexpr auto likelier = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

// ln Σ exp(logits).
double log_sum(std::span<const float> logits) {
  float max = logits[static_cast<size_t>(likeliest_of(logits))];
  double sum = 0;
  for (float logit : logits) sum += static_cast<double>(std::exp(logit - max));
  return static_cast<double>(max) + std::log(sum);
}

}  // namespace

void check_sampling(const SamplingParams& p) {
  check(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature, "0 (greedy) or more");
  check(p.top_k >= 0, "top_k", p.top_k, "0 (all) or more");
  check(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "above 0 and at most 1");
  check(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "between 0 and 1");
  check(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty", p.repetition_penalty,
        "above 0");
  check(std::isfinite(p.presence_penalty), "presence_penalty", p.presence_penalty, "a number");
  check(std::isfinite(p.frequency_penalty), "frequency_penalty", p.frequency_penalty, "a number");
  check(p.max_tokens >= 0, "max_tokens", p.max_tokens, "1 or more, or 0 for the usual number");
  check(p.min_tokens >= 0 && (p.max_tokens == 0 || p.min_tokens <= p.max_tokens), "min_tokens", p.min_tokens,
        "between 0 and max_tokens");
  for (const std::string& stop : p.stop)
    if (stop.empty()) fail(ErrorCode::kUsage, "a stop string is empty");
}

uint64_t counted_bits(uint64_t seed, uint64_t counter) {
  return mix(mix(seed + 0x9e3779b97f4a7c15) ^ (counter * 0xd1342543de82ef95 + 0x2545f4914f6cdd1d)) >> 11;
}

double counted_random(uint64_t seed, uint64_t counter) {
  return static_cast<double>(counted_bits(seed, counter)) * 0x1p-53;
}

Sampler::Sampler(SamplingParams params, std::span<const int32_t> prompt, std::vector<int32_t> stops)
    : params_(std::move(params)), stops_(std::move(stops)) {
  check_sampling(params_);
  std::sort(stops_.begin(), stops_.end());
  stops_.erase(std::unique(stops_.begin(), stops_.end()), stops_.end());
  if (params_.repetition_penalty != 1)
    for (int32_t id : prompt) seen_.try_emplace(id);
}

void Sampler::accept(int32_t id) {
  ++accepted_;
  ++seen_[id].answer;
}

void Sampler::apply_penalties(std::span<float> logits) const {
  for (const auto& [id, count] : seen_) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (count.answer > 0)
      logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count.answer);
  }
  if (accepted_ < params_.min_tokens)
    for (int32_t id : stops_)
      if (id >= 0 && static_cast<size_t>(id) < logits.size()) logits[static_cast<size_t>(id)] = kImpossible;
}

bool Sampler::has_penalties() const {
  return params_.repetition_penalty != 1 || params_.presence_penalty != 0 || params_.frequency_penalty != 0;
}

// The pairs that ops/sample.h defines, after `accepted` tokens.
void Sampler::list_ids(int64_t accepted, std::vector<int32_t>& listed) const {
  bool must_go_on = accepted < params_.min_tokens;
  if (has_penalties())
    for (const auto& [id, count] : seen_) {
      if (must_go_on && std::binary_search(stops_.begin(), stops_.end(), id)) continue;
      listed.insert(listed.end(), {id, static_cast<int32_t>(count.answer)});
    }
  if (must_go_on)
    for (int32_t id : stops_) listed.insert(listed.end(), {id, -1});
}

void Sampler::describe(int32_t seat, bool pending, StepBatch::Sampling& rows) const {
  const SamplingParams& p = params_;
  rows.options.insert(rows.options.end(),
                      {p.temperature, p.top_p, p.min_p, p.repetition_penalty, p.presence_penalty, p.frequency_penalty});
  int64_t accepted = accepted_ + pending;
  uint64_t random = counted_bits(p.seed, static_cast<uint64_t>(accepted));
  auto begin = static_cast<int32_t>(rows.listed.size() / 2);
  list_ids(accepted, rows.listed);
  auto end = static_cast<int32_t>(rows.listed.size() / 2);
  auto top_k = static_cast<int32_t>(std::min<int64_t>(p.top_k, INT32_MAX));
  auto high = static_cast<int32_t>(random >> sample::kLowBits);
  auto low = static_cast<int32_t>(random & ((uint64_t{1} << sample::kLowBits) - 1));
  auto logprobs = told_by_device() ? static_cast<int32_t>(p.logprobs) : -1;
  rows.choices.insert(rows.choices.end(), {seat, top_k, high, low, begin, end, pending && has_penalties(), logprobs});
}

SampledToken Sampler::tell(int32_t id, std::span<const float> logits) {
  SampledToken token{id};
  if (params_.logprobs >= 0)
    token.logprob = static_cast<float>(logits[static_cast<size_t>(id)] - list_likeliest(logits, token));
  return token;
}

SampledToken Sampler::tell(int32_t id, std::span<const int32_t> likeliest, std::span<const float> logprobs) const {
  SampledToken token{id};
  if (params_.logprobs < 0) return token;
  token.logprob = logprobs[0];
  for (size_t i = 0; i < likeliest.size() && likeliest[i] >= 0; ++i)
    token.likeliest.emplace_back(likeliest[i], logprobs[1 + i]);
  return token;
}

// Fills in the likeliest; the result is what makes log-probabilities of logits.
double Sampler::list_likeliest(std::span<const float> logits, SampledToken& token) {
  double normalizer = log_sum(logits);
  auto count = static_cast<size_t>(std::min<int64_t>(params_.logprobs, static_cast<int64_t>(logits.size())));
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count), candidates_.end(),
                    likelier);
  for (size_t i = 0; i < count; ++i)
    token.likeliest.emplace_back(candidates_[i].id, static_cast<float>(candidates_[i].logit - normalizer));
  return normalizer;
}

SampledToken Sampler::sample(std::span<float> logits) {
  SampledToken token;
  double normalizer = params_.logprobs >= 0 ? list_likeliest(logits, token) : 0;
  // The logits as the model gave them are needed again once the token is known; only a few of them change.
  std::vector<float> before;
  if (params_.logprobs >= 0) before.assign(logits.begin(), logits.end());
  apply_penalties(logits);
  token.id = params_.temperature == 0 ? likeliest_of(logits) : draw(logits);
  if (params_.logprobs >= 0) token.logprob = static_cast<float>(before[static_cast<size_t>(token.id)] - normalizer);
  return token;
}

int32_t Sampler::draw(std::span<const float> logits) {
  float max = logits[static_cast<size_t>(likeliest_of(logits))];
  if (!std::isfinite(max)) return likeliest_of(logits);
  double random = counted_random(params_.seed, static_cast<uint64_t>(accepted_));
  bool all = (params_.top_k == 0 || params_.top_k >= static_cast<int64_t>(logits.size())) && params_.top_p >= 1 &&
             params_.min_p <= 0;
  if (all) return draw_from_all(logits, max, random);
  select(logits, max);
  double total = 0;
  for (const Candidate& candidate : candidates_) total += weight_of(candidate, max);
  double left = random * total;
  for (const Candidate& candidate : candidates_) {
    left -= weight_of(candidate, max);
    if (left < 0) return candidate.id;
  }
  return likeliest_of(logits);
}

int32_t Sampler::draw_from_all(std::span<const float> logits, float max, double random) const {
  double total = 0;
  for (float logit : logits) total += static_cast<double>(std::exp((logit - max) / params_.temperature));
  double left = random * total;
  for (size_t i = 0; i < logits.size(); ++i) {
    left -= static_cast<double>(std::exp((logits[i] - max) / params_.temperature));
    if (left < 0) return static_cast<int32_t>(i);
  }
  return likeliest_of(logits);
}

// Fills candidates_ with what top-k, top-p and min-p leave, in the order of their ids: so a draw hardly depends on the
// last bits of the logits. Nothing sorts the whole vocabulary.
void Sampler::select(std::span<const float> logits, float max) {
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > kImpossible) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  auto top_k = static_cast<size_t>(params_.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    auto middle = candidates_.begin() + static_cast<std::ptrdiff_t>(top_k);
    std::nth_element(candidates_.begin(), middle, candidates_.end(), likelier);
    candidates_.resize(top_k);
    std::sort(candidates_.begin(), candidates_.end(), [](auto& a, auto& b) { return a.id < b.id; });
  }
  if (params_.top_p < 1) select_top_p(max);
  if (params_.min_p > 0) {
    // Relative to the likeliest, whatever the normalization.
    float bound = max + params_.temperature * std::log(params_.min_p);
    std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.logit < bound; });
  }
}

// Keeps the likeliest candidates whose probabilities together reach top_p. Probabilities are summed by buckets of
// similar logits; only the bucket in which the sum is reached needs an order.
void Sampler::select_top_p(float max) {
  constexpr size_t kBuckets = 2048;
  constexpr float kDepth = 40;  // in units of the temperature: below lies less than exp(-40) of the likeliest
  auto bucket_of = [&](const Candidate& candidate) {
    float depth = (max - candidate.logit) / params_.temperature;
    return static_cast<size_t>(std::min(depth, kDepth) * (static_cast<float>(kBuckets - 1) / kDepth));
  };
  std::vector<double> sums(kBuckets, 0);
  double total = 0;
  for (const Candidate& candidate : candidates_) {
    double weight = weight_of(candidate, max);
    sums[bucket_of(candidate)] += weight;
    total += weight;
  }
  double goal = static_cast<double>(params_.top_p) * total, reached = 0;
  size_t bucket = 0;
  while (bucket + 1 < kBuckets && reached + sums[bucket] < goal) reached += sums[bucket++];
  std::vector<Candidate> last;
  for (const Candidate& candidate : candidates_)
    if (bucket_of(candidate) == bucket) last.push_back(candidate);
  if (last.empty()) return;
  std::sort(last.begin(), last.end(), likelier);
  size_t count = 0;
  while (count + 1 < last.size() && (reached += weight_of(last[count], max)) < goal) ++count;
  Candidate cut = last[count];
  std::erase_if(candidates_, [&](const Candidate& candidate) { return likelier(cut, candidate); });
}

double Sampler::weight_of(const Candidate& candidate, float max) const {
  return static_cast<double>(std::exp((candidate.logit - max) / params_.temperature));
}

}  // namespace ingot
