#include "ops/op.h"

namespace ingot {

Types AnyOp::infer(const Types& inputs) const {
  Scope scope{std::string(name())};
  return self_->infer(inputs);
}

HostTensors AnyOp::evaluate(const HostTensors& inputs, bool round) const {
  HostTensors results = self_->evaluate(inputs);
  if (round)
    for (HostTensor& result : results) round_values(result);
  return results;
}

AnyOp parse_op(std::string_view name, Lexer& lexer) {
  std::vector<std::string> names;
  for (const OpEntry& entry : op_list()) {
    if (entry.name == name) return entry.parse(lexer);
    names.emplace_back(entry.name);
  }
  fail(ErrorCode::kRuntime, "there is no op \"{}\"; the nearest is \"{}\"", name, nearest(name, names));
}

void check_input_count(const Types& inputs, size_t least, size_t most) {
  if (inputs.size() >= least && inputs.size() <= most) return;
  fail(ErrorCode::kRuntime, "found {} inputs, needed {}", inputs.size(),
       least == most ? std::to_string(least) : format("{} to {}", least, most));
}

void check_type(bool holds, const TensorType& type, std::string_view what) {
  if (!holds) fail(ErrorCode::kRuntime, "found {} where {} is needed", print(type), what);
}

}  // namespace ingot
