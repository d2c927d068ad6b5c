#include "inspect/quality.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "generate/logit_evaluator.h"
#include "generate/token_session.h"
#include "tensor/host_tensor.h"
#include "text/tokenizer.h"

namespace ingot {

namespace {

// -log of the probability that `logits` give to `id`.
double surprise(std::span<const float> logits, int32_t id) {
  double max = -INFINITY, sum = 0;
  for (float value : logits) max = std::max<double>(max, value);
  for (float value : logits) sum += std::exp(value - max);
  return max + std::log(sum) - logits[static_cast<size_t>(id)];
}

// The tensors of a reference file by name.
class Reference {
 public:
  explicit Reference(const Path& path) : file_(path) {}

  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::vector<int32_t> ids(std::string_view name) const {
    TensorView view = this->view(name);
    std::vector<int32_t> ids(static_cast<size_t>(view.type.elements()));
    for (size_t i = 0; i < ids.size(); ++i) {
      const double id = view[static_cast<int64_t>(i)];
      if (!(id >= 0 && id <= INT32_MAX)) fail(ErrorCode::kUsage, "\"{}\" holds {}, which is no token's id", name, id);
      ids[i] = static_cast<int32_t>(id);
    }
    return ids;
  }
  TensorView view(std::string_view name) const {
    const StoredTensor* tensor = find(name);
    if (!tensor) fail(ErrorCode::kUsage, "{} holds no tensor \"{}\"", file_.file().path().string(), name);
    return {tensor->type, file_.file().bytes().data() + tensor->offset};
  }

 private:
  const StoredTensor* find(std::string_view name) const {
    for (const StoredTensor& tensor : file_.tensors())
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  SafetensorsFile file_;
};

void compare_greedy(const std::shared_ptr<const LoadedEngine>& engine, const Reference& reference, int threads,
                    Verification& v) {
  std::vector<int32_t> prompt = reference.ids("prompt"), greedy = reference.ids("greedy");
  // A continuation may be given with its prompt.
  if (greedy.size() > prompt.size() && std::equal(prompt.begin(), prompt.end(), greedy.begin()))
    greedy.erase(greedy.begin(), greedy.begin() + static_cast<std::ptrdiff_t>(prompt.size()));
  if (greedy.empty()) return;
  TokenSessionOptions options;
  options.runner.threads = threads;
  options.eos_ids = std::vector<int32_t>{};
  TokenSession session(engine, options);
  TokenRequest request;
  request.ids = prompt;
  request.params.max_tokens = static_cast<int64_t>(greedy.size());
  request.params.ignore_eos = true;
  session.submit(request);
  v.greedy_tokens = static_cast<int64_t>(greedy.size());
  bool equal = true;
  for (size_t at = 0; !session.idle();)
    for (const TokenEvent& event : session.step()) {
      equal = equal && at < greedy.size() && event.token.id == greedy[at];
      v.greedy_match_tokens += equal;
      ++at;
    }
}

}  // namespace

std::string engine_dtype(const LoadedEngine& engine) {
  const Json* config = engine.config().find("build_config");
  return config ? config->get("dtype", "bfloat16") : "bfloat16";
}

Perplexity measure_perplexity(std::shared_ptr<const LoadedEngine> engine, const std::string& text, int64_t window,
                              int threads, const ProgressCallback& progress) {
  std::vector<int32_t> ids = Tokenizer::from_dir(engine->directory()).encode(text, true);
  LogitEvaluator evaluator(engine, {.threads = threads});
  if (window < 1 || window > evaluator.limits().max_seq_len)
    fail(ErrorCode::kUsage, "the window is {}, needed 1 to the engine's max_seq_len {}", window,
         evaluator.limits().max_seq_len);
  Perplexity result;
  result.windows = (static_cast<int64_t>(ids.size()) - 1) / window;
  if (result.windows < 1)
    fail(ErrorCode::kUsage, "the text has {} tokens, needed more than the window of {}", ids.size(), window);
  for (int64_t w = 0; w < result.windows; ++w) {
    const int32_t* first = ids.data() + w * window;
    evaluator.run({{std::vector<int32_t>(first, first + window)}},
                  [&](size_t, int64_t position, std::span<float> logits) {
                    result.nll += surprise(logits, first[position + 1]);
                    ++result.tokens;
                  });
    if (progress) progress("perplexity", static_cast<double>(w + 1) / static_cast<double>(result.windows));
  }
  result.nll /= static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.nll);
  return result;
}

Verification compare_logits(std::shared_ptr<const LoadedEngine> engine, const Path& path, double tolerance,
                            int threads) {
  if (!(tolerance >= 0) || std::isinf(tolerance))
    fail(ErrorCode::kUsage, "the tolerance is {}, needed a number above 0, or 0 for the usual one", tolerance);
  Reference reference(path);
  std::vector<int32_t> ids = reference.ids("input_ids");
  TensorView expected = reference.view("logits");
  bool exact = engine_dtype(*engine) == "float32";
  LogitEvaluator evaluator(engine, {.threads = threads});
  int64_t vocab = evaluator.vocab_size();
  if (expected.type.elements() != static_cast<int64_t>(ids.size()) * vocab)
    fail(ErrorCode::kUsage, "the reference's logits are {}, needed [{}, {}]", print(expected.type), ids.size(), vocab);
  Verification v;
  v.tolerance = tolerance > 0 ? tolerance : exact ? 1e-4 : 3e-2;
  double difference = 0, norm = 0;
  int64_t agreeing = 0;
  evaluator.run({{ids}}, [&](size_t, int64_t position, std::span<float> logits) {
    size_t ours = 0, theirs = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      double want = expected[position * vocab + static_cast<int64_t>(i)], error = logits[i] - want;
      difference += error * error;
      norm += want * want;
      v.max_abs_error = std::max(v.max_abs_error, std::abs(error));
      if (logits[i] > logits[ours]) ours = i;
      if (want > expected[position * vocab + static_cast<int64_t>(theirs)]) theirs = i;
    }
    agreeing += ours == theirs;
  });
  v.relative_error = std::sqrt(difference) / std::sqrt(norm);
  v.top1_agreement = static_cast<double>(agreeing) / static_cast<double>(ids.size());
  if (reference.has("prompt") && reference.has("greedy")) compare_greedy(engine, reference, threads, v);
  // A comparison with NaN is false: an engine that computes NaN does not pass.
  v.passed = v.relative_error <= v.tolerance && (!exact || v.greedy_match_tokens == v.greedy_tokens);
  return v;
}

}  // namespace ingot
