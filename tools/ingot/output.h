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

// Fails when what was read from standard input so far ended in an error instead of its end.
void check_standard_input();

// SIGINT, SIGTERM and, unless it is ignored, SIGHUP while this lives: the first asks the work to end, one that comes
// half a second later or more ends the process.
class Interruption {
 public:
  Interruption();
  ~Interruption();
  // Throws an Error with kInterrupted once a signal has come, so that what was begun is cleaned up.
  static void check();
};

// A library callback that drives a progress display and ends the work when it is interrupted.
class ProgressBar {
 public:
  explicit ProgressBar(const std::string& kind) : progress_(make_progress(kind)) {}
  ~ProgressBar() { progress_->finish(); }
  ProgressCallback callback();

 private:
  Interruption interruption_;
  std::unique_ptr<Progress> progress_;
  std::string phase_;
  uint64_t shown_ = 0;
};

Json to_json(const BuildReport& report);

}  // namespace ingot::cli
