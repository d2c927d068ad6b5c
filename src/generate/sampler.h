// Chooses the next token of one request from its logits.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "generate/step_batch.h"
#include "ingot/sampling.h"
#include "tensor/sample_columns.h"

namespace ingot {

struct SampledToken {
  int32_t id = 0;
  // Of the model's own distribution, before penalties and temperature; only when SamplingParams::logprobs asks.
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> likeliest;  // logprobs many, likeliest first
};

// Throws a usage Error that names the parameter which is out of its range.
void check_sampling(const SamplingParams& params);

// 53 bits, and as a number in [0, 1), that depend on their arguments alone: draws need no state, so that a request
// gives the same tokens in any company and after any preemption.
uint64_t counted_bits(uint64_t seed, uint64_t counter);
double counted_random(uint64_t seed, uint64_t counter);

// One request's choices. The order is that of Hugging Face: penalties, temperature, top-k, top-p, min-p; ties go to
// the smaller id.
class Sampler {
 public:
  // `stops` are the ids that end the answer: they are not drawn before min_tokens.
  Sampler(SamplingParams params, std::span<const int32_t> prompt, std::vector<int32_t> stops);

  // The token after those accepted so far. `logits` are changed.
  SampledToken sample(std::span<float> logits);
  void accept(int32_t id);

  // Where the device chooses: adds the row of the next token, behind one in the same seat that is not accepted yet if
  // it is `pending`.
  void describe(int32_t seat, bool pending, StepBatch::Sampling& rows) const;
  // Whether the device tells all that is wanted of a token; else its logits are needed.
  bool told_by_device() const { return params_.logprobs <= sample::kMostLikeliest; }
  // What sample() would say of the token that was chosen: from the logits, or from what the device told, in the columns
  // of ops/sample.h. Neither matters when no log-probabilities are wanted.
  SampledToken tell(int32_t id, std::span<const float> logits);
  SampledToken tell(int32_t id, std::span<const int32_t> likeliest, std::span<const float> logprobs) const;

  const SamplingParams& params() const { return params_; }
  int64_t accepted() const { return accepted_; }

 private:
  struct Count {
    int64_t answer = 0;  // occurrences in the answer; a token of the prompt alone has 0
  };
  struct Candidate {
    float logit;
    int32_t id;
  };

  bool has_penalties() const;
  void list_ids(int64_t accepted, std::vector<int32_t>& listed) const;
  double list_likeliest(std::span<const float> logits, SampledToken& token);
  void apply_penalties(std::span<float> logits) const;
  int32_t draw(std::span<const float> logits);
  int32_t draw_from_all(std::span<const float> logits, float max, double random) const;
  void select(std::span<const float> logits, float max);
  void select_top_p(float max);
  double weight_of(const Candidate& candidate, float max) const;

  SamplingParams params_;
  std::vector<int32_t> stops_;
  std::unordered_map<int32_t, Count> seen_;
  int64_t accepted_ = 0;
  std::vector<Candidate> candidates_;  // kept between draws for its memory
};

}  // namespace ingot
