// The verbs of the command line: what each was asked for, and the function that does it. main.cpp fills these structs;
// each verb has a file of its own. Every function returns the process exit code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ingot/builder.h"
#include "ingot/generate.h"
#include "ingot/inspect.h"

namespace ingot::cli {

struct Shared {
  bool json = false;
  std::string progress = "auto";
};

struct BuildCommand {
  std::string model, output;
  BuildConfig config;
  bool random_weights = false, dry_run = false;
  uint64_t seed = 0;
  Shared shared;
};
int run(const BuildCommand& command);

struct EstimateCommand {
  std::string model;
  BuildConfig config;
  int64_t memory = 0;
  Shared shared;
};
int run(const EstimateCommand& command);

// An engine directory, or a model that is built into the cache first.
struct EngineSource {
  std::string path;
  BuildConfig config;  // for a model
};
Engine open_engine(const EngineSource& source, const std::string& progress);
// The same for a verb that works on text: without a tokenizer, a model is not built.
Engine open_text_engine(const EngineSource& source, const std::string& progress);

struct RunCommand {
  EngineSource source;
  std::string prompt;
  bool prompt_given = false;
  SamplingParams sampling;
  SessionConfig session;
  Shared shared;
};
int run(const RunCommand& command);

struct BenchCommand {
  EngineSource source;
  BenchOptions options;
  std::string output = "md";  // md, json or csv
  bool json = false;          // the same as output "json"
  std::string progress = "auto";
};
int run(const BenchCommand& command);

struct PerplexityCommand {
  EngineSource source;
  std::string text;
  int64_t window = 1024;
  int threads = 0;
  Shared shared;
};
int run(const PerplexityCommand& command);

struct VerifyCommand {
  EngineSource source;
  std::string reference;
  double tolerance = 0;
  int threads = 0;
  Shared shared;
};
int run(const VerifyCommand& command);

struct InspectCommand {
  std::string path;
  InspectOptions options;
  Shared shared;
};
int run(const InspectCommand& command);

struct TokenizeCommand {
  std::string model;
  Shared shared;
};
int run_tokenize(const TokenizeCommand& command);
int run_detokenize(const TokenizeCommand& command);

int run_devices(const Shared& shared);

}  // namespace ingot::cli
