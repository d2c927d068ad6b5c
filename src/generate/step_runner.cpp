#include "generate/step_runner.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "generate/pad_decodes.h"
#include "tensor/sample_columns.h"

namespace ingot {

namespace {

using Bytes = std::span<const std::byte>;
using Pick = Bytes (*)(const StepBatch&, size_t);

// With its capacity, so that a list that grows a little stays bound as it is.
template <class T>
Bytes all_of(const std::vector<T>& list) {
  return {reinterpret_cast<const std::byte*>(list.data()), list.capacity() * sizeof(T)};
}

struct NamedInput {
  std::string_view name;
  Pick pick;
  int64_t columns = 0;  // 0: a list
  DType dtype = DType::kI32;
};

constexpr NamedInput kInputs[] = {
    {"ids", [](const StepBatch& batch, size_t) { return all_of(batch.ids); }},
    {"positions", [](const StepBatch& batch, size_t) { return all_of(batch.positions); }},
    {"query_starts", [](const StepBatch& batch, size_t) { return all_of(batch.query_starts); }},
    {"context_lengths", [](const StepBatch& batch, size_t) { return all_of(batch.context_lengths); }},
    {"output_rows", [](const StepBatch& batch, size_t) { return all_of(batch.output_rows); }},
    {"sample_options", [](const StepBatch& batch, size_t) { return all_of(batch.sampling.options); }, sample::kOptions,
     DType::kF32},
    {"sample_choices", [](const StepBatch& batch, size_t) { return all_of(batch.sampling.choices); }, sample::kChoices},
    {"sample_listed", [](const StepBatch& batch, size_t) { return all_of(batch.sampling.listed); }, 2},
};
// Followed by the name of the group.
constexpr NamedInput kGroupInputs[] = {
    {"slots.", [](const StepBatch& batch, size_t group) { return all_of(batch.groups[group].slots); }},
    {"page_starts.", [](const StepBatch& batch, size_t group) { return all_of(batch.groups[group].page_starts); }},
    {"page_list.", [](const StepBatch& batch, size_t group) { return all_of(batch.groups[group].page_list); }},
    {"context_starts.",
     [](const StepBatch& batch, size_t group) { return all_of(batch.groups[group].context_starts); }},
};

void check_input(const PlanInput& input, const NamedInput& known) {
  const Shape& shape = input.type.shape;
  bool fits = input.type.dtype == known.dtype && shape.size() == (known.columns ? 2 : 1) &&
              (known.columns == 0 || shape[1] == Dim(known.columns));
  if (fits) return;
  if (known.columns == 0)
    fail(ErrorCode::kIncompatible, "the input {} is {}, not a list of i32", input.name, print(input.type));
  fail(ErrorCode::kIncompatible, "the input {} is {}, not {} with {} columns", input.name, print(input.type),
       enum_name(known.dtype), known.columns);
}

void check_output(const PlanOutput& output, const TensorType& needed) {
  if (output.type != needed)
    fail(ErrorCode::kIncompatible, "the output {} is {}, not {}", output.name, print(output.type), print(needed));
}

// The largest value of `symbol` in any of the programs; `otherwise` when none has it.
int64_t largest(const std::vector<const ResolvedProgram*>& programs, std::string_view symbol, int64_t otherwise) {
  int64_t most = -1;
  for (const ResolvedProgram* program : programs)
    for (const DimRange& range : program->program->dims)
      if (range.symbol == symbol) most = std::max(most, range.max);
  return most < 0 ? otherwise : most;
}

// Of a GPU's free memory, the part that the KV cache takes at most when nothing is asked for; graphs and library
// workspaces need some of the rest.
constexpr double kPartOfGpu = 0.9;

int64_t smaller_wish(int64_t limit, int64_t wish) { return wish > 0 ? std::min(limit, wish) : limit; }

int thread_count(const LoadedEngine& engine, int wish) {
  if (wish < 0 || wish > kMostThreads)
    fail(ErrorCode::kUsage, "threads is {}, needed 0 (what the engine was tuned for) to {}", wish, kMostThreads);
  if (wish > usable_cpus())
    log_warning("{} threads share {} usable CPUs; one thread per CPU is faster", wish, usable_cpus());
  if (wish > 0) return wish;
  const Json* build = engine.config().find("build_config");
  int64_t tuned = build ? build->get("threads", 0) : 0;
  return static_cast<int>(std::min<int64_t>(tuned > 0 ? tuned : usable_cpus(), usable_cpus()));
}

}  // namespace

StepRunner::StepRunner(std::shared_ptr<const LoadedEngine> engine, const StepRunnerOptions& options)
    : engine_(std::move(engine)) {
  auto threads = std::make_shared<ThreadPool>(thread_count(*engine_, options.threads));
  context_ = std::make_unique<ExecutionContext>(engine_, std::move(threads));
  values_.assign(engine_->symbols().size(), -1);
  find_inputs();
  find_limits(options);
  uint64_t budget = options.kv_cache_memory ? options.kv_cache_memory : default_kv_cache_memory(options);
  seats_ = largest(engine_->programs("main"), "seats", 1);
  pool_ = std::make_unique<StatePool>(engine_->plan(),
                                      StatePoolOptions{budget, {}, engine_->device(), wanted_pages(), seats_});
  const Plan& plan = engine_->plan();
  for (size_t i = 0; i < plan.states.size(); ++i) context_->bind_state(plan.states[i].name, pool_->state(i));
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    page_symbols_.push_back("pages." + plan.groups[g].name);
    pool_symbols_.push_back("pool_pages." + plan.groups[g].name);
  }
}

void StepRunner::find_inputs() {
  const Plan& plan = engine_->plan();
  auto find = [&](const PlanInput& input) -> BoundInput {
    for (const NamedInput& known : kInputs)
      if (known.name == input.name) return check_input(input, known), BoundInput{input.name, known.pick, 0};
    for (const NamedInput& known : kGroupInputs)
      for (size_t g = 0; g < plan.groups.size(); ++g)
        if (std::string(known.name) + plan.groups[g].name == input.name)
          return check_input(input, known), BoundInput{input.name, known.pick, g};
    fail(ErrorCode::kIncompatible, "the engine needs the input {}, which no language model has", input.name);
  };
  for (const PlanInput& input : plan.inputs) inputs_.push_back(find(input));
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    const PlanOutput& output = plan.outputs[i];
    const Shape& shape = output.type.shape;
    if (output.name == "logits") {
      if (output.type.dtype != DType::kF32 || shape.size() != 2 || shape[0] != Dim("outputs") ||
          !shape[1].is_constant() || shape[1].constant() < 1)
        fail(ErrorCode::kIncompatible, "the output logits is {}, not f32[outputs, vocabulary]", print(output.type));
      vocab_size_ = shape[1].constant();
      logits_ = i;
    } else if (output.name == "chosen") {
      check_output(output, {DType::kI32, {"outputs"}, ""});
      chosen_ = static_cast<int64_t>(i);
    } else if (output.name == "likeliest") {
      check_output(output, {DType::kI32, {"outputs", sample::kMostLikeliest}, ""});
      likeliest_ = i;
    } else if (output.name == "logprobs") {
      check_output(output, {DType::kF32, {"outputs", 1 + sample::kMostLikeliest}, ""});
      logprobs_ = i;
    }
  }
  if (chooses_tokens() && (likeliest_ == 0 || logprobs_ == 0))
    fail(ErrorCode::kIncompatible, "the engine chooses tokens and does not tell how likely they are");
  if (vocab_size_ == 0) fail(ErrorCode::kIncompatible, "the engine has no output logits: it is not a language model");
}

void StepRunner::find_limits(const StepRunnerOptions& options) {
  auto programs = engine_->programs("main");
  const Json* build = engine_->config().find("build_config");
  int64_t built_seq_len = build ? build->get("max_seq_len", 0) : 0;
  limits_.max_seq_len = smaller_wish(built_seq_len > 0 ? built_seq_len : INT32_MAX, options.max_seq_len);
  limits_.max_batch_size = smaller_wish(largest(programs, "sequences", INT32_MAX), options.max_batch_size);
  limits_.max_num_tokens = smaller_wish(largest(programs, "tokens", INT32_MAX), options.max_num_tokens);
  limits_.max_outputs = largest(programs, "outputs", INT32_MAX);
  for (const CacheGroup& group : engine_->plan().groups)
    limits_.max_pages.push_back(largest(programs, "pages." + group.name, 0));
  // Steps may be filled up beyond what the caller wants scheduled, but not beyond what the engine runs.
  padded_limits_ = {largest(programs, "sequences", INT32_MAX), limits_.max_pages};
  for (const ResolvedProgram* program : programs)
    for (const DimRange& range : program->program->dims)
      if (range.symbol == "outputs" && range.min > 0) may_skip_outputs_ = false;
}

// Per group, what max_batch_size sequences of full length need.
std::vector<int64_t> StepRunner::wanted_pages() const {
  std::vector<int64_t> pages;
  for (const CacheGroup& group : engine_->plan().groups) {
    int64_t positions = limits_.max_seq_len;
    if (group.window > 0) positions = std::min(positions, group.window + limits_.max_num_tokens);
    pages.push_back((positions / group.page_size + 2) * limits_.max_batch_size);
  }
  return pages;
}

uint64_t StepRunner::default_kv_cache_memory(const StepRunnerOptions& options) const {
  const Plan& plan = engine_->plan();
  std::vector<int64_t> pages = wanted_pages();
  double wanted = 0;
  uint64_t least = 0;  // one page of every group
  for (size_t g = 0; g < plan.groups.size(); ++g)
    for (const PlanState& state : plan.states) {
      if (state.group != plan.groups[g].name) continue;
      TensorType page = state.type;
      page.shape.erase(page.shape.begin());
      wanted += static_cast<double>(pages[g]) * static_cast<double>(page.bytes());
      least += static_cast<uint64_t>(page.bytes());
    }
  if (options.kv_cache_fraction > 0) {
    double free = engine_->device() ? static_cast<double>(engine_->device()->free_bytes())
                                    : static_cast<double>(available_memory_bytes());
    return std::max(least, static_cast<uint64_t>(free * options.kv_cache_fraction));
  }
  double may_take = engine_->device() ? static_cast<double>(engine_->device()->free_bytes()) * kPartOfGpu
                                      : static_cast<double>(available_memory_bytes()) / 2;
  return std::max(least, static_cast<uint64_t>(std::min(wanted, may_take)));
}

void StepRunner::set(std::string_view symbol, int64_t value) {
  int index = engine_->find_symbol(symbol);
  if (index >= 0) values_[static_cast<size_t>(index)] = value;
}

void StepRunner::bind(StepBatch& batch) {
  if (batch.outputs.empty() && !may_skip_outputs_) batch.output_rows.assign(1, 0);
  if (engine_->device()) pad_decodes(batch, padded_limits_);
  if (chooses_tokens()) batch.sampling.pad(batch.output_rows.size());
  set("tokens", batch.tokens());
  set("sequences", batch.sequences());
  set("outputs", static_cast<int64_t>(batch.output_rows.size()));
  set("listed", static_cast<int64_t>(batch.sampling.listed.size() / 2));
  set("seats", seats_);
  for (size_t g = 0; g < batch.groups.size(); ++g) {
    set(page_symbols_[g], static_cast<int64_t>(batch.groups[g].page_list.size()));
    set(pool_symbols_[g], pool_->capacity(g));
  }
  for (const BoundInput& input : inputs_) context_->bind_input(input.name, input.pick(batch, input.group));
}

std::span<float> StepRunner::run(StepBatch& batch) {
  bind(batch);
  context_->enqueue(values_);
  if (batch.outputs.empty()) return {};
  return {static_cast<float*>(context_->output("logits")), batch.outputs.size() * static_cast<size_t>(vocab_size_)};
}

void StepRunner::start(StepBatch& batch, bool told, std::span<const size_t> logit_rows, Readback& results) {
  bind(batch);
  context_->start(values_);
  uint64_t column_bytes = batch.outputs.size() * sizeof(int32_t), told_bytes = told ? column_bytes : 0;
  parts_ = {{static_cast<size_t>(chosen_), 0, column_bytes},
            {likeliest_, 0, told_bytes * sample::kMostLikeliest},
            {logprobs_, 0, told_bytes * (1 + sample::kMostLikeliest)}};
  uint64_t row_bytes = static_cast<uint64_t>(vocab_size_) * sizeof(float);
  for (size_t row : logit_rows) parts_.push_back({logits_, row * row_bytes, row_bytes});
  context_->read_back(parts_, results);
}

}  // namespace ingot
