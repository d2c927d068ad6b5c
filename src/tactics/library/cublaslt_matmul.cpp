#include "tactics/library/cublaslt_matmul.h"

#include <algorithm>
#include <optional>

#include "base/fields.h"
#include "base/hash.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cublaslt_api.h"
#include "tactics/cuda/cuda_source.h"
#include "tactics/cuda/matmul_problem.h"
#include "tactics/cuda/pointwise.h"

#ifndef INGOT_SOURCE_HASH
#define INGOT_SOURCE_HASH "1"
#endif

namespace ingot {

namespace {

// How far down the library's list it pays to look, and what its split sums may take.
constexpr int kListed = 8;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20, kWorkspaceUnit = int64_t{64} << 10;

// What the products of a gated problem may take before they are gated.
constexpr int64_t kProductBytes = int64_t{64} << 20, kRowsUnit = 128;

// What the library is asked for: of a gated problem the products as f32, so that nothing is rounded before the gate.
Problem library_problem(const Problem& problem) {
  const Matmul& op = *problem.op.as<Matmul>();
  if (!op.gated) return problem;
  const bool wide = problem.inputs[0].dtype != DType::kF32;
  Problem products{Matmul{.bias = op.bias, .wide = wide}, problem.inputs, {}};
  products.outputs = products.op.infer(products.inputs);
  return products;
}

cublaslt::Product product_of(const Problem& problem) {
  const TensorType &x = problem.inputs[0], &w = problem.inputs[1];
  return {*problem.op.as<Matmul>(), x.shape[0].constant(), w.shape[0].constant(), w.shape[1].constant(), w.dtype,
          problem.outputs[0].dtype};
}

// Why the library cannot compute a problem, as far as that is known without asking it, or "".
std::string unless_the_library_can(const Problem& problem) {
  const Matmul& op = *problem.op.as<Matmul>();
  const DType x = problem.inputs[0].dtype, w = problem.inputs[1].dtype, y = problem.outputs[0].dtype;
  if (std::string reason = unless_device_floats(problem, {0, 1, problem.inputs.size()}); !reason.empty()) return reason;
  if (x != w) return format("x is {} and w {}: the library multiplies equal dtypes", enum_name(x), enum_name(w));
  if (y != x && y != DType::kF32) return format("the result is {}: needs {} or f32", enum_name(y), enum_name(x));
  if (op.bias && problem.inputs[2].dtype != y)
    return format("the bias is {}: needs the result's {}", enum_name(problem.inputs[2].dtype), enum_name(y));
  if (op.residual && problem.inputs.back().dtype != y)
    return format("the residual is {}: needs the result's {}", enum_name(problem.inputs.back().dtype), enum_name(y));
  if (op.residual && op.function != ActivationFunction::kNone)
    return "the library applies the function after it has added the residual";
  if (op.function != ActivationFunction::kNone && op.function != ActivationFunction::kRelu &&
      op.function != ActivationFunction::kGeluTanh)
    return format("the library has no {}", enum_name(op.function));
  if (op.function == ActivationFunction::kGeluTanh && y == DType::kF32)
    return "the library's gelu is off by some 5e-6: not good enough for f32";
  if (problem.inputs[0].elements() == 0 || problem.inputs[1].elements() == 0) return "the problem is empty";
  return "";
}

bool takes_all_arguments(const CompiledStep& step, const Problem& problem) {
  const size_t count = problem.inputs.size() + problem.outputs.size();
  bool all = step.arguments.size() == count;
  for (size_t i = 0; all && i < count; ++i) all = step.arguments[i] == static_cast<int>(i);
  return all;
}

// Adds the step that gates products to the parameters, and its needs to the tactic.
void add_gate(CublasltMatmul& parameters, CompiledTactic& tactic, const Problem& problem, const Target& target) {
  const TensorType products = library_problem(problem).outputs[0];
  const int64_t row_bytes = products.shape[1].constant() * size_of(DType::kF32);
  const CompiledTactic gate = gate_products(parameters.function, products, problem.outputs[0], target);
  parameters.gate_kernel = gate.steps[0].kernel;
  parameters.gate_parameters = gate.steps[0].parameters;
  parameters.rows_at_once = std::max(kProductBytes / row_bytes / kRowsUnit, int64_t{1}) * kRowsUnit;
  const int64_t rows = std::min(products.shape[0].constant(), parameters.rows_at_once);
  tactic.scratch_bytes = std::max(tactic.scratch_bytes, products_offset(parameters.workspace_bytes) + rows * row_bytes);
  tactic.modules.insert(tactic.modules.end(), gate.modules.begin(), gate.modules.end());
}

// What solves the problem without the library from the same bytes: the best guess of the first source that can.
// `steps` is empty when there is none.
CompiledTactic own_tactic(const Problem& problem, const Target& target) {
  for (const TacticSource* source : tactic_list()) {
    if (source == cublaslt_matmul_source()) continue;
    const auto offered = source->enumerate(problem, target);
    const auto* configs = std::get_if<std::vector<std::string>>(&offered);
    if (!configs) continue;
    for (const std::string& config : *configs) {
      CompiledTactic tactic = source->compile(problem, config, target);
      const bool fits = std::all_of(tactic.input_layouts.begin(), tactic.input_layouts.end(),
                                    [](const std::string& layout) { return layout.empty(); }) &&
                        std::all_of(tactic.steps.begin(), tactic.steps.end(),
                                    [&](const CompiledStep& step) { return takes_all_arguments(step, problem); });
      if (fits) return tactic;
    }
  }
  return {};
}

struct Config {
  std::string text;
  CublasltChoice choice;
};

// nullopt for text that this source never made: a timing cache may hold anything.
std::optional<Config> parse_config(std::string_view text) {
  try {
    Lexer lexer(text);
    Config config{std::string(text), parse_fields<CublasltChoice>(lexer)};
    cublaslt::parse_algorithm(config.choice.algorithm);
    if (!lexer.at_end() || config.choice.workspace_bytes < 0) return std::nullopt;
    return config;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// The recommended one, then the others in an order that does not depend on who lists them: it decides between equal
// times.
std::vector<std::string> in_order(std::vector<Config> configs) {
  std::sort(configs.begin(), configs.end(), [](const Config& a, const Config& b) {
    const bool a_pinned = !a.choice.algorithm.empty(), b_pinned = !b.choice.algorithm.empty();
    return a_pinned != b_pinned ? b_pinned : a.text < b.text;
  });
  std::vector<std::string> texts;
  for (Config& config : configs) texts.push_back(std::move(config.text));
  return texts;
}

class CublasltMatmulSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.cublaslt"; }
  // The library's own version is part of every configuration; gates are the code of pointwise ops.
  std::string_view version() const override {
    static const std::string version =
        hex64(hash64(INGOT_SOURCE_HASH + device_code_version("pointwise.cuh"))).substr(0, 8);
    return version;
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    std::string reason = refusal(problem, target);
    if (reason.empty()) reason = missing_for(target);
    if (!reason.empty()) return Unsupported{reason};
    // Not before it is wanted: loading it takes 60 ms and 90 MB.
    const cublaslt::Library& library = cublaslt::Library::get();
    if (!library.ok()) return Unsupported{"needs libcublasLt.so.13: " + library.missing};
    std::vector<std::string> configs = ask(problem, library.version);
    if (configs.empty()) return Unsupported{"the library has no algorithm for it"};
    return configs;
  }

  // Timings of another version say nothing about the library that is here. Without a GPU they are all there is.
  std::vector<std::string> recall(const Problem& problem, const Target& target,
                                  std::span<const std::string> known) const override {
    if (!problem.op.is<Matmul>() || known.empty() || !refusal(problem, target).empty()) return {};
    std::vector<Config> configs;
    for (const std::string& text : known)
      if (auto config = parse_config(text)) configs.push_back(std::move(*config));
    int64_t version = 0;
    for (const Config& config : configs) version = std::max(version, config.choice.version);
    if (missing_for(target).empty() && cublaslt::Library::get().ok()) version = cublaslt::Library::get().version;
    std::erase_if(configs, [&](const Config& config) { return config.choice.version != version; });
    return in_order(std::move(configs));
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    CublasltMatmul parameters;
    static_cast<Matmul&>(parameters) = *problem.op.as<Matmul>();
    Lexer lexer(config);
    static_cast<CublasltChoice&>(parameters) = parse_fields<CublasltChoice>(lexer);
    CompiledTactic own = own_tactic(problem, target), tactic;
    for (const CompiledStep& step : own.steps) {
      parameters.fallback_kernels.push_back(step.kernel);
      parameters.fallback_parameters.push_back(step.parameters);
    }
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.scratch_bytes = std::max(parameters.workspace_bytes, own.scratch_bytes);
    tactic.modules = std::move(own.modules);
    if (parameters.gated) add_gate(parameters, tactic, problem, target);
    CompiledStep step{.kernel = std::string(name()), .parameters = print_fields(parameters)};
    for (size_t i = 0; i <= problem.inputs.size(); ++i) step.arguments.push_back(static_cast<int>(i));
    tactic.steps.push_back(std::move(step));
    return tactic;
  }

 private:
  static std::string refusal(const Problem& problem, const Target& target) {
    std::string reason = unless_cuda(target);
    if (reason.empty()) reason = unless_the_library_can(library_problem(problem));
    if (reason.empty() && own_tactic(problem, target).steps.empty())
      reason = "no kernel of our own could take its place where the library is another version";
    return reason;
  }

  static std::vector<std::string> ask(const Problem& problem, int64_t version) {
    const cublaslt::Connection& connection = cublaslt::Connection::open(cuda::Device::open());
    constexpr int64_t kSomeAddress = 256;  // never read; the library looks at its alignment
    cublaslt::Descriptors descriptors(connection, product_of(library_problem(problem)),
                                      reinterpret_cast<const void*>(kSomeAddress));
    std::vector<Config> configs;
    for (const cublaslt::HeuristicResult& listed : descriptors.heuristics(kWorkspaceBytes, kListed)) {
      CublasltChoice choice{.workspace_bytes = kWorkspaceBytes, .version = version};
      // The first is what the library recommends: not pinned, it gives other numbers of rows what suits them.
      if (!configs.empty()) {
        choice.algorithm = cublaslt::print_algorithm(listed.algorithm);
        // Some need a few bytes more for fewer rows.
        choice.workspace_bytes = (static_cast<int64_t>(listed.workspace_bytes) / kWorkspaceUnit + 1) * kWorkspaceUnit;
      }
      configs.push_back({print_fields(choice), choice});
    }
    return in_order(std::move(configs));
  }
};

}  // namespace

const TacticSource* cublaslt_matmul_source() {
  static const CublasltMatmulSource source;
  return &source;
}

}  // namespace ingot
