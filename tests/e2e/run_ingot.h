// Runs the ingot program as a user would: arguments, standard input, exit code, what it printed.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "e2e/temporary_directory.h"

namespace ingot {

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

struct ProgramRun {
  int code = -1;  // 128 + signal when one ended it
  std::string out, err;
};

struct ProgramInput {
  std::string text;                      // on standard input
  std::string input;                     // what standard input is instead, for example a directory
  std::vector<std::string> environment;  // NAME=value, beside the caller's
  std::string output;                    // where standard output goes instead, for example /dev/full
  uint64_t largest_file = 0;             // bytes; what would exceed it is an error instead of a signal; 0: no limit
};

// A started program whose output goes to files.
class StartedProgram {
 public:
  explicit StartedProgram(const std::vector<std::string>& arguments, const ProgramInput& input = {}) {
    write_text_file(directory_ / "in", input.text);
    for (const char* output : {"out", "err"}) write_text_file(directory_ / output, "");
    std::vector<std::string> words = {INGOT_BINARY};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::string files[3] = {input.input.empty() ? directory_ / "in" : input.input,
                            input.output.empty() ? directory_ / "out" : input.output, directory_ / "err"};
    std::string cache = "INGOT_CACHE_DIR=" + (directory_ / "cache");
    std::vector<std::string> variables = input.environment;
    variables.insert(variables.begin(), cache);
    child_ = fork();
    if (child_ == 0) start(files, variables, argv, input.largest_file);
  }
  ~StartedProgram() {
    if (child_ > 0 && !ended_) kill(child_, SIGKILL), wait();
  }

  void signal(int number) const { kill(child_, number); }
  std::string err_so_far() const { return read_text_file(directory_ / "err"); }

  ProgramRun wait() {
    int status = 0;
    waitpid(child_, &status, 0);
    ended_ = true;
    ProgramRun run;
    run.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    run.out = read_text_file(directory_ / "out");
    run.err = read_text_file(directory_ / "err");
    return run;
  }

 private:
  [[noreturn]] static void start(const std::string (&files)[3], std::vector<std::string>& variables,
                                 std::vector<char*>& argv, uint64_t largest_file) {
    for (int i = 0; i < 3; ++i) dup2(open(files[i].c_str(), i == 0 ? O_RDONLY : O_WRONLY), i);
    for (std::string& variable : variables) putenv(variable.data());
    if (largest_file > 0) {
      ::signal(SIGXFSZ, SIG_IGN);
      rlimit limit{largest_file, largest_file};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    execv(INGOT_BINARY, argv.data());
    _exit(127);
  }

  TemporaryDirectory directory_;
  pid_t child_ = -1;
  bool ended_ = false;
};

inline ProgramRun run_ingot(const std::vector<std::string>& arguments, const ProgramInput& input = {}) {
  return StartedProgram(arguments, input).wait();
}

}  // namespace ingot
