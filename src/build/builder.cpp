// The public building functions: files, callbacks and timing caches around build().
#include "base/folder_lock.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "build/build.h"
#include "build/callback_progress.h"
#include "build/pretrained_model.h"
#include "plan/engine_file.h"
#include "tactics/tactic.h"

namespace ingot {

namespace {

// Times will be kept in `file`; that they cannot be is told before they are measured, not after. A cache that exists
// may hold all that is asked for, and does not change then.
void check_place_of_times(const Path& file) {
  Path folder = file.has_parent_path() ? file.parent_path() : Path(".");
  std::error_code unreachable;
  while (folder.has_parent_path() && !std::filesystem::exists(folder, unreachable)) folder = folder.parent_path();
  FolderLock one_at_a_time = FolderLock::take(folder);  // the probe has the name under which others write
  try {
    AtomicFile probe(folder / file.filename());
  } catch (const Error& error) {
    if (!std::filesystem::exists(file, unreachable))
      fail(error.code(), "the timing cache {} cannot be written: {}", file.string(), error.what());
    log_warning("the timing cache {} is read and new times are not kept: {}", file.string(), error.what());
  }
}

void keep_times(const TimingCache& before, const TimingCache& now, const Path& file) {
  if (file.empty() || now == before) return;
  std::error_code ignored;  // saving says what is wrong
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), ignored);
  now.save_added(before, file);
}

// Whether the build is worth something without the times that it measured.
enum class Times { kAreBeside, kAreAll };

// Does `work` with the times of config.timing_cache, which gets those that are added.
template <class F>
BuildReport with_times(const BuildConfig& config, Times times, F work) {
  const Path file = config.timing_cache;
  TimingCache timings;
  if (!file.empty()) timings = TimingCache::load(file);
  if (!file.empty() && config.opt_level > 0 && !config.frozen) check_place_of_times(file);
  const TimingCache before = timings;
  BuildReport report;
  auto keep_or_warn = [&] {
    try {
      keep_times(before, timings, file);
    } catch (const Error& error) {
      log_warning("the measured times are not kept: {}", error.what());
    }
  };
  try {
    report = work(timings);
  } catch (...) {
    // The next attempt goes on from the times measured so far. What went wrong first is what is told.
    keep_or_warn();
    throw;
  }
  if (times == Times::kAreAll)
    keep_times(before, timings, file);
  else
    keep_or_warn();
  return report;
}

}  // namespace

PretrainedModel PretrainedModel::from_pretrained(const std::string& directory) {
  PretrainedModel model;
  model.impl_ = std::make_shared<Impl>(Impl{Checkpoint::open(directory)});
  return model;
}

PretrainedModel PretrainedModel::from_config(const std::string& config_json, uint64_t seed) {
  PretrainedModel model;
  model.impl_ = std::make_shared<Impl>(Impl{Checkpoint::random(config_json, seed)});
  return model;
}

std::string PretrainedModel::architecture() const {
  return std::string(find_model(impl_->checkpoint.config()).architecture);
}

std::string PretrainedModel::config_json() const { return impl_->checkpoint.config().dump(2); }

std::string build_identity(const BuildConfig& config) {
  BuildConfig resolved = config;
  if (resolved.threads == 0) resolved.threads = usable_cpus();
  const Target target = parse_target(config.target, resolved.threads);
  resolved.target = target.text();
  std::string text = format("ingot {}, engine format {}\n{} {}\n{}", kVersion, kEngineFormatVersion, target.device,
                            target.avx512_bf16, to_json(resolved).dump());
  for (const TacticSource* source : tactic_list())
    if (source->name().starts_with("cpu.") == (target.kind == "cpu"))
      text += format("\n{}@{}", source->name(), source->version());
  return text;
}

BuildReport build_engine_dir(const PretrainedModel& model, const BuildConfig& config, const std::string& directory,
                             const ProgressCallback& callback) {
  CallbackProgress progress(callback);
  return with_times(config, Times::kAreBeside, [&](TimingCache& timings) {
    return build(model.impl().checkpoint, config, timings, directory, progress);
  });
}

BuildReport plan_only(const PretrainedModel& model, const BuildConfig& config, const ProgressCallback& callback) {
  CallbackProgress progress(callback);
  return with_times(config, Times::kAreAll, [&](TimingCache& timings) {
    BuildReport report;
    check_companions(model.impl().checkpoint);
    make_plan(model.impl().checkpoint, config, timings, report, progress);
    return report;
  });
}

}  // namespace ingot
