#include "output.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/error.h"

namespace ingot::cli {

namespace {
// A signal handler may touch only what needs no lock.
volatile std::sig_atomic_t interrupted = 0;
std::atomic<int64_t> first_ms = 0;
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

// timeout(1) and others signal a process and then its group: what comes at once is one signal.
constexpr int64_t kAtOnceMs = 500;

void note_end(int signal) {
  if (!interrupted) {
    first_ms = now_ms();
    interrupted = 1;
  } else if (now_ms() - first_ms >= kAtOnceMs) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);  // delivered when this returns
  }
}

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
  sigaction(signal, &action, nullptr);
}
}  // namespace

void check_standard_input() {
  // std::cin shares the error of stdin.
  if (std::ferror(stdin)) fail(ErrorCode::kRuntime, "cannot read standard input: {}", std::strerror(errno));
}

Interruption::Interruption() {
  for (int signal : kEnding) handle(signal, note_end);
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
