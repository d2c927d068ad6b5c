#include "ops/activation_function.h"

#include <array>
#include <cmath>

namespace ingot {

namespace {
constexpr std::array<std::string_view, 8> kNames = {"none",       "silu", "gelu", "gelu_tanh",
                                                    "quick_gelu", "relu", "tanh", "sigmoid"};
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
}  // namespace

std::span<const std::string_view> enum_names(ActivationFunction) { return kNames; }

double apply(ActivationFunction function, double x) {
  switch (function) {
    case ActivationFunction::kNone:
      return x;
    case ActivationFunction::kSilu:
      return x * sigmoid(x);
    case ActivationFunction::kGelu:
      return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
    case ActivationFunction::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationFunction::kQuickGelu:
      return x * sigmoid(1.702 * x);
    case ActivationFunction::kRelu:
      return x > 0 ? x : 0;
    case ActivationFunction::kTanh:
      return std::tanh(x);
    case ActivationFunction::kSigmoid:
      return sigmoid(x);
  }
  return x;
}

}  // namespace ingot
