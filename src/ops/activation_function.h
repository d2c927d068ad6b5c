// The pointwise functions that activations apply.
#pragma once

#include <span>
#include <string_view>

namespace ingot {

// silu(x) = x / (1 + exp(-x)); gelu is the exact form with erf; gelu_tanh its tanh approximation; quick_gelu(x) =
// x / (1 + exp(-1.702 x)).
enum class ActivationFunction { kNone, kSilu, kGelu, kGeluTanh, kQuickGelu, kRelu, kTanh, kSigmoid };

std::span<const std::string_view> enum_names(ActivationFunction);

// f(x) in double precision.
double apply(ActivationFunction function, double x);

}  // namespace ingot
