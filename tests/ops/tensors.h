// Short ways to write tensors, calls and comparisons in tests of ops.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ops/op.h"

namespace ingot {

inline HostTensor tensor(std::string_view type, std::vector<double> values) {
  return HostTensor(parse_type(type), std::move(values));
}

// Values around zero that are a pure function of `seed`, rounded to the dtype.
inline HostTensor noise(std::string_view type, uint64_t seed = 1) {
  HostTensor result(parse_type(type));
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  for (double& value : result.values) {
    state = state * 6364136223846793005 + 1442695040888963407;
    value = static_cast<double>(static_cast<int64_t>(state) >> 33) * 0x1p-30 * 1.7;
  }
  round_values(result);
  return result;
}

inline Types types_of(const HostTensors& tensors) {
  Types types;
  for (const HostTensor& t : tensors) types.push_back(t.type);
  return types;
}

// What the op means, unrounded; the types that come out are those that infer promised.
inline HostTensors call(const AnyOp& op, const HostTensors& inputs) {
  HostTensors results = op.evaluate(inputs, false);
  EXPECT_EQ(op.infer(types_of(inputs)), types_of(results));
  return results;
}

inline void expect_near(const HostTensor& found, const HostTensor& wanted, double tolerance = 1e-12) {
  ASSERT_EQ(print(found.type), print(wanted.type));
  for (size_t i = 0; i < found.values.size(); ++i)
    EXPECT_NEAR(found.values[i], wanted.values[i], tolerance) << "element " << i;
}

inline void expect_values(const HostTensor& found, const std::vector<double>& wanted, double tolerance = 1e-12) {
  ASSERT_EQ(found.values.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found.values[i], wanted[i], tolerance) << "element " << i;
}

// The message of the Error that typing inputs "f32[2, 3] f32[4, 3]" throws, or "" when they fit.
inline std::string infer_error(const AnyOp& op, std::string_view types) {
  Lexer lexer(types);
  Types inputs;
  while (lexer.peek_word()) inputs.push_back(parse_type(lexer));
  try {
    op.infer(inputs);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// The printed result types of inputs "f32[tokens, 3] f32[4, 3]".
inline std::string inferred(const AnyOp& op, std::string_view types) {
  Lexer lexer(types);
  Types inputs;
  while (lexer.peek_word()) inputs.push_back(parse_type(lexer));
  std::string text;
  for (const TensorType& type : op.infer(inputs)) text += (text.empty() ? "" : " ") + print(type);
  return text;
}

inline void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "\"" << text << "\" lacks \"" << part << "\"";
}

}  // namespace ingot
