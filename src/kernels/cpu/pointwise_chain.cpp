#include "kernels/cpu/pointwise_chain.h"

#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_functions.h"
#include "kernels/kernel_parameters.h"
#include "ops/pointwise.h"
#include "ops/pointwise_chain.h"

namespace ingot {

namespace {

// Two pieces on the stack, and those of four inputs and the result in memory, fit into an L1 cache of 32 KiB.
constexpr int64_t kPiece = 1024;
// exp, tanh and division cost about this many additions.
constexpr int64_t kFunctionCost = 4;

// One step as a switch finds it, made once.
struct ChainStep {
  enum { kAdd, kMultiply, kScale, kSoftCap, kActivation } kind = kAdd;
  size_t operand = 0;  // the argument that add and multiply take
  float number = 0;
  ActivationFunction function = ActivationFunction::kNone;
};

std::vector<AnyOp> parse_ops(const std::string& text) {
  try {
    return parse_chain_steps(text);
  } catch (const Error& error) {
    fail(ErrorCode::kIncompatible, "its parameters do not fit this build: {}", error.what());
  }
}

// Casts are gone: pieces are f32, and the result's dtype says what they become.
std::vector<ChainStep> read_steps(const std::string& text) {
  std::vector<ChainStep> steps;
  size_t next = 1;
  for (const AnyOp& op : parse_ops(text)) {
    if (op.is<Add>()) steps.push_back({.kind = ChainStep::kAdd, .operand = next++});
    if (op.is<Multiply>()) steps.push_back({.kind = ChainStep::kMultiply, .operand = next++});
    if (auto* scale = op.as<Scale>()) steps.push_back({.kind = ChainStep::kScale, .number = scale->factor});
    if (auto* soft_cap = op.as<SoftCap>()) steps.push_back({.kind = ChainStep::kSoftCap, .number = soft_cap->cap});
    if (auto* activation = op.as<Activation>())
      steps.push_back({.kind = ChainStep::kActivation, .function = activation->function});
  }
  return steps;
}

// `count` elements of `argument` from `begin` on: those in memory, or as f32 in `buffer`.
const float* as_floats(const VectorFunctions& functions, const Argument& argument, int64_t begin, float* buffer,
                       int64_t count) {
  if (argument.dtype == DType::kF32) return argument.as<float>() + begin;
  functions.widen(argument.dtype, argument.as<char>() + begin * size_of(argument.dtype), buffer, count);
  return buffer;
}

class PointwiseChainKernel final : public Kernel {
 public:
  PointwiseChainKernel(PointwiseChain op, const VectorFunctions& functions)
      : op_(std::move(op)), steps_(read_steps(op_.steps)), functions_(functions) {
    for (const ChainStep& step : steps_) cost_ += step.kind >= ChainStep::kSoftCap ? kFunctionCost : 1;
  }

  AnyOp op() const override { return op_; }
  void run(const Launch& launch) const override {
    const Argument& x = launch.arguments[0];
    const int64_t count = element_count(x), size = row_size(x);
    bool whole_rows = false;
    for (const Argument& argument : launch.arguments) whole_rows = whole_rows || argument.rank < x.rank;
    for_each_row_range(launch, count, cost_, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        int64_t part = std::min(end - begin, kPiece);
        // A vector begins anew with every row.
        if (whole_rows) part = std::min(part, size - begin % size);
        run_piece(launch, begin, begin % size, part);
        begin += part;
      }
    });
  }

 private:
  // Elements `begin` … `begin` + `count` - 1; a vector's are those from `column` on.
  void run_piece(const Launch& launch, int64_t begin, int64_t column, int64_t count) const {
    const Argument &x = launch.arguments[0], &y = launch.arguments.back();
    float piece[kPiece], operand[kPiece];
    float* result = y.dtype == DType::kF32 ? y.as<float>() + begin : piece;
    const float* value = as_floats(functions_, x, begin, result, count);
    for (const ChainStep& step : steps_) {
      const Argument& b = launch.arguments[step.operand];
      auto floats_of_b = [&] { return as_floats(functions_, b, b.rank < x.rank ? column : begin, operand, count); };
      switch (step.kind) {
        case ChainStep::kAdd:
          functions_.add(value, floats_of_b(), result, count);
          break;
        case ChainStep::kMultiply:
          functions_.multiply(value, floats_of_b(), result, count);
          break;
        case ChainStep::kScale:
          functions_.scale(value, step.number, result, count);
          break;
        case ChainStep::kSoftCap:
          functions_.soft_cap(value, step.number, result, count);
          break;
        case ChainStep::kActivation:
          functions_.activate(step.function, value, result, count);
          break;
      }
      value = result;
    }
    if (y.dtype != DType::kF32 || value != result)
      functions_.narrow(y.dtype, value, y.as<char>() + begin * size_of(y.dtype), count);
  }

  PointwiseChain op_;
  std::vector<ChainStep> steps_;
  const VectorFunctions& functions_;
  int64_t cost_ = 1;
};

}  // namespace

template <CpuLevel level>
std::unique_ptr<Kernel> make_pointwise_chain(std::string_view parameters) {
  return std::make_unique<PointwiseChainKernel>(parse_kernel_parameters<PointwiseChain>(parameters),
                                                vector_functions(level));
}
template std::unique_ptr<Kernel> make_pointwise_chain<CpuLevel::kPortable>(std::string_view);
template std::unique_ptr<Kernel> make_pointwise_chain<CpuLevel::kAvx2>(std::string_view);
template std::unique_ptr<Kernel> make_pointwise_chain<CpuLevel::kAvx512>(std::string_view);

}  // namespace ingot
