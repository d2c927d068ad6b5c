#include "inspect/step_cost.h"

#include <algorithm>
#include <set>

#include "ops/attention.h"
#include "ops/experts.h"
#include "ops/indexing.h"
#include "tactics/tactic.h"

namespace ingot {

namespace {

DimValues sizes_of(const Plan& plan, int64_t sequences, int64_t tokens, int64_t context) {
  DimValues dims{{"tokens", sequences * tokens},
                 {"sequences", sequences},
                 {"outputs", sequences},
                 {"listed", 0},
                 {"seats", sequences}};
  for (const CacheGroup& group : plan.groups) {
    int64_t pages = sequences * ((context + group.page_size - 1) / group.page_size);
    dims["pages." + group.name] = pages;
    dims["pool_pages." + group.name] = pages;
  }
  return dims;
}

// Positions that the queries of one sequence see together, and the number of different ones.
struct Visible {
  double pairs = 0, positions = 0;
};

Visible visible_positions(int64_t tokens, int64_t context, int64_t window) {
  Visible visible;
  for (int64_t position = context - tokens; position < context; ++position)
    visible.pairs += static_cast<double>(window ? std::min(position + 1, window) : position + 1);
  visible.positions = static_cast<double>(window ? std::min(context, window + tokens - 1) : context);
  return visible;
}

}  // namespace

std::vector<StepCost> launch_costs(const Plan& plan, const Program& program, int64_t sequences, int64_t tokens,
                                   int64_t context) {
  DimValues dims = sizes_of(plan, sequences, tokens, context);
  std::vector<StepCost> costs;
  std::set<int64_t> counted;
  const Step* last = nullptr;
  for (const Step& step : program.steps) {
    StepCost& cost = costs.emplace_back();
    // The launches of one op write the same buffer.
    const bool counted_before = last && last->problem == step.problem && last->buffers.back() == step.buffers.back();
    last = &step;
    if (counted_before) continue;
    AnyOp op = parse_problem(step.problem).op;
    std::vector<TensorType> types;
    for (const BufferRef& buffer : step.buffers) {
      types.push_back(buffer.type.at(dims));
      types.back().layout.clear();
    }
    if (const auto* attention = op.as<Attention>()) {
      Visible visible = visible_positions(tokens, context, attention->window);
      int64_t kv_heads = types[1].shape[1].constant(), head_size = types[1].shape[3].constant();
      cost.flops = 4.0 * static_cast<double>(sequences * attention->heads * head_size) * visible.pairs;
      cost.bytes =
          2.0 * static_cast<double>(sequences * kv_heads * head_size * size_of(types[1].dtype)) * visible.positions;
      continue;
    }
    cost.flops = op.flops(types);
    double share = 1;
    if (op.is<ExpertMlp>())
      share =
          std::min(1.0, static_cast<double>(types[1].elements()) / static_cast<double>(types[3].shape[0].constant()));
    for (size_t i = 0; i < step.buffers.size(); ++i) {
      const BufferRef& buffer = step.buffers[i];
      if (buffer.kind != BufferKind::kWeight) continue;
      if (op.is<Embedding>()) {
        cost.bytes += static_cast<double>(types[0].elements() * types[1].shape[1].constant() * size_of(types[1].dtype));
      } else if (counted.insert(buffer.index).second) {
        cost.bytes += share * static_cast<double>(types[i].bytes());
      }
    }
  }
  return costs;
}

StepCost step_cost(const Plan& plan, const Program& program, int64_t sequences, int64_t tokens, int64_t context) {
  StepCost total;
  for (const StepCost& cost : launch_costs(plan, program, sequences, tokens, context))
    total.bytes += cost.bytes, total.flops += cost.flops;
  return total;
}

}  // namespace ingot
