// Progress for the public interface.
#pragma once

#include <algorithm>
#include <string>

#include "base/progress.h"
#include "ingot/builder.h"

namespace ingot {

// A Progress that calls back with fractions, at most about a thousand times a phase.
class CallbackProgress : public Progress {
 public:
  explicit CallbackProgress(ProgressCallback callback) : callback_(std::move(callback)) {}
  void begin(std::string_view phase, uint64_t total) override {
    phase_ = phase, total_ = total, done_ = 0, told_ = 0;
    tell();
  }
  void advance(uint64_t units) override {
    done_ += units;
    if (total_ && (done_ - told_) * 1000 >= total_) tell();
  }
  void note(std::string_view) override {}
  void finish() override {}

 private:
  void tell() {
    told_ = done_;
    if (callback_)
      callback_(phase_, total_ ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 0);
  }
  ProgressCallback callback_;
  std::string phase_;
  uint64_t total_ = 0, done_ = 0, told_ = 0;
};

}  // namespace ingot
