#include "build/program_shapes.h"

#include <algorithm>
#include <set>

namespace ingot {

namespace {

// A context of this many positions stands for a decode's while measuring.
constexpr int64_t kTypicalContext = 512;
constexpr int64_t kLargestDecodeStep = 64;
// Kernels work through longer steps in blocks of rows; measuring more tokens than this shows nothing new.
int64_t largest_measured_step(const Target& target) { return target.kind == "cuda" ? 2048 : 512; }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::vector<int64_t> token_counts(int64_t max_num_tokens) {
  std::vector<int64_t> counts;
  for (int64_t tokens = 1; tokens < max_num_tokens; tokens *= tokens < kLargestDecodeStep ? 2 : 4)
    counts.push_back(tokens);
  counts.push_back(max_num_tokens);
  return counts;
}

// The positions of a sequence that a group keeps at most: all, or a window and the chunk being written.
int64_t kept_positions(const CacheGroup& group, const StepLimits& limits) {
  if (group.window == 0) return limits.max_seq_len;
  return std::min(limits.max_seq_len, group.window + limits.max_num_tokens + group.page_size);
}

bool has_symbol(const Network& network, std::string_view symbol) {
  return std::any_of(network.dims.begin(), network.dims.end(),
                     [&](const DimRange& range) { return range.symbol == symbol; });
}

ProgramShape shape_for(const Network& network, const StepLimits& limits, int64_t most_measured, int64_t least,
                       int64_t tokens) {
  ProgramShape shape;
  bool decodes = tokens <= kLargestDecodeStep;
  int64_t sequences = decodes ? std::min(tokens, limits.max_batch_size) : 1;
  int64_t measured = std::clamp(most_measured, least, tokens);
  auto add = [&](const std::string& symbol, int64_t min, int64_t opt, int64_t max) {
    shape.dims.push_back({symbol, min, opt, max});
    shape.opt[symbol] = opt;
    shape.max[symbol] = max;
  };
  add("tokens", least, measured, tokens);
  add("sequences", 1, sequences, limits.max_batch_size);
  add("outputs", 0, sequences, std::min(tokens, limits.max_outputs));
  for (const CacheGroup& group : network.groups) {
    int64_t context = std::min(limits.max_seq_len, decodes ? std::max(kTypicalContext, measured) : measured);
    if (group.window) context = std::min(context, group.window + (decodes ? 1 : measured));
    int64_t pages = sequences * ceil_div(context, group.page_size);
    // However the chunks of a step with several tokens a sequence are cut, their pages are listed.
    if (measured > sequences) pages = std::max(pages, sequences + ceil_div(measured, group.page_size));
    int64_t most = limits.max_batch_size * (ceil_div(kept_positions(group, limits), group.page_size) + 1);
    add("pages." + group.name, 1, std::min(pages, most), most);
    add("pool_pages." + group.name, 1, std::min(pages, most), int64_t{1} << 30);
  }
  // Few rows list ids; those that do bring any number.
  if (has_symbol(network, "listed")) add("listed", 0, 0, int64_t{1} << 30);
  if (has_symbol(network, "seats")) add("seats", 1, sequences, limits.max_batch_size);
  return shape;
}

}  // namespace

std::vector<ProgramShape> program_shapes(const Network& network, const StepLimits& limits, const Target& target) {
  std::vector<ProgramShape> shapes;
  int64_t least = 1;
  for (int64_t tokens : token_counts(limits.max_num_tokens)) {
    shapes.push_back(shape_for(network, limits, largest_measured_step(target), least, tokens));
    least = tokens + 1;
  }
  return shapes;
}

Problem problem_at(const Network& network, const Node& node, const DimValues& dims) {
  Problem problem;
  problem.op = node.op;
  for (Value input : node.inputs) problem.inputs.push_back(network.type(input).at(dims));
  for (const TensorType& type : node.types) problem.outputs.push_back(type.at(dims));
  return problem;
}

std::vector<Problem> list_problems(const Network& network, const std::vector<ProgramShape>& programs) {
  std::vector<Problem> problems;
  std::set<std::string> seen;
  for (const ProgramShape& program : programs)
    for (const Node& node : network.nodes()) {
      if (node.kind != NodeKind::kOp) continue;
      Problem problem = problem_at(network, node, program.opt);
      if (seen.insert(problem.key()).second) problems.push_back(std::move(problem));
    }
  return problems;
}

}  // namespace ingot
