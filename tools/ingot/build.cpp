// ingot build: a checkpoint into an engine directory.
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "arguments.h"
#include "output.h"
#include "verbs.h"

#include <filesystem>

namespace ingot::cli {

namespace {

PretrainedModel open_model(const std::string& path, bool random_weights, uint64_t seed) {
  return random_weights ? PretrainedModel::from_config(path, seed) : PretrainedModel::from_pretrained(path);
}

void print_report(const BuildReport& report) {
  for (const Override& o : report.overrides)
    print_line(format("changed  {}: asked {}, used {}: {}", o.setting, o.asked, o.used, o.reason));
  for (const std::string& remark : report.remarks) print_line("note     " + remark);
  double total = 0;
  std::string phases;
  for (const auto& [phase, seconds] : report.seconds) {
    total += seconds;
    phases += format("{}{} {:.2f}", phases.empty() ? "" : ", ", phase, seconds);
  }
  print_line(format("problems {} ({} known from the timing cache, {} measured)", report.problems, report.cache_hits,
                    report.measured));
  print_line(format("time     {:.2f} s ({})", total, phases));
  if (report.engine_dir.empty()) return;
  print_line(format("memory   {} at most", print_bytes(static_cast<double>(report.peak_host_bytes))));
  print_line(format("engine   {} ({}, {})", report.engine_dir, print_bytes(static_cast<double>(report.engine_bytes)),
                    report.content_hash));
}

}  // namespace

int run(const BuildCommand& command) {
  if (command.output.empty() && !command.dry_run) fail(ErrorCode::kUsage, "build needs -o ENGINE_DIR (or --dry-run)");
  PretrainedModel model = open_model(command.model, command.random_weights, command.seed);
  BuildReport report;
  if (command.dry_run) {
    report = plan_only(model, command.config);
  } else {
    ProgressBar bar(command.shared.progress);
    report = build_engine_dir(model, command.config, command.output, bar.callback());
  }
  if (command.max_host_mem > 0 && report.peak_host_bytes > command.max_host_mem)
    fail(ErrorCode::kDoesNotFit, "the build took {} of anonymous memory, more than --max-host-mem {}",
         print_bytes(static_cast<double>(report.peak_host_bytes)), print_bytes(static_cast<double>(command.max_host_mem)));
  if (command.shared.json)
    print_line(to_json(report).dump(2));
  else
    print_report(report);
  return 0;
}

Engine open_engine(const EngineSource& source) {
  namespace fs = std::filesystem;
  if (fs::exists(fs::path(source.path) / "rank0.engine")) return Engine::from_dir(source.path);
  if (!fs::exists(source.path)) fail(ErrorCode::kUsage, "{} does not exist", source.path);
  PretrainedModel model = PretrainedModel::from_pretrained(source.path);
  std::string absolute = fs::weakly_canonical(source.path).string();
  std::string key = format("{}|{}|{}|{}", absolute, source.config.dtype, source.config.target,
                           fs::last_write_time(fs::path(source.path) / "config.json").time_since_epoch().count());
  std::string directory = cache_directory() + "/engines/" + hex64(hash64(key));
  if (!fs::exists(fs::path(directory) / "rank0.engine")) {
    std::fputs(format("{} is a model: building it into {}\n", source.path, directory).c_str(), stderr);
    BuildConfig config = source.config;
    if (config.timing_cache.empty()) config.timing_cache = cache_directory() + "/timings.txt";
    ProgressBar bar(source.progress);
    build_engine_dir(model, config, directory, bar.callback());
  }
  return Engine::from_dir(directory);
}

}  // namespace ingot::cli
