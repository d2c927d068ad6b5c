#include "build/assemble.h"

#include <algorithm>
#include <map>

#include "build/memory_plan.h"
#include "kernels/weight_layout.h"

namespace ingot {

namespace {

constexpr uint64_t kWeightAlignment = 64;

struct MergedProgram {
  ProgramShape shape;
  const TacticTable* tactics;
};

bool same_tactics(const TacticTable& a, const TacticTable& b) {
  for (size_t n = 0; n < a.size(); ++n)
    if (a[n] && a[n]->tactic != b[n]->tactic) return false;
  return true;
}

std::vector<MergedProgram> merge_neighbours(const std::vector<ProgramShape>& programs, const Choice& choice) {
  std::vector<MergedProgram> merged;
  for (size_t p = 0; p < programs.size(); ++p) {
    if (merged.empty() || !same_tactics(*merged.back().tactics, choice.programs[p])) {
      merged.push_back({programs[p], &choice.programs[p]});
      continue;
    }
    ProgramShape& shape = merged.back().shape;
    for (size_t d = 0; d < shape.dims.size(); ++d) {
      int64_t least = std::min(shape.dims[d].min, programs[p].dims[d].min);
      shape.dims[d] = programs[p].dims[d];
      shape.dims[d].min = least;
    }
    shape.opt = programs[p].opt;
    shape.max = programs[p].max;
  }
  return merged;
}

class Assembler {
 public:
  Assembler(const Network& network, const Target& target) : network_(network), target_(target) {
    plan_.groups = network.groups;
    plan_.avx512_bf16 = target.avx512_bf16;
    for (size_t n = 0; n < network.nodes().size(); ++n) {
      const Node& node = network.nodes()[n];
      if (node.kind == NodeKind::kInput) {
        leaf_index_[n] = static_cast<int64_t>(plan_.inputs.size());
        plan_.inputs.push_back({node.name, node.types[0]});
      } else if (node.kind == NodeKind::kState) {
        leaf_index_[n] = static_cast<int64_t>(plan_.states.size());
        plan_.states.push_back({node.name, node.types[0], node.group});
      }
    }
    for (const auto& [name, value] : network.outputs()) {
      if (state_of(value) >= 0) continue;
      output_index_[value] = static_cast<int64_t>(plan_.outputs.size());
      plan_.outputs.push_back({name, network.type(value)});
    }
    find_readers();
  }

  void add(const MergedProgram& merged) {
    Program program;
    program.target = target_.text();
    program.dims = merged.shape.dims;
    std::vector<CompiledTactic> compiled = compile(merged);
    place(merged, compiled, program);
    plan_.programs.push_back(std::move(program));
  }

  Assembled finish() {
    uint64_t offset = 0;
    for (PlanWeight& weight : plan_.weights) {
      weight.offset = offset;
      offset = (offset + weight.bytes + kWeightAlignment - 1) / kWeightAlignment * kWeightAlignment;
    }
    for (const DeviceModule& module : modules_) plan_.modules.push_back({module.name(), module.arch});
    return {std::move(plan_), std::move(modules_)};
  }

 private:
  struct Reader {
    size_t node, input;
  };

  // Of values that only steps read.
  void find_readers() {
    const std::vector<Node>& nodes = network_.nodes();
    for (size_t n = 0; n < nodes.size(); ++n)
      for (size_t i = 0; i < nodes[n].inputs.size(); ++i)
        if (const Value value = nodes[n].inputs[i]; state_of(value) < 0 && !output_index_.contains(value))
          readers_[value].push_back({n, i});
  }

  // The node index of the state that `value` is a version of, or -1.
  int64_t state_of(Value value) const {
    const Node& node = network_.node(value);
    if (node.kind == NodeKind::kState) return value.node;
    if (node.kind != NodeKind::kOp) return -1;
    int input = node.op.aliased_input(value.result);
    return input < 0 ? -1 : state_of(node.inputs[static_cast<size_t>(input)]);
  }

  // Sizes for compiling: as large as the program takes, but with a pool no larger than one step can address.
  static DimValues memory_sizes(const ProgramShape& shape) {
    DimValues sizes = shape.max;
    for (auto& [symbol, size] : sizes)
      if (symbol.starts_with("pool_pages.")) size = sizes.at("pages." + symbol.substr(11));
    return sizes;
  }

  // What the nodes compute, with the layouts of values that are handed over.
  std::vector<Problem> problems_of(const MergedProgram& merged) const {
    const std::vector<Node>& nodes = network_.nodes();
    std::vector<Problem> problems(nodes.size());
    DimValues sizes = memory_sizes(merged.shape);
    for (size_t n = 0; n < nodes.size(); ++n)
      if ((*merged.tactics)[n]) problems[n] = problem_at(network_, nodes[n], sizes);
    for (const auto& [value, readers] : readers_) {
      const auto maker = static_cast<size_t>(value.node), output = static_cast<size_t>(value.result);
      const TimedTactic* writes = (*merged.tactics)[maker];
      if (!writes) continue;
      const std::string layout = layout_for(readers, problems, *merged.tactics);
      if (layout.empty() || !writes->source->can_write(problems[maker], writes->tactic.config, output, layout))
        continue;
      for (const Reader& reader : readers) problems[reader.node].inputs[reader.input].layout = layout;
      problems[maker].outputs[output].layout = layout;
    }
    return problems;
  }

  // The layout in which all of the readers would rather have a value, or "".
  static std::string layout_for(const std::vector<Reader>& readers, const std::vector<Problem>& problems,
                                const TacticTable& tactics) {
    std::string agreed;
    for (const Reader& reader : readers) {
      const TimedTactic* reads = tactics[reader.node];
      if (!reads) return "";
      std::string layout = reads->source->read_layout(problems[reader.node], reads->tactic.config, reader.input);
      if (layout.empty() || (!agreed.empty() && layout != agreed)) return "";
      agreed = layout;
    }
    return agreed;
  }

  std::vector<CompiledTactic> compile(const MergedProgram& merged) {
    std::vector<CompiledTactic> compiled(network_.nodes().size());
    std::vector<Problem> problems = problems_of(merged);
    for (size_t n = 0; n < compiled.size(); ++n) {
      const TimedTactic* timed = (*merged.tactics)[n];
      if (!timed) continue;
      compiled[n] = timed->source->compile(problems[n], timed->tactic.config, target_);
      for (const DeviceModule& module : compiled[n].modules)
        if (std::find(modules_.begin(), modules_.end(), module) == modules_.end()) modules_.push_back(module);
    }
    return compiled;
  }

  // Creates the steps of every node and gives every buffer its place.
  void place(const MergedProgram& merged, const std::vector<CompiledTactic>& compiled, Program& program) {
    DimValues sizes = memory_sizes(merged.shape);
    std::map<Value, size_t> buffer_of;  // arena values
    std::vector<Lifetime> lifetimes;
    std::vector<size_t> scratch_of;  // per step, or SIZE_MAX; the steps of one node share it
    struct Reference {
      size_t step, buffer, lifetime;
    };
    std::vector<Reference> references;
    for (size_t n = 0; n < compiled.size(); ++n) {
      const Node& node = network_.nodes()[n];
      size_t scratch = SIZE_MAX;
      if (compiled[n].scratch_bytes > 0 && !compiled[n].steps.empty()) {
        scratch = lifetimes.size();
        lifetimes.push_back({static_cast<uint64_t>(compiled[n].scratch_bytes), program.steps.size(),
                             program.steps.size() + compiled[n].steps.size() - 1});
      }
      for (const CompiledStep& compiled_step : compiled[n].steps) {
        size_t index = program.steps.size();
        Step step = make_step(node, compiled_step, *(*merged.tactics)[n], problem_at(network_, node, merged.shape.opt));
        for (int argument : compiled_step.arguments) {
          Value value = value_at(node, static_cast<int>(n), static_cast<size_t>(argument));
          const std::string layout = static_cast<size_t>(argument) < node.inputs.size()
                                         ? compiled[n].input_layouts[static_cast<size_t>(argument)]
                                         : std::string();
          BufferRef buffer = fixed_buffer(value, layout);
          if (buffer.kind == BufferKind::kArena) {
            auto [at, fresh] = buffer_of.try_emplace(value, lifetimes.size());
            if (fresh)
              lifetimes.push_back({static_cast<uint64_t>(network_.type(value).at(sizes).bytes()), index, index});
            lifetimes[at->second].last_step = index;
            references.push_back({index, step.buffers.size(), at->second});
          }
          step.buffers.push_back(std::move(buffer));
        }
        step.scratch_bytes = static_cast<uint64_t>(compiled[n].scratch_bytes);
        scratch_of.push_back(scratch);
        program.steps.push_back(std::move(step));
      }
    }
    MemoryPlan memory = plan_memory(lifetimes);
    for (const Reference& r : references) program.steps[r.step].buffers[r.buffer].offset = memory.offsets[r.lifetime];
    for (size_t s = 0; s < program.steps.size(); ++s)
      if (scratch_of[s] != SIZE_MAX) program.steps[s].scratch_offset = memory.offsets[scratch_of[s]];
    program.arena_bytes = memory.arena_bytes;
  }

  static Value value_at(const Node& node, int n, size_t argument) {
    if (argument < node.inputs.size()) return node.inputs[argument];
    return {n, static_cast<int>(argument - node.inputs.size())};
  }

  static Step make_step(const Node& node, const CompiledStep& compiled, const TimedTactic& timed,
                        const Problem& problem) {
    Step step;
    step.kernel = compiled.kernel;
    step.parameters = compiled.parameters;
    step.label = node.label;
    step.problem = problem.key();
    step.tactic = timed.tactic.config.empty() ? timed.tactic.source : timed.tactic.source + " " + timed.tactic.config;
    step.origins = node.origins;
    return step;
  }

  // A value that does not live in the arena; else a BufferRef of kind kArena.
  BufferRef fixed_buffer(Value value, const std::string& layout) {
    BufferRef buffer;
    buffer.type = network_.type(value);
    const Node& node = network_.node(value);
    if (int64_t state = state_of(value); state >= 0) {
      buffer.kind = BufferKind::kState;
      buffer.index = leaf_index_.at(static_cast<size_t>(state));
    } else if (node.kind == NodeKind::kInput) {
      buffer.kind = BufferKind::kInput;
      buffer.index = leaf_index_.at(static_cast<size_t>(value.node));
    } else if (node.kind == NodeKind::kWeight) {
      buffer.kind = BufferKind::kWeight;
      buffer.index = weight_index(value, layout);
      buffer.type.layout = layout;
    } else if (auto output = output_index_.find(value); output != output_index_.end()) {
      buffer.kind = BufferKind::kOutput;
      buffer.index = output->second;
    }
    return buffer;
  }

  int64_t weight_index(Value value, const std::string& layout) {
    auto [at, fresh] = weight_index_.try_emplace({value, layout}, static_cast<int64_t>(plan_.weights.size()));
    if (!fresh) return at->second;
    const Node& node = network_.node(value);
    PlanWeight weight;
    weight.name = node.name;
    for (const auto& [key, index] : weight_index_)
      if (key.first == value && key.second != layout)
        weight.name = node.name + "@" + (layout.empty() ? "rows" : layout);
    weight.type = node.types[0];
    weight.type.layout = layout;
    weight.recipe = print(layout.empty() ? node.recipe : recipe::pack(node.recipe, layout));
    if (layout.empty()) {
      weight.bytes = static_cast<uint64_t>(node.types[0].bytes());
    } else {
      const WeightLayout* found = find_weight_layout(layout);
      if (!found) fail(ErrorCode::kRuntime, "a tactic asks for the unknown weight layout \"{}\"", layout);
      weight.bytes = static_cast<uint64_t>(found->packed_bytes(node.types[0]));
    }
    plan_.weights.push_back(std::move(weight));
    return at->second;
  }

  const Network& network_;
  const Target& target_;
  std::map<Value, std::vector<Reader>> readers_;
  Plan plan_;
  std::vector<DeviceModule> modules_;
  std::map<size_t, int64_t> leaf_index_;
  std::map<Value, int64_t> output_index_;
  std::map<std::pair<Value, std::string>, int64_t> weight_index_;
};

}  // namespace

Assembled assemble(const Network& network, const std::vector<ProgramShape>& programs, const Choice& choice,
                   const Target& target) {
  Assembler assembler(network, target);
  for (const MergedProgram& merged : merge_neighbours(programs, choice)) assembler.add(merged);
  return assembler.finish();
}

std::vector<std::byte> compile_modules(Assembled& assembled, int threads) {
  const std::vector<DeviceModule>& modules = assembled.modules;
  ThreadPool pool(std::clamp(static_cast<int>(modules.size()), 1, threads));
  compile_all(modules, pool);
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < modules.size(); ++i) {
    auto image = compile_module(modules[i]);
    bytes.resize((bytes.size() + kWeightAlignment - 1) / kWeightAlignment * kWeightAlignment);
    assembled.plan.modules[i].offset = bytes.size();
    assembled.plan.modules[i].bytes = image->size();
    bytes.insert(bytes.end(), image->begin(), image->end());
  }
  return bytes;
}

}  // namespace ingot
