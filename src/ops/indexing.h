// Ops that pick rows or columns.
#pragma once

#include "ops/op.h"

namespace ingot {

// y[i] = table[ids[i]] as `dtype`. ids i32 [tokens], table float [vocab, h]; y [tokens, h].
struct Embedding {
  static constexpr std::string_view name = "embedding";
  DType dtype = DType::kF32;
  static constexpr auto fields() { return std::tuple{field("dtype", &Embedding::dtype)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, false}; }
  double cut(Types& inputs, int64_t max_bytes, double max_flops) const;  // in vocab, which costs no time
};

// y[i] = x[rows[i]]. x [tokens, h], rows i32 [outputs]; y [outputs, h].
struct GatherRows {
  static constexpr std::string_view name = "gather_rows";
  static constexpr auto fields() { return std::tuple{}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {false, true}; }
};

// Columns [begin, end) of x [rows, n].
struct Slice {
  static constexpr std::string_view name = "slice";
  int64_t begin = 0, end = 0;
  static constexpr auto fields() { return std::tuple{field("begin", &Slice::begin), field("end", &Slice::end)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true}; }
};

}  // namespace ingot
