// What a row that chooses a token wants, as columns of the matrices that a step brings (ops/sample.h).
#pragma once

#include <cstdint>

namespace ingot::sample {

// Of f32 [outputs, kOptions].
enum Option : int64_t { kTemperature, kTopP, kMinP, kRepetition, kPresence, kFrequency, kOptions };
// Of i32 [outputs, kChoices].
enum Choice : int64_t {
  kSeat,
  kTopK,
  kRandomHigh,
  kRandomLow,
  kListedBegin,
  kListedEnd,
  kPending,
  kLogprobs,
  kChoices
};

// The random number is kRandomHigh * 2^-31 + kRandomLow * 2^-53: so many bits of each.
constexpr int kHighBits = 31, kLowBits = 22;

// Of the likeliest ids, so many come with their log-probabilities at most.
constexpr int64_t kMostLikeliest = 20;

}  // namespace ingot::sample
