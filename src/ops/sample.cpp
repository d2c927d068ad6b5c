#include "ops/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/typing.h"

namespace ingot {

namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

// One row: what it wants and what it may still choose.
class Row {
 public:
  Row(const HostTensors& inputs, int64_t row) : inputs_(inputs), row_(row), vocab_(inputs[0].size(1)) {
    auto begin = inputs[0].values.begin() + row * vocab_;
    logits_.assign(begin, begin + vocab_);
  }

  int64_t choice(sample::Choice column) const {
    return static_cast<int64_t>(inputs_[2].values[static_cast<size_t>(row_ * sample::kChoices + column)]);
  }

  int64_t choose(double last) {
    apply_penalties(choice(sample::kPending) ? static_cast<int64_t>(last) : -1);
    int64_t best = 0;
    for (int64_t i = 1; i < vocab_; ++i)
      if (!(logit(best) >= logit(i)) && !std::isnan(logit(i))) best = i;
    if (option(sample::kTemperature) == 0 || !std::isfinite(logit(best))) return best;
    return draw(logit(best));
  }

  // Of what was chosen, and of the likeliest ids, if the row asks.
  void tell(int64_t id, double* likeliest, double* logprobs) const {
    if (choice(sample::kLogprobs) < 0) return;
    double normalizer = log_sum();
    *logprobs++ = given(id) - normalizer;
    for (int64_t each : likeliest_ids(std::min(choice(sample::kLogprobs), sample::kMostLikeliest))) {
      *likeliest++ = static_cast<double>(each);
      *logprobs++ = given(each) - normalizer;
    }
  }

 private:
  // A logit as it came.
  double given(int64_t id) const { return inputs_[0].values[static_cast<size_t>(row_ * vocab_ + id)]; }

  double log_sum() const {
    double max = kImpossible, sum = 0;
    for (int64_t i = 0; i < vocab_; ++i)
      if (given(i) > max) max = given(i);
    for (int64_t i = 0; i < vocab_; ++i)
      if (given(i) > kImpossible) sum += std::exp(given(i) - max);
    return std::isfinite(max) ? max + std::log(sum) : std::numeric_limits<double>::quiet_NaN();
  }

  std::vector<int64_t> likeliest_ids(int64_t count) const {
    std::vector<int64_t> ids(static_cast<size_t>(vocab_));
    std::iota(ids.begin(), ids.end(), 0);
    auto end = ids.begin() + std::min(count, vocab_);
    std::partial_sort(ids.begin(), end, ids.end(), [&](int64_t a, int64_t b) {
      if (std::isnan(given(a)) != std::isnan(given(b))) return std::isnan(given(b));
      return given(a) > given(b) || (!(given(b) > given(a)) && a < b);
    });
    ids.erase(end, ids.end());
    return ids;
  }

  double option(sample::Option column) const {
    return inputs_[1].values[static_cast<size_t>(row_ * sample::kOptions + column)];
  }
  double& logit(int64_t id) { return logits_[static_cast<size_t>(id)]; }

  void apply_penalties(int64_t pending) {
    const std::vector<double>& listed = inputs_[3].values;
    for (int64_t at = choice(sample::kListedBegin); at < choice(sample::kListedEnd); ++at) {
      auto id = static_cast<int64_t>(listed.at(static_cast<size_t>(2 * at)));
      double count = listed.at(static_cast<size_t>(2 * at + 1));
      if (id == pending) {
        pending = -1;
        if (count >= 0) ++count;
      }
      penalize(id, count);
    }
    penalize(pending, 1);
  }

  void penalize(int64_t id, double count) {
    if (id < 0 || id >= vocab_) return;
    double& x = logit(id);
    if (count < 0) {
      x = kImpossible;
      return;
    }
    x = x > 0 ? x / option(sample::kRepetition) : x * option(sample::kRepetition);
    if (count > 0) x -= option(sample::kPresence) + option(sample::kFrequency) * count;
  }

  double weight(int64_t id, double max) { return std::exp((logit(id) - max) / option(sample::kTemperature)); }

  int64_t draw(double max) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < vocab_; ++i)
      if (logit(i) > kImpossible) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logit(a) > logit(b); });
    int64_t top_k = choice(sample::kTopK);
    if (top_k > 0 && top_k < static_cast<int64_t>(order.size())) order.resize(static_cast<size_t>(top_k));
    auto total = [&] {
      return std::accumulate(order.begin(), order.end(), 0.0,
                             [&](double sum, int64_t id) { return sum + weight(id, max); });
    };
    if (double top_p = option(sample::kTopP); top_p < 1) {
      double goal = top_p * total(), reached = 0;
      size_t count = 0;
      while (count < order.size() && (count == 0 || reached < goal)) reached += weight(order[count++], max);
      order.resize(count);
    }
    if (double min_p = option(sample::kMinP); min_p > 0)
      std::erase_if(order, [&](int64_t id) { return weight(id, max) < min_p; });
    std::sort(order.begin(), order.end());
    double random = static_cast<double>(choice(sample::kRandomHigh)) * 0x1p-31 +
                    static_cast<double>(choice(sample::kRandomLow)) * 0x1p-53;
    double left = random * total();
    for (int64_t id : order)
      if ((left -= weight(id, max)) < 0) return id;
    return order.back();
  }

  const HostTensors& inputs_;
  const int64_t row_, vocab_;
  std::vector<double> logits_;
};

bool is_index_matrix(const TensorType& type, int64_t columns) {
  return type.dtype == DType::kI32 && type.rank() == 2 && type.shape[1] == Dim(columns);
}

}  // namespace

Types Sample::infer(const Types& inputs) const {
  check_input_count(inputs, 5, 5);
  const TensorType &logits = inputs[0], &options = inputs[1], &choices = inputs[2], &last = inputs[4];
  bool fits = is_wide_float(logits.dtype) && logits.rank() == 2 && logits.shape[1].is_constant() &&
              logits.shape[1].constant() > 0;
  check_type(fits, logits, "logits, f32[outputs, vocab],");
  const Dim& outputs = logits.shape[0];
  fits = is_wide_float(options.dtype) && options.rank() == 2 && options.shape[1] == Dim(int64_t{sample::kOptions});
  check_type(fits && options.shape[0] == outputs, options, "options, f32[outputs, 6],");
  check_type(is_index_matrix(choices, sample::kChoices) && choices.shape[0] == outputs, choices,
             "choices, i32[outputs, 8],");
  check_type(is_index_matrix(inputs[3], 2), inputs[3], "listed, i32[listed, 2],");
  check_type(is_index_vector(last), last, "last, i32[seats],");
  return {{DType::kI32, {outputs}, ""},
          last,
          {DType::kI32, {outputs, sample::kMostLikeliest}, ""},
          {DType::kF32, {outputs, 1 + sample::kMostLikeliest}, ""}};
}

HostTensors Sample::evaluate(const HostTensors& inputs) const {
  int64_t outputs = inputs[0].size(0);
  HostTensor ids(TensorType{DType::kI32, {outputs}, ""}), last = inputs[4];
  HostTensor likeliest(TensorType{DType::kI32, {outputs, sample::kMostLikeliest}, ""});
  HostTensor logprobs(TensorType{DType::kF32, {outputs, 1 + sample::kMostLikeliest}, ""});
  std::fill(likeliest.values.begin(), likeliest.values.end(), -1);
  for (int64_t i = 0; i < outputs; ++i) {
    Row row(inputs, i);
    double& id = ids.values[static_cast<size_t>(i)];
    id = -1;
    int64_t seat = row.choice(sample::kSeat);
    if (seat < 0) continue;
    double& chosen =
        last.values[static_cast<size_t>(checked_index(static_cast<double>(seat), last.size(0), "the seat"))];
    chosen = id = static_cast<double>(row.choose(chosen));
    row.tell(static_cast<int64_t>(id), &likeliest.values[static_cast<size_t>(i * sample::kMostLikeliest)],
             &logprobs.values[static_cast<size_t>(i * (1 + sample::kMostLikeliest))]);
  }
  return {ids, last, likeliest, logprobs};
}

Types NextIds::infer(const Types& inputs) const {
  check_input_count(inputs, 2, 2);
  check_type(is_index_vector(inputs[0]), inputs[0], "ids, i32[tokens],");
  check_type(is_index_vector(inputs[1]), inputs[1], "last, i32[seats],");
  return {inputs[0]};
}

HostTensors NextIds::evaluate(const HostTensors& inputs) const {
  HostTensor ids = inputs[0];
  const HostTensor& last = inputs[1];
  for (double& id : ids.values)
    if (id < 0) id = last.values[static_cast<size_t>(checked_index(-id - 1, last.size(0), "the seat"))];
  return {ids};
}

}  // namespace ingot
