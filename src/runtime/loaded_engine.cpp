#include "runtime/loaded_engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/error.h"
#include "device/target.h"
#include "kernels/weight_layout.h"
#include "runtime/gpu_weights.h"

namespace ingot {

namespace {

constexpr std::string_view kEngineFileName = "rank0.engine";
constexpr int kMaxVerifyThreads = 8;

// Why this machine cannot run code for `target`; empty when it can.
std::string missing_for_plan(const std::string& target, const Plan& plan) {
  try {
    Target needed = parse_target(target, 1);
    needed.avx512_bf16 = plan.avx512_bf16;
    return missing_for(needed);
  } catch (const Error& error) {
    throw error.with_code(ErrorCode::kIncompatible);  // a target that a newer build knows
  }
}

int64_t max_tokens(const Program& program) {
  for (const DimRange& range : program.dims)
    if (range.symbol == "tokens") return range.max;
  return INT64_MAX;
}

}  // namespace

std::shared_ptr<const LoadedEngine> LoadedEngine::load(const Path& path, const EngineLoadOptions& options) {
  std::shared_ptr<LoadedEngine> engine(new LoadedEngine);
  bool folder = std::filesystem::is_directory(path);
  Path file = folder ? path / kEngineFileName : path;
  if (folder) {
    engine->directory_ = path;
    if (!std::filesystem::exists(file))
      fail(ErrorCode::kUsage, "{} is not an engine directory: it has no {}", path.string(), kEngineFileName);
  }
  int threads = options.threads > 0 ? options.threads : std::min(usable_cpus(), kMaxVerifyThreads);
  engine->file_ = EngineFile::open(file, {.verify_weights = false});
  if (folder && std::filesystem::exists(path / "config.json")) engine->read_config(path / "config.json");
  Scope scope(file.string());
  engine->check_weights();
  engine->open_device();
  // Weights for a GPU are verified on their way there, while kernels and libraries are loaded.
  std::optional<WeightUpload> upload;
  if (engine->device_)
    upload.emplace(engine->device_, engine->file_, file, engine->device_weights_.data(), options.verify_weights);
  else if (options.verify_weights)
    engine->file_.verify_weights(threads);
  engine->resolve();
  if (upload) upload->finish();
  // Fewer translation misses while weights stream, where the file system supports it.
  auto weights = engine->file_.weights();
  if (!weights.empty() && !engine->device_)
    madvise(const_cast<std::byte*>(weights.data()), weights.size(), MADV_HUGEPAGE);
  return engine;
}

void LoadedEngine::read_config(const Path& file) {
  Scope scope(file.string());
  try {
    config_ = parse_json(read_text_file(file));
    const Json* named = config_.is_object() ? config_.find("content_hash") : nullptr;
    if (named && named->as_string() != content_hash())
      fail(ErrorCode::kIncompatible,
           "it belongs to an engine with the content hash {}, and {} has {}: a build replaces them right now, or one "
           "was cut off; build the engine again",
           named->as_string(), kEngineFileName, content_hash());
  } catch (const Error& error) {
    throw error.with_code(ErrorCode::kIncompatible);
  }
}

std::span<const std::byte> LoadedEngine::weight(size_t index) const {
  const PlanWeight& weight = plan().weights[index];
  return file_.weights().subspan(weight.offset, weight.bytes);
}

int LoadedEngine::find_symbol(std::string_view symbol) const {
  auto found = std::lower_bound(symbols_.begin(), symbols_.end(), symbol);
  return found != symbols_.end() && *found == symbol ? static_cast<int>(found - symbols_.begin()) : -1;
}

std::vector<const ResolvedProgram*> LoadedEngine::programs(std::string_view entry) const {
  std::vector<const ResolvedProgram*> found;
  for (const ResolvedProgram& program : programs_)
    if (program.program->entry == entry) found.push_back(&program);
  return found;
}

std::span<const std::byte> LoadedEngine::module_image(std::string_view name) const {
  for (const PlanModule& module : plan().modules)
    if (module.name == name) return file_.modules().subspan(module.offset, module.bytes);
  fail(ErrorCode::kIncompatible, "a step names the module {}, which the engine does not hold", name);
}

// Opens the GPU of an engine whose programs are for one, and takes memory for the weights there.
void LoadedEngine::open_device() {
  const std::vector<Program>& programs = plan().programs;
  if (programs.empty() || !is_for_gpu(programs.front().target)) return;
  std::string missing = missing_for_plan(programs.front().target, plan());
  if (!missing.empty()) fail(ErrorCode::kIncompatible, "the target {} {}", programs.front().target, missing);
  device_ = cuda::Device::open();
  device_weights_ = cuda::Memory(device_, file_.weights().size(), "the weights");
}

// Row-major weights were checked with the plan; what the other layouts need is known here.
void LoadedEngine::check_weights() const {
  for (const PlanWeight& weight : plan().weights) {
    if (weight.type.layout.empty()) continue;
    Scope scope(format("weight {}", weight.name));
    const WeightLayout* layout = find_weight_layout(weight.type.layout);
    if (!layout)
      fail(ErrorCode::kIncompatible, "this build of ingot has no weight layout {}; build the engine again",
           weight.type.layout);
    TensorType rows = weight.type;
    rows.layout.clear();
    if (!layout->accepts(rows))
      fail(ErrorCode::kIncompatible, "the layout {} cannot hold {}", layout->name, print(rows));
    int64_t needed = layout->packed_bytes(rows);
    if (static_cast<uint64_t>(needed) != weight.bytes)
      fail(ErrorCode::kIncompatible, "{} bytes are stored; {} needs {}", weight.bytes, print(weight.type), needed);
  }
}

void LoadedEngine::resolve_symbols() {
  std::set<std::string> symbols;
  auto add = [&](const TensorType& type) {
    for (const Dim& dim : type.shape)
      if (!dim.is_constant()) symbols.insert(dim.symbol);
  };
  for (const PlanInput& input : plan().inputs) add(input.type);
  for (const PlanOutput& output : plan().outputs) add(output.type);
  for (const PlanState& state : plan().states) add(state.type);
  for (const Program& program : plan().programs)
    for (const DimRange& range : program.dims) symbols.insert(range.symbol);
  symbols_.assign(symbols.begin(), symbols.end());
}

void LoadedEngine::resolve() {
  resolve_symbols();
  std::string missing = "the engine has no programs";
  for (size_t i = 0; i < plan().programs.size(); ++i) {
    const Program& program = plan().programs[i];
    Scope scope(format("program {}", i));
    std::string reason = missing_for_plan(program.target, plan());
    if (reason.empty())
      programs_.push_back(resolve_program(program));
    else
      missing = format("the target {} {}", program.target, reason);
  }
  if (programs_.empty()) fail(ErrorCode::kIncompatible, "{}", missing);
  std::stable_sort(programs_.begin(), programs_.end(), [](const ResolvedProgram& a, const ResolvedProgram& b) {
    return max_tokens(*a.program) < max_tokens(*b.program);
  });
}

// Equal steps share a kernel: kernels are stateless.
const Kernel* LoadedEngine::kernel_for(const Step& step) {
  std::string key = step.kernel + " " + step.parameters;
  auto found = std::lower_bound(kernels_.begin(), kernels_.end(), key,
                                [](const auto& entry, const std::string& wanted) { return entry.first < wanted; });
  KernelSupport support{device_, [this](std::string_view name) { return module_image(name); }};
  if (found == kernels_.end() || found->first != key)
    found = kernels_.insert(found, {key, make_kernel(step.kernel, step.parameters, support)});
  return found->second.get();
}

ResolvedProgram LoadedEngine::resolve_program(const Program& program) {
  ResolvedProgram resolved;
  resolved.program = &program;
  resolved.name = format("program {} ({}", &program - plan().programs.data(), program.entry);
  if (!program.dims.empty())
    resolved.name += format(", {} {}..{}", program.dims[0].symbol, program.dims[0].min, program.dims[0].max);
  resolved.name += ")";
  for (const DimRange& range : program.dims)
    resolved.ranges.push_back({find_symbol(range.symbol), range.min, range.max});
  for (const Step& step : program.steps) {
    Scope scope(format("step {}", step.label));
    const Kernel* kernel = kernel_for(step);
    Types types;
    for (const BufferRef& ref : step.buffers) types.push_back(ref.type);
    check_buffers(*kernel, types);
    resolved.steps.push_back({kernel, resolved.arguments.size(), step.buffers.size(), step.scratch_offset});
    for (const BufferRef& ref : step.buffers) resolved.arguments.push_back(resolve_argument(ref));
  }
  return resolved;
}

ResolvedArgument LoadedEngine::resolve_argument(const BufferRef& ref) const {
  ResolvedArgument resolved;
  resolved.kind = ref.kind;
  resolved.index = static_cast<size_t>(ref.index);
  resolved.offset = ref.offset;
  if (ref.kind == BufferKind::kWeight) {
    const std::byte* on_device = device_weights_.data() + plan().weights[resolved.index].offset;
    resolved.weight = device_ ? on_device : weight(resolved.index).data();
  }
  resolved.argument.dtype = ref.type.dtype;
  resolved.argument.rank = static_cast<int>(ref.type.rank());
  for (size_t i = 0; i < ref.type.shape.size(); ++i) {
    const Dim& dim = ref.type.shape[i];
    resolved.dims[i] = {dim.scale, dim.offset, dim.is_constant() ? -1 : find_symbol(dim.symbol)};
    resolved.argument.size[i] = dim.offset;
  }
  return resolved;
}

}  // namespace ingot
