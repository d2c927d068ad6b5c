#include "base/progress.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"

namespace ingot {

namespace {

using Clock = std::chrono::steady_clock;

class Silent : public Progress {
 public:
  void begin(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void note(std::string_view) override {}
  void finish() override {}
};

// Keeps the counts and asks the form to show them at most ten times a second.
class Shown : public Progress {
 public:
  void begin(std::string_view phase, uint64_t total) override {
    finish();
    phase_ = phase, total_ = total, done_ = 0, note_.clear();
    started_ = Clock::now();
    active_ = true;
    show_now();
  }
  void advance(uint64_t units) override {
    done_ += units;
    if (Clock::now() - shown_ > interval_) show_now();
  }
  void note(std::string_view text) override { note_ = text; }
  void finish() override {
    if (!active_) return;
    active_ = false;
    close();
  }

 protected:
  virtual void show() = 0;
  virtual void close() = 0;
  double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }
  double fraction() const {
    return total_ ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 0;
  }

  std::string phase_, note_;
  uint64_t total_ = 0, done_ = 0;
  Clock::duration interval_ = std::chrono::milliseconds(100);

 private:
  void show_now() {
    shown_ = Clock::now();
    show();
  }
  bool active_ = false;
  Clock::time_point started_, shown_;
};

class Bar : public Shown {
  void show() override {
    constexpr int kWidth = 28;
    int filled = static_cast<int>(fraction() * kWidth);
    std::string bar(static_cast<size_t>(filled), '=');
    bar.resize(kWidth, ' ');
    std::string rest;
    if (total_ && done_ && done_ < total_)
      rest = format("  {:.0f} s left", seconds() * (1 - fraction()) / std::max(fraction(), 1e-9));
    std::fputs(
        format("\r\033[K{:<10} [{}] {:3.0f}%{}  {}", phase_, bar, fraction() * 100, rest, note_.substr(0, 40)).c_str(),
        stderr);
    std::fflush(stderr);
  }
  void close() override { std::fputs(format("\r\033[K{:<10} {:.2f} s\n", phase_, seconds()).c_str(), stderr); }
};

class Plain : public Shown {
 public:
  Plain() { interval_ = std::chrono::seconds(5); }

 private:
  void show() override { std::fputs(format("{}: {:.0f}% {}\n", phase_, fraction() * 100, note_).c_str(), stderr); }
  void close() override { std::fputs(format("{}: done in {:.2f} s\n", phase_, seconds()).c_str(), stderr); }
};

class JsonLines : public Shown {
  void line(bool finished) {
    Json json = Json::object();
    json.set("phase", phase_);
    json.set("done", done_);
    json.set("total", total_);
    json.set("seconds", seconds());
    json.set("finished", finished);
    std::fputs((json.dump() + "\n").c_str(), stderr);
  }
  void show() override { line(false); }
  void close() override { line(true); }
};

}  // namespace

std::unique_ptr<Progress> make_progress(std::string_view kind) {
  if (kind == "auto") kind = isatty(STDERR_FILENO) ? "bar" : "none";
  if (kind == "bar") return std::make_unique<Bar>();
  if (kind == "plain") return std::make_unique<Plain>();
  if (kind == "json") return std::make_unique<JsonLines>();
  if (kind == "none") return std::make_unique<Silent>();
  fail(ErrorCode::kUsage, "progress is auto, bar, plain, json or none, not \"{}\"", kind);
}

}  // namespace ingot
