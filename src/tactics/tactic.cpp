#include "tactics/tactic.h"

namespace ingot {

std::string Problem::key() const {
  std::string text(op.name());
  for (const TensorType& type : inputs) text += " " + print(type);
  std::string attributes = op.attributes();
  return attributes.empty() ? text : text + " " + attributes;
}

Problem parse_problem(std::string_view text) {
  Scope scope(format("problem \"{}\"", text));
  Lexer lexer(text);
  std::string name = lexer.word("the name of an op");
  Problem problem;
  while (lexer.peek_word()) {
    TensorType type = parse_type(lexer);
    bool fits = type.layout.empty() && type.is_constant();
    for (const Dim& dim : type.shape) fits = fits && dim.offset >= 0;
    check_type(fits, type, "a row-major type of constant sizes");
    int64_t bytes = 0;
    if (__builtin_mul_overflow(type.elements(), size_of(type.dtype), &bytes))
      fail(ErrorCode::kRuntime, "the size of {} overflows", print(type));
    problem.inputs.push_back(std::move(type));
  }
  problem.op = parse_op(name, lexer);
  if (!lexer.at_end()) lexer.fail("the end of the problem");
  problem.outputs = problem.op.infer(problem.inputs);
  return problem;
}

}  // namespace ingot
