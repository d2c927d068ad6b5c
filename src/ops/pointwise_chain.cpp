#include "ops/pointwise_chain.h"

#include <algorithm>
#include <array>

#include "ops/pointwise.h"

namespace ingot {

namespace {

// How one kind of step is written: its name, and the value of its only field, if it has one, in parentheses.
struct StepKind {
  std::string_view name;
  std::string (*print)(const AnyOp& op);
  AnyOp (*parse)(Lexer& lexer);
};

template <class Op>
constexpr StepKind step_kind() {
  return {Op::name,
          [](const AnyOp& op) {
            std::string text(Op::name);
            for_each_field<Op>([&](auto f) { text += "(" + print_value(op.as<Op>()->*f.member) + ")"; });
            return text;
          },
          [](Lexer& lexer) {
            Op op;
            for_each_field<Op>([&](auto f) {
              lexer.expect("(");
              parse_value(lexer, op.*f.member);
              lexer.expect(")");
            });
            return AnyOp(op);
          }};
}

constexpr std::array kStepKinds = {step_kind<Add>(),     step_kind<Multiply>(),   step_kind<Scale>(),
                                   step_kind<SoftCap>(), step_kind<Activation>(), step_kind<Cast>()};

const StepKind* find_kind(std::string_view name) {
  for (const StepKind& kind : kStepKinds)
    if (kind.name == name) return &kind;
  return nullptr;
}

// f(step, its inputs) for every step in turn, where f returns the result of the step.
template <class T, class F>
T fold_steps(const std::string& steps, const std::vector<T>& inputs, F f) {
  T value = inputs[0];
  size_t next = 1;
  for (const AnyOp& step : parse_chain_steps(steps)) {
    std::vector<T> operands = {std::move(value)};
    if (takes_operand(step)) operands.push_back(inputs[next++]);
    value = std::move(f(step, operands)[0]);
  }
  return value;
}

}  // namespace

bool is_chain_step(const AnyOp& op) { return find_kind(op.name()) != nullptr; }

bool takes_operand(const AnyOp& step) { return step.is<Add>() || step.is<Multiply>(); }

std::string print_chain_steps(const std::vector<AnyOp>& ops) {
  std::string text;
  for (const AnyOp& op : ops) text += (text.empty() ? "" : ", ") + find_kind(op.name())->print(op);
  return text;
}

std::vector<AnyOp> parse_chain_steps(std::string_view steps) {
  Scope scope("steps");
  Lexer lexer(steps, true);
  std::vector<AnyOp> ops;
  do {
    std::string name = lexer.word("a step");
    const StepKind* kind = find_kind(name);
    if (!kind) {
      std::vector<std::string> known;
      for (const StepKind& each : kStepKinds) known.emplace_back(each.name);
      fail(ErrorCode::kRuntime, "\"{}\" is no step of a chain; those are {}", name, join(known));
    }
    ops.push_back(kind->parse(lexer));
  } while (lexer.accept(","));
  if (!lexer.at_end()) lexer.fail("a comma or the end");
  return ops;
}

Types PointwiseChain::infer(const Types& inputs) const {
  std::vector<AnyOp> ops = parse_chain_steps(steps);
  const size_t wanted = 1 + static_cast<size_t>(std::count_if(ops.begin(), ops.end(), takes_operand));
  if (wanted > kMaxInputs)
    fail(ErrorCode::kRuntime, "found {} inputs where at most {} are possible", wanted, kMaxInputs);
  check_input_count(inputs, wanted, wanted);
  return {fold_steps(steps, inputs, [](const AnyOp& step, const Types& types) { return step.infer(types); })};
}

HostTensors PointwiseChain::evaluate(const HostTensors& inputs) const {
  return {fold_steps(steps, inputs,
                     [](const AnyOp& step, const HostTensors& tensors) { return step.evaluate(tensors, false); })};
}

// A vector beside a matrix serves every row.
std::vector<bool> PointwiseChain::row_inputs(const Types& inputs) const {
  std::vector<bool> by_row;
  for (const TensorType& type : inputs) by_row.push_back(type.rank() == inputs[0].rank());
  return by_row;
}

}  // namespace ingot
