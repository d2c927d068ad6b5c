#include "build/build.h"

#include <sys/statvfs.h>

#include <chrono>

#include "base/log.h"
#include "build/assemble.h"
#include "build/choose.h"
#include "build/memory_watch.h"
#include "build/new_directory.h"
#include "build/program_shapes.h"
#include "kernels/weight_layout.h"
#include "passes/pass.h"
#include "plan/check_plan.h"
#include "plan/engine_file.h"
#include "text/eos_ids.h"
#include "text/tokenizer.h"
#include "tune/tuner.h"
#include "weights/make_weight.h"

namespace ingot {

namespace {

// Adds the seconds since the last call to the report.
class PhaseClock {
 public:
  explicit PhaseClock(BuildReport& report) : report_(report) {}
  void restart() { last_ = std::chrono::steady_clock::now(); }
  void end(const char* phase) {
    auto now = std::chrono::steady_clock::now();
    report_.seconds.emplace_back(phase, std::chrono::duration<double>(now - last_).count());
    log_info("{}: {:.3f} s", phase, report_.seconds.back().second);
    last_ = now;
  }

 private:
  BuildReport& report_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

ModelOptions model_options(const ResolvedConfig& resolved) {
  ModelOptions options;
  options.dtype = resolved.dtype;
  options.max_seq_len = resolved.config.max_seq_len;
  options.page_size = resolved.config.tokens_per_block;
  // On a GPU values between ops travel through memory in the engine's dtype; CPU kernels keep them wide.
  if (resolved.target.kind == "cuda") options.activations = resolved.dtype;
  options.choose_tokens = resolved.target.kind == "cuda";
  return options;
}

ResolvedConfig resolve_for(const Checkpoint& checkpoint, const BuildConfig& config) {
  return resolve(config, find_model(checkpoint.config()).facts(checkpoint.config()), checkpoint.config());
}

void check_can_measure(const ResolvedConfig& resolved) {
  const BuildConfig& c = resolved.config;
  std::string missing = missing_for(resolved.target);
  if (missing.empty() || c.opt_level == 0 || c.frozen) return;
  fail(ErrorCode::kIncompatible,
       "{} cannot be measured here: it {}. Build with -O0, or with --frozen and a timing cache from such a machine",
       resolved.target.text(), missing);
}

// Timings for a GPU are filed under the GPU and the compiler. A build for one that is not here takes the only one of
// its architecture that the cache knows.
Target with_device(Target target, const TimingCache& timings) {
  if (target.kind != "cuda") return target;
  std::string ending = "/cuda" + compiler_version();
  if (!target.device.empty()) {
    target.device += ending;
    return target;
  }
  std::vector<std::string> known;
  for (const std::string& device : timings.devices())
    if (device.find("/" + target.cuda_arch + "/") != std::string::npos && device.ends_with(ending))
      known.push_back(device);
  if (known.size() > 1)
    fail(ErrorCode::kUsage, "the timing cache holds times of several devices for {}: {}; keep one of them",
         target.cuda_arch, join(known));
  if (!known.empty()) target.device = known.front();
  return target;
}

Assembled make_plan(Checkpoint& checkpoint, ResolvedConfig resolved, TimingCache& timings, BuildReport& report,
                    Progress& progress) {
  PhaseClock clock(report);
  check_can_measure(resolved);
  resolved.target = with_device(std::move(resolved.target), timings);
  report.overrides = resolved.overrides;
  Network network = loaded_network(checkpoint, resolved);
  clock.end("load");
  network = run_passes(std::move(network), resolved.config.disable);
  clock.end("passes");
  std::vector<ProgramShape> programs = program_shapes(network, resolved.limits, resolved.target);
  TuneOptions options;
  options.measure = resolved.config.opt_level > 0;
  options.frozen = resolved.config.frozen;
  options.effort = resolved.config.opt_level;
  options.sources = SourceFilter(resolved.config.tactic_sources);
  std::vector<Problem> problems = list_problems(network, programs);
  Timings measured = tune(problems, resolved.target, timings, options, progress);
  report.problems = static_cast<int64_t>(problems.size());
  report.cache_hits = measured.cache_hits;
  report.measured = measured.measured;
  clock.end("tune");
  Choice choice = choose(network, programs, measured);
  report.remarks = choice.remarks;
  Assembled assembled = assemble(network, programs, choice, resolved.target);
  clock.end("assemble");
  return assembled;
}

Json engine_config(const Checkpoint& checkpoint, const ResolvedConfig& resolved, const std::string& content_hash) {
  Json json = Json::object();
  json.set("version", kVersion);
  json.set("content_hash", content_hash);
  json.set("pretrained_config", checkpoint.config());
  json.set("build_config", to_json(resolved.config));
  return json;
}

void check_host_memory(const BuildReport& report, const BuildConfig& config) {
  if (config.max_host_bytes > 0 && report.peak_host_bytes > config.max_host_bytes)
    fail(ErrorCode::kDoesNotFit, "the build took {} of anonymous memory, more than the {} allowed by max_host_bytes",
         print_bytes(static_cast<double>(report.peak_host_bytes)),
         print_bytes(static_cast<double>(config.max_host_bytes)));
}

Path folder_of(const Checkpoint& checkpoint) {
  return std::filesystem::is_directory(checkpoint.path()) ? checkpoint.path() : checkpoint.path().parent_path();
}

void copy_companions(const Checkpoint& checkpoint, const Path& directory) {
  const Path from = folder_of(checkpoint);
  for (const char* name : kEngineCompanions) {
    if (!std::filesystem::is_regular_file(from / name)) continue;
    write_text_file(directory / name, MappedFile(from / name).text());
  }
}

// A disk that fills up fails everybody who writes to it, so what does not fit is not begun. All else is small beside
// the weights.
void check_free_space(const Plan& plan, const Path& directory, const Path& out) {
  struct statvfs disk {};
  if (statvfs(directory.c_str(), &disk) != 0 || disk.f_blocks == 0) return;  // a file system that does not tell
  const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize, needed = weight_section_bytes(plan);
  if (needed > free)
    fail(ErrorCode::kRuntime, "{}: the weights of the engine take {}; its disk has {} free", out.string(),
         print_bytes(static_cast<double>(needed)), print_bytes(static_cast<double>(free)));
}

void write_weights(const Plan& plan, const Checkpoint& checkpoint, EngineWriter& writer, int threads,
                   Progress& progress) {
  uint64_t total = 0;
  for (const PlanWeight& weight : plan.weights) total += weight.bytes;
  progress.begin("write", total);
  ThreadPool pool(threads);
  for (const PlanWeight& weight : plan.weights) {
    Scope scope(format("weight {}", weight.name));
    progress.note(weight.name);
    writer.pad_weights_to(weight.offset);
    make_weight(parse_recipe(weight.recipe), checkpoint, pool, find_weight_layout,
                [&](std::span<const std::byte> bytes) {
                  writer.write_weights(bytes);
                  progress.advance(bytes.size());
                });
  }
}

}  // namespace

void check_companions(const Checkpoint& checkpoint) {
  const Path from = folder_of(checkpoint), generation = from / "generation_config.json";
  read_eos_ids(checkpoint.config());
  if (std::filesystem::exists(generation)) {
    Scope scope(generation.string());
    read_eos_ids(parse_json(read_text_file(generation)));
  }
  if (!std::filesystem::exists(from / "tokenizer.json")) return;
  try {
    Tokenizer::from_dir(from);
  } catch (const Error& error) {
    fail(error.code(), "{}; without tokenizer.json there the model builds, and its engine takes ids only",
         error.what());
  }
}

Network loaded_network(Checkpoint& checkpoint, const ResolvedConfig& resolved) {
  return load_model(checkpoint, model_options(resolved));
}

Network optimized_network(Checkpoint& checkpoint, const ResolvedConfig& resolved) {
  return run_passes(loaded_network(checkpoint, resolved), resolved.config.disable);
}

Plan make_plan(Checkpoint& checkpoint, const BuildConfig& config, TimingCache& timings, BuildReport& report,
               Progress& progress) {
  return make_plan(checkpoint, resolve_for(checkpoint, config), timings, report, progress).plan;
}

BuildReport build(Checkpoint& checkpoint, const BuildConfig& config, TimingCache& timings, const Path& out,
                  Progress& progress) {
  MemoryWatch memory;
  BuildReport report;
  ResolvedConfig resolved = resolve_for(checkpoint, config);
  // First of all: a wrong place is told before hours of measuring.
  std::error_code ignored;
  if (std::filesystem::equivalent(out, checkpoint.path(), ignored))
    fail(ErrorCode::kUsage, "{} is the model's own directory; the engine needs another one", out.string());
  NewDirectory directory(out);
  PhaseClock clock(report);
  check_companions(checkpoint);
  clock.end("check");
  Assembled assembled = make_plan(checkpoint, resolved, timings, report, progress);
  check_free_space(assembled.plan, directory.path(), out);
  clock.restart();
  std::vector<std::byte> modules = compile_modules(assembled, usable_cpus());
  if (!modules.empty()) clock.end("compile");
  const Plan& plan = assembled.plan;
  {
    EngineWriter writer(directory.path() / "rank0.engine");
    write_weights(plan, checkpoint, writer, resolved.config.threads, progress);
    clock.end("weights");
    progress.begin("sync", 0);
    report.content_hash = writer.finish(plan, modules);
  }
  write_text_file(directory.path() / "config.json",
                  engine_config(checkpoint, resolved, report.content_hash).dump(2) + "\n");
  copy_companions(checkpoint, directory.path());
  report.engine_bytes = static_cast<int64_t>(std::filesystem::file_size(directory.path() / "rank0.engine"));
  report.peak_host_bytes = memory.peak_bytes();
  check_host_memory(report, config);
  directory.commit();
  progress.finish();
  clock.end("sync");
  report.engine_dir = out.string();
  return report;
}

}  // namespace ingot
