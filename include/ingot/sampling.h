// How the next token is chosen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ingot {

// In the order of application: penalties, temperature, top-k, top-p, min-p. Defaults leave the distribution alone and
// take its likeliest token.
struct SamplingParams {
  float temperature = 0;  // 0: greedy
  int64_t top_k = 0;      // 0: all
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;  // over prompt and answer
  float presence_penalty = 0;    // over the answer
  float frequency_penalty = 0;   // over the answer
  uint64_t seed = 0;
  int64_t logprobs = -1;          // log-probabilities of the chosen token and of this many likeliest; -1: none
  std::vector<std::string> stop;  // the answer ends before any of these
  std::vector<int32_t> stop_ids;
  bool ignore_eos = false;
  int64_t min_tokens = 0;  // no stop before
  int64_t max_tokens = 0;  // 0: 128, or as many as the engine has room for behind the prompt
};

}  // namespace ingot
