// The public building functions: files, callbacks and timing caches around build().
#include "base/log.h"
#include "build/build.h"
#include "build/callback_progress.h"
#include "build/pretrained_model.h"

namespace ingot {

namespace {

void keep_times(const TimingCache& before, const TimingCache& now, const std::string& file) {
  if (file.empty() || now == before) return;
  Path path(file);
  std::error_code ignored;  // saving says what is wrong
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  now.save(path);
}

// Does `work` with the times of `file`, which gets those that are added.
template <class F>
BuildReport with_times(const std::string& file, F work) {
  TimingCache timings;
  if (!file.empty()) timings = TimingCache::load(file);
  const TimingCache before = timings;
  BuildReport report;
  try {
    report = work(timings);
  } catch (...) {
    // The next attempt goes on from the times measured so far. What went wrong first is what is told.
    try {
      keep_times(before, timings, file);
    } catch (const Error& error) {
      log_warning("{}", error.what());
    }
    throw;
  }
  keep_times(before, timings, file);
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

BuildReport build_engine_dir(const PretrainedModel& model, const BuildConfig& config, const std::string& directory,
                             const ProgressCallback& callback) {
  CallbackProgress progress(callback);
  return with_times(config.timing_cache, [&](TimingCache& timings) {
    return build(model.impl().checkpoint, config, timings, directory, progress);
  });
}

BuildReport plan_only(const PretrainedModel& model, const BuildConfig& config) {
  CallbackProgress progress({});
  return with_times(config.timing_cache, [&](TimingCache& timings) {
    BuildReport report;
    make_plan(model.impl().checkpoint, config, timings, report, progress);
    return report;
  });
}

}  // namespace ingot
