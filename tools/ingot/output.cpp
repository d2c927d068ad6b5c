#include "output.h"

#include <csignal>

#include "base/error.h"

namespace ingot::cli {

namespace {
volatile std::sig_atomic_t interrupted = 0;  // all that a signal handler may touch

// SIGHUP: the terminal was closed.
constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};

void handle(int signal, void (*handler)(int)) {
  // A process under nohup goes on without its terminal.
  if (signal == SIGHUP) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == SIG_IGN) return;
  }
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(signal, &action, nullptr);
}
}  // namespace

Interruption::Interruption() {
  for (int signal : kEnding) handle(signal, [](int) { interrupted = 1; });
}

Interruption::~Interruption() {
  for (int signal : kEnding) handle(signal, SIG_DFL);
}

void Interruption::check() {
  if (interrupted) fail(ErrorCode::kInterrupted, "interrupted");
}

ProgressCallback ProgressBar::callback() {
  return [this](std::string_view phase, double done) {
    Interruption::check();
    constexpr double kUnits = 1000;
    if (phase != phase_) {
      phase_ = phase;
      shown_ = 0;
      progress_->begin(phase, static_cast<uint64_t>(kUnits));
    }
    uint64_t now = static_cast<uint64_t>(done * kUnits);
    if (now > shown_) progress_->advance(now - shown_), shown_ = now;
  };
}

Json to_json(const BuildReport& report) {
  Json json = Json::object(), seconds = Json::object(), overrides = Json::array();
  for (const auto& [phase, value] : report.seconds) seconds.set(phase, value);
  for (const Override& o : report.overrides) {
    Json entry = Json::object();
    entry.set("setting", o.setting);
    entry.set("asked", o.asked);
    entry.set("used", o.used);
    entry.set("reason", o.reason);
    overrides.push(entry);
  }
  json.set("engine_dir", report.engine_dir);
  json.set("seconds", seconds);
  json.set("peak_host_bytes", report.peak_host_bytes);
  json.set("engine_bytes", report.engine_bytes);
  json.set("content_hash", report.content_hash);
  json.set("problems", report.problems);
  json.set("cache_hits", report.cache_hits);
  json.set("measured", report.measured);
  json.set("overrides", overrides);
  Json remarks = Json::array();
  for (const std::string& remark : report.remarks) remarks.push(remark);
  json.set("remarks", remarks);
  return json;
}

}  // namespace ingot::cli
