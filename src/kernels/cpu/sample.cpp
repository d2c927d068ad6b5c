// Choosing tokens (ops/sample.h), plainly: a cut is found by halving the range of candidates, so nothing is sorted and
// no row needs more memory than a copy of its logits. Engines for the CPU end in logits; this serves networks that do
// not.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"
#include "tensor/sample_columns.h"

namespace ingot {

namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// Likelier candidates are larger: by logit, then by smaller id. NaN is below all.
uint64_t candidate(float logit, int64_t id) {
  const auto bits = std::bit_cast<uint32_t>(logit + 0.0f);
  const uint32_t key = std::isnan(logit) ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{key} << 32 | ~static_cast<uint32_t>(id);
}

class Row {
 public:
  Row(const float* options, const int32_t* choices, float* logits, int64_t vocab)
      : options_(options), choices_(choices), logits_(logits), vocab_(vocab) {}

  void apply_penalties(const int32_t* listed, int32_t pending) {
    for (int64_t i = choices_[sample::kListedBegin]; i < choices_[sample::kListedEnd]; ++i) {
      int32_t id = listed[2 * i], count = listed[2 * i + 1];
      if (id == pending) pending = -1, count += count >= 0;
      penalize(id, count);
    }
    penalize(pending, 1);
  }

  int32_t choose() const {
    int64_t best = 0;
    for (int64_t i = 1; i < vocab_; ++i)
      if (at(i) > at(best)) best = i;
    const float temperature = options_[sample::kTemperature];
    if (temperature == 0 || !std::isfinite(logits_[best])) return static_cast<int32_t>(best);
    return draw(at(best), logits_[best], temperature);
  }

 private:
  uint64_t at(int64_t id) const { return candidate(logits_[id], id); }

  void penalize(int32_t id, int32_t count) {
    if (id < 0 || id >= vocab_) return;
    float& x = logits_[id];
    const float repetition = options_[sample::kRepetition];
    x = x > 0 ? x / repetition : x * repetition;
    if (count > 0) x -= options_[sample::kPresence] + options_[sample::kFrequency] * static_cast<float>(count);
    if (count < 0) x = kImpossible;
  }

  // The greatest cut such that the measures of what is at least it reach the goal; `low` when they never do.
  template <class Measure>
  uint64_t find_cut(uint64_t low, uint64_t high, double goal, Measure measure) const {
    for (int64_t inside = vocab_; inside > 1 && high - low > 1;) {
      const uint64_t middle = low + (high - low) / 2;
      double sum = 0;
      int64_t below = 0, above = 0;  // of those inside
      for (int64_t i = 0; i < vocab_; ++i) {
        const uint64_t c = at(i);
        if (c >= middle) sum += measure(i);
        below += c >= low && c < middle;
        above += c >= middle && c < high;
      }
      const bool reached = sum >= goal;
      inside = reached ? above : below;
      (reached ? low : high) = middle;
    }
    return low;
  }

  int32_t draw(uint64_t best, float max, float temperature) const {
    auto weight = [&](int64_t i) {
      return logits_[i] > kImpossible ? static_cast<double>(std::exp((logits_[i] - max) / temperature)) : 0.0;
    };
    auto total = [&](uint64_t cut) {
      double sum = 0;
      for (int64_t i = 0; i < vocab_; ++i)
        if (at(i) >= cut) sum += weight(i);
      return sum;
    };
    uint64_t cut = candidate(kImpossible, 0) + 1;
    if (const int32_t top_k = choices_[sample::kTopK]; top_k > 0 && top_k < vocab_)
      cut = find_cut(cut, best + 1, top_k, [](int64_t) { return 1.0; });
    if (const float top_p = options_[sample::kTopP]; top_p < 1)
      cut = find_cut(cut, best + 1, static_cast<double>(top_p) * total(cut), weight);
    if (const float min_p = options_[sample::kMinP]; min_p > 0)
      cut = std::max(cut, candidate(max + temperature * std::log(min_p), -1));
    cut = std::min(cut, best);
    double random = choices_[sample::kRandomHigh] * 0x1p-31 + choices_[sample::kRandomLow] * 0x1p-53;
    double left = random * total(cut);
    for (int64_t i = 0; i < vocab_; ++i)
      if (at(i) >= cut && (left -= weight(i)) < 0) return static_cast<int32_t>(i);
    return static_cast<int32_t>(~static_cast<uint32_t>(best));
  }

  const float* options_;
  const int32_t* choices_;
  float* logits_;
  int64_t vocab_;
};

// Of the logits as they came: the log-probability of what was chosen, and the likeliest ids with theirs.
void tell(const float* logits, int64_t vocab, int32_t chosen, int64_t wanted, int32_t* likeliest, float* logprobs) {
  std::fill_n(likeliest, sample::kMostLikeliest, -1);
  std::fill_n(logprobs, 1 + sample::kMostLikeliest, 0.0f);
  if (wanted < 0) return;
  std::array<uint64_t, sample::kMostLikeliest + 1> best = {};  // the last place is for the one that falls out
  const auto count = static_cast<size_t>(std::min({std::max(wanted, int64_t{1}), sample::kMostLikeliest, vocab}));
  for (int64_t i = 0; i < vocab; ++i) {
    best[count] = candidate(logits[i], i);
    for (size_t j = count; j > 0 && best[j] > best[j - 1]; --j) std::swap(best[j], best[j - 1]);
  }
  auto id_of = [](uint64_t candidate) { return static_cast<int32_t>(~static_cast<uint32_t>(candidate)); };
  const float max = logits[id_of(best[0])];
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i)
    if (logits[i] > kImpossible) sum += static_cast<double>(std::exp(logits[i] - max));
  const double normalizer = std::isfinite(max) ? static_cast<double>(max) + std::log(sum) : NAN;
  logprobs[0] = static_cast<float>(logits[chosen] - normalizer);
  for (size_t i = 0; i < count && static_cast<int64_t>(i) < wanted; ++i) {
    likeliest[i] = id_of(best[i]);
    logprobs[1 + i] = static_cast<float>(logits[likeliest[i]] - normalizer);
  }
}

}  // namespace

void run(const Sample&, const VectorFunctions&, const Launch& launch) {
  const Argument& logits = launch.arguments[0];
  const int64_t rows = logits.size[0], vocab = logits.size[1];
  const int32_t* listed = launch.arguments[3].as<int32_t>();
  int32_t *ids = launch.arguments[5].as<int32_t>(), *last = launch.arguments[6].as<int32_t>();
  float* copies = reinterpret_cast<float*>(launch.scratch);
  for_each_row_range(launch, rows, vocab * 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t* choices = launch.arguments[2].as<int32_t>() + i * sample::kChoices;
      const int32_t seat = choices[sample::kSeat];
      ids[i] = -1;
      if (seat >= 0) {
        float* copy = copies + i * vocab;
        std::memcpy(copy, logits.as<float>() + i * vocab, static_cast<size_t>(vocab) * sizeof(float));
        Row row(launch.arguments[1].as<float>() + i * sample::kOptions, choices, copy, vocab);
        row.apply_penalties(listed, choices[sample::kPending] ? last[seat] : -1);
        last[seat] = ids[i] = row.choose();
      }
      tell(logits.as<float>() + i * vocab, vocab, ids[i], seat >= 0 ? choices[sample::kLogprobs] : -1,
           launch.arguments[7].as<int32_t>() + i * sample::kMostLikeliest,
           launch.arguments[8].as<float>() + i * (1 + sample::kMostLikeliest));
    }
  });
}

void run(const NextIds&, const VectorFunctions&, const Launch& launch) {
  const int32_t *ids = launch.arguments[0].as<int32_t>(), *last = launch.arguments[1].as<int32_t>();
  int32_t* result = launch.arguments[2].as<int32_t>();
  for (int64_t i = 0; i < launch.arguments[0].size[0]; ++i) result[i] = ids[i] < 0 ? last[-ids[i] - 1] : ids[i];
}

}  // namespace ingot
