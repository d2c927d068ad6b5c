// What the verbs share in showing results.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/progress.h"
#include "ingot/builder.h"

namespace ingot::cli {

inline void print_line(const std::string& text) { std::fputs((text + "\n").c_str(), stdout); }

// A library callback that drives a progress display.
class ProgressBar {
 public:
  explicit ProgressBar(const std::string& kind) : progress_(make_progress(kind)) {}
  ~ProgressBar() { progress_->finish(); }
  ProgressCallback callback();

 private:
  std::unique_ptr<Progress> progress_;
  std::string phase_;
  uint64_t shown_ = 0;
};

Json to_json(const BuildReport& report);

}  // namespace ingot::cli
