// ingot build: a checkpoint into an engine directory.
#include "arguments.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "output.h"
#include "tensor/dtype.h"
#include "verbs.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace ingot::cli {

namespace {

PretrainedModel open_model(const std::string& path, bool random_weights, uint64_t seed) {
  if (!std::filesystem::exists(path)) fail(ErrorCode::kUsage, "{} does not exist", path);
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

// For -v: the settings with every open choice made, and what solves each problem.
void log_decisions(const std::string& engine_dir) {
  if (!log_enabled(LogLevel::kInfo)) return;
  // From the file: the engine may be for another machine.
  log_info("settings: {}", parse_json(read_text_file(engine_dir + "/config.json")).at("build_config").dump());
  const Json engine = parse_json(inspect(engine_dir, {.tactics = true}));
  std::set<std::string> told;
  for (const Json& choice : engine.at("tactics").as_array()) {
    const std::string text = format("{}: {}", choice.at("problem").as_string(), choice.at("tactic").as_string());
    if (told.insert(text).second) log_info("chosen for {}", text);
  }
}

}  // namespace

int run(const BuildCommand& command) {
  if (command.output.empty() && !command.dry_run) fail(ErrorCode::kUsage, "build needs -o ENGINE_DIR (or --dry-run)");
  PretrainedModel model = open_model(command.model, command.random_weights, command.seed);
  BuildReport report;
  {
    ProgressBar bar(command.shared.progress);
    report = command.dry_run ? plan_only(model, command.config, bar.callback())
                             : build_engine_dir(model, command.config, command.output, bar.callback());
  }
  if (!command.dry_run) log_decisions(report.engine_dir);
  if (command.shared.json)
    print_line(to_json(report).dump(2));
  else
    print_report(report);
  return 0;
}

namespace {

// Flags for a model that an engine contradicts: what is measured must not be taken for what was asked for.
void check_asked(const Engine& engine, const EngineSource& source) {
  const std::string& target = source.config.target;
  std::string dtype = source.config.dtype;
  if (!dtype.empty()) dtype = user_dtype_name(parse_user_dtype(dtype));
  if (!dtype.empty() && dtype != engine.dtype())
    fail(ErrorCode::kUsage, "--dtype is {}, but {} is an engine of {}; build one from its model", dtype, source.path,
         engine.dtype());
  if (!target.empty() && target != engine.target() && !engine.target().starts_with(target + ":"))
    fail(ErrorCode::kUsage, "--target is {}, but {} is an engine for {}; build one from its model", target, source.path,
         engine.target());
}

// Names every file of the model and all that shapes its engine: another download is another engine.
std::string cache_key(const EngineSource& source) {
  namespace fs = std::filesystem;
  std::vector<std::string> parts;
  for (const auto& entry : fs::directory_iterator(source.path))
    if (entry.is_regular_file())
      parts.push_back(format("{} {} {}", entry.path().filename().string(), entry.file_size(),
                             entry.last_write_time().time_since_epoch().count()));
  std::sort(parts.begin(), parts.end());
  parts.push_back(fs::canonical(source.path).string());
  parts.push_back(build_identity(source.config));
  return hex64(hash64(join(parts, "\n")));
}

}  // namespace

Engine open_engine(const EngineSource& asked, const std::string& progress) {
  namespace fs = std::filesystem;
  if (fs::exists(fs::path(asked.path) / "rank0.engine")) {
    Engine engine = Engine::from_dir(asked.path);
    check_asked(engine, asked);
    return engine;
  }
  EngineSource source = asked;
  if (source.config.target.empty()) source.config.target = BuildConfig{}.target;
  if (!fs::exists(source.path)) fail(ErrorCode::kUsage, "{} does not exist", source.path);
  PretrainedModel model = PretrainedModel::from_pretrained(source.path);
  std::string directory = cache_directory() + "/engines/" + cache_key(source);
  if (fs::exists(fs::path(directory) / "rank0.engine")) {
    try {
      return Engine::from_dir(directory);
    } catch (const Error& error) {
      log_warning("the cached engine is built again: {}", error.what());
    }
  } else {
    fs::remove_all(directory);  // what is left of a cached engine is no reason to refuse the place
  }
  std::fputs(format("{} is a model: building it into {}\n", source.path, directory).c_str(), stderr);
  BuildConfig config = source.config;
  if (config.timing_cache.empty()) config.timing_cache = cache_directory() + "/timings.txt";
  ProgressBar bar(progress);
  build_engine_dir(model, config, directory, bar.callback());
  return Engine::from_dir(directory);
}

Engine open_text_engine(const EngineSource& source, const std::string& progress) {
  const std::filesystem::path folder = source.path;
  auto check_tokenizer = [&] {
    if (!std::filesystem::is_directory(folder) || std::filesystem::exists(folder / "tokenizer.json")) return;
    fail(ErrorCode::kRuntime, "{} has no tokenizer.json, which text needs; `bench` and `verify` work without",
         source.path);
  };
  // What is wrong with an engine itself comes first.
  if (!std::filesystem::exists(folder / "rank0.engine")) check_tokenizer();
  Engine engine = open_engine(source, progress);
  check_tokenizer();
  return engine;
}

}  // namespace ingot::cli
