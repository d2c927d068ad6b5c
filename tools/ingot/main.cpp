// The command line: flags into the structs of verbs.h, errors into exit codes.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>

#include "arguments.h"
#include "base/error.h"
#include "verbs.h"

namespace ingot::cli {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 ok, 1 run-time error, 2 usage, 3 does not fit, 4 incompatible engine or cache, 5 accuracy limit "
    "missed, 6 unsupported model, 7 verification failed, 130 interrupted.\n"
    "Flags may be spelled with underscores (--max_batch_size), numbers with units (8k, 4GiB). "
    "Environment: INGOT_CACHE_DIR, INGOT_LOG (debug, info, warning, error, off), INGOT_THREADS.";

constexpr const char* kTargets =
    "cpu (this machine's best), cpu:portable, cpu:avx2, cpu:avx512 or cpu:amx; cuda (this machine's GPU) or "
    "cuda:sm_80, sm_86, sm_89, sm_90a, sm_100a or sm_120a";
constexpr Range kPositive = {1, INT64_MAX}, kFromZero = {0, INT64_MAX};

// The first long name of "-n,--max-tokens".
std::string long_name(const std::string& names) {
  const size_t begin = names.find("--");
  return names.substr(begin, names.find(',', begin) - begin);
}

// An option whose number may be written 8k, 4GiB or 1M.
template <class T>
CLI::Option* add_number(CLI::App* app, const std::string& name, T& value, const std::string& help, Range range = {}) {
  range.least = std::max<int64_t>(range.least, std::numeric_limits<T>::min());
  range.most = std::min<int64_t>(range.most, std::numeric_limits<T>::max());
  return app
      ->add_option_function<std::string>(
          name,
          [&value, range, flag = long_name(name)](const std::string& text) {
            value = static_cast<T>(parse_size(text, flag, range));
          },
          help)
      ->type_name("N")
      ->take_last();
}

void add_seed(CLI::App* app, uint64_t& seed, const std::string& help) {
  app->add_option_function<std::string>(
         "--seed", [&seed](const std::string& text) { seed = parse_count(text, "--seed"); }, help)
      ->type_name("N")
      ->take_last();
}

CLI::Option* add_real(CLI::App* app, const std::string& name, auto& value, const std::string& help) {
  return app->add_option(name, value, help)->take_last();
}

CLI::Option* add_text(CLI::App* app, const std::string& name, std::string& value, const std::string& help) {
  return app->add_option(name, value, help)->take_last();
}

void add_switch(CLI::App* app, const std::string& name, bool& value, const std::string& help) {
  app->add_option(name, value, help)->type_name("enable|disable")->take_last();
}

void add_numbers(CLI::App* app, const std::string& name, std::vector<int64_t>& values, const std::string& help) {
  app->add_option_function<std::string>(
         name, [&values, name](const std::string& text) { values = parse_sizes(text, name); }, help)
      ->type_name("N,N,…")
      ->take_last();
}

// Text that is one of a few words.
void add_choice(CLI::App* app, const std::string& name, std::string& value, const std::vector<std::string>& words,
                const std::string& help) {
  app->add_option_function<std::string>(
         name,
         [&value, words, flag = long_name(name)](const std::string& text) {
           if (std::find(words.begin(), words.end(), text) == words.end())
             fail(ErrorCode::kUsage, "{} is \"{}\"; it must be one of {}", flag, text, join(words));
           value = text;
         },
         help)
      ->take_last();
}

void add_progress(CLI::App* app, std::string& progress) {
  add_choice(app, "--progress", progress, {"auto", "bar", "plain", "json", "none"},
             "auto, bar, plain, json or none (auto)");
}

void add_shared(CLI::App* app, Shared& shared) {
  app->add_flag("--json", shared.json, "Print the result as JSON");
  add_progress(app, shared.progress);
}

void add_build_flags(CLI::App* app, BuildConfig& c) {
  app->option_defaults()->group("Limits");
  add_number(app, "--max-batch-size", c.max_batch_size, "Sequences in one step (16)");
  add_number(app, "--max-seq-len", c.max_seq_len, "Tokens of prompt and answer together (what the model was made for)");
  add_number(app, "--max-input-len", c.max_input_len, "Tokens of a prompt (max-seq-len)");
  add_number(app, "--max-num-tokens", c.max_num_tokens,
             "Tokens of one step, prefill chunks and decodes together (1024)");
  add_number(app, "--max-beam-width", c.max_beam_width, "Beams; only 1 in this version");
  add_number(app, "--tokens-per-block", c.tokens_per_block, "Positions in a page of the KV cache (32)");
  app->add_flag("--gather-context-logits", c.gather_context_logits, "One step may give the logits of all its tokens");
  add_choice(app, "--kv-cache-type", c.kv_cache_type, {"paged", "continuous", "disabled"},
             "paged; continuous and disabled are reported and changed");
  add_switch(app, "--use-paged-context-fmha", c.use_paged_context_fmha, "Prompts read the paged KV cache (enable)");
  app->add_flag("--strongly-typed", c.strongly_typed, "Every value keeps its type (always so)");
  app->option_defaults()->group("Target");
  add_text(app, "--target", c.target, kTargets);
  add_text(app, "--dtype", c.dtype, "float32, float16 or bfloat16 (the checkpoint's)");
  add_number(app, "--threads", c.threads, "Threads the engine is tuned for (all usable)", kThreads);
  app->option_defaults()->group("Tuning");
  add_number(app, "-O,--opt-level", c.opt_level,
             "-O0 … -O5: do not measure but take the best guess … measure most carefully (3)");
  add_text(app, "--timing-cache", c.timing_cache, "File with measured times, read and extended");
  app->add_flag("--frozen", c.frozen, "Fail when the timing cache lacks a time");
  add_text(app, "--tactic-sources", c.tactic_sources,
           "What may solve problems: -NAME leaves one out, +NAME takes only those added; for example "
           "-cpu.matmul_avx2,-cpu.slice (all)")
      ->type_name("±NAME,…");
  app->add_option("--disable", c.disable, "Leave out these passes; may be repeated")
      ->type_name("PASS,…")
      ->delimiter(',')
      ->allow_extra_args(false);
  app->add_flag("--strict", c.strict, "Fail instead of changing a setting");
  app->option_defaults()->group("Options");
}

void add_sampling_flags(CLI::App* app, SamplingParams& s) {
  app->option_defaults()->group("Sampling");
  add_real(app, "--temperature", s.temperature, "0 takes the likeliest token (0)");
  add_number(app, "--top-k", s.top_k, "Keep the N likeliest tokens (0: all)", kFromZero);
  add_real(app, "--top-p", s.top_p, "Keep the likeliest tokens that hold this share of probability (1)");
  add_real(app, "--min-p", s.min_p, "Keep tokens at least this likely beside the likeliest (0)");
  add_real(app, "--repetition-penalty", s.repetition_penalty, "Divide the scores of tokens that stand already (1)");
  add_real(app, "--presence-penalty", s.presence_penalty, "Subtract from the scores of generated tokens (0)");
  add_real(app, "--frequency-penalty", s.frequency_penalty, "Subtract for each time a token was generated (0)");
  add_seed(app, s.seed, "The same seed gives the same tokens (0)");
  add_number(app, "-n,--max-tokens", s.max_tokens, "New tokens at most (128, or as many as there is room for)",
             kPositive);
  add_number(app, "--min-tokens", s.min_tokens, "New tokens at least (0)", kFromZero);
  add_number(app, "--logprobs", s.logprobs,
             "With --json, report the log-probability of every chosen token (N >= 0; none by default)", kFromZero);
  app->add_option("--stop", s.stop, "Stop before this text; may be repeated")->allow_extra_args(false);
  app->add_option("--stop-id", s.stop_ids, "Stop at this token id; may be repeated")->allow_extra_args(false);
  app->add_flag("--ignore-eos", s.ignore_eos, "Do not stop at the end-of-text token");
  app->option_defaults()->group("Options");
}

// Every verb declares its flags and what to do with them.
class CommandLine {
 public:
  CommandLine() : app_("Compiles language models into engines and runs them.", "ingot") {
    app_.footer(kFooter);
    app_.require_subcommand(1);
    app_.set_version_flag("--version", "ingot 0.1.0");
    app_.add_flag("-v,--verbose", verbose_, "Say what is decided; twice: every refusal and why, too");
    app_.add_option_function<std::string>(
        "--cpu-mask", [](const std::string& level) { mask_cpu(level); },
        "Pretend that the CPU has no more than avx512, avx2 or portable");
    app_.fallthrough();
    for (int* threads :
         {&build_.config.threads, &estimate_.config.threads, &bench_.options.threads, &verify_.threads,
          &run_.session.threads, &perplexity_.threads, &run_.source.config.threads, &bench_.source.config.threads,
          &verify_.source.config.threads, &perplexity_.source.config.threads})
      *threads = default_threads();
    build(), estimate(), run_verb(), bench(), eval(), verify(), inspect(), tokens(), devices();
  }

  int run(const std::vector<std::string>& given) {
    const Arguments arguments = normalized_arguments(given);
    std::vector<std::string> words = arguments.words;
    check_verb(words);
    for (const std::string& file : arguments.config_files) {
      // Behind the verb, before the flags of the command line, which win.
      const std::vector<std::string> flags = flags_of_file(file, known_flags(words));
      words.insert(words.begin() + static_cast<std::ptrdiff_t>(verb_end(words)), flags.begin(), flags.end());
    }
    try {
      app_.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::Success& help) {
      return app_.exit(help);
    } catch (const CLI::ExtrasError&) {
      refuse_extras(words);
    } catch (const CLI::ParseError& error) {
      std::string text = error.what();
      std::replace(text.begin(), text.end(), '\n', ' ');
      fail(ErrorCode::kUsage, "{}; `{} --help` says what there is", text, spelled_verb(words));
    }
    set_verbosity(static_cast<int>(verbose_));
    int code = action_();
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
      fail(ErrorCode::kRuntime, "cannot write to standard output: {}", std::strerror(errno));
    return code;
  }

 private:
  void check_verb(const std::vector<std::string>& words) {
    size_t at = verb_position(words);
    std::vector<std::string> names;
    for (const CLI::App* verb : app_.get_subcommands({})) names.push_back(verb->get_name());
    if (words.empty()) fail(ErrorCode::kUsage, "a verb is needed: {}; `ingot --help` says what each does", join(names));
    if (at < words.size() && std::find(names.begin(), names.end(), words[at]) == names.end())
      fail(ErrorCode::kUsage, "there is no verb \"{}\"; there are {}", words[at], join(names));
  }

  static CLI::App* find_verb(CLI::App* app, const std::string& name) {
    const auto found = app->get_subcommands([&](CLI::App* each) { return each->get_name() == name; });
    return found.empty() ? nullptr : found[0];
  }

  // Behind the words that name the verb: one, or two as in `eval perplexity`.
  size_t verb_end(const std::vector<std::string>& words) {
    size_t end = verb_position(words);
    for (CLI::App* app = &app_; end < words.size(); ++end) {
      app = find_verb(app, words[end]);
      if (!app) break;
    }
    return end;
  }

  CLI::App* verb_of(const std::vector<std::string>& words) {
    CLI::App* app = &app_;
    for (size_t i = verb_position(words); i < verb_end(words); ++i) app = app->get_subcommand(words[i]);
    return app;
  }

  std::string spelled_verb(const std::vector<std::string>& words) {
    std::string text = "ingot";
    for (size_t i = verb_position(words); i < verb_end(words); ++i) text += " " + words[i];
    return text;
  }

  std::vector<KnownFlag> known_flags(const std::vector<std::string>& words) {
    std::vector<KnownFlag> flags;
    for (const CLI::App* app : {static_cast<const CLI::App*>(&app_), static_cast<const CLI::App*>(verb_of(words))})
      for (const CLI::Option* option : app->get_options())
        for (const std::string& name : option->get_lnames())
          if (name != "config") flags.push_back({name, option->get_items_expected_max() > 1});
    return flags;
  }

  [[noreturn]] void refuse_extras(const std::vector<std::string>& words) {
    const std::vector<std::string> extras = app_.remaining(true);
    for (const std::string& extra : extras) {
      if (!extra.starts_with("-")) continue;
      std::vector<std::string> names;
      for (const KnownFlag& flag : known_flags(words)) names.push_back("--" + flag.name);
      const std::string flag = extra.substr(0, extra.find('='));
      fail(ErrorCode::kUsage, "`{}` has no flag \"{}\"; the nearest is \"{}\"", spelled_verb(words), flag,
           nearest(flag, names));
    }
    fail(ErrorCode::kUsage, "`{}` takes no further argument, found \"{}\"; a text with blanks needs quotes",
         spelled_verb(words), extras.empty() ? "" : extras[0]);
  }

  CLI::App* verb(const std::string& name, const std::string& what, std::function<int()> action) {
    CLI::App* app = app_.add_subcommand(name, what);
    app->callback([this, action = std::move(action)] { action_ = action; });
    add_common(app);
    return app;
  }

  void add_common(CLI::App* app) {
    app->footer(kFooter);
    // For the help alone: normalized_arguments takes it out.
    app->add_option("--config", config_, "Read flags from a JSON object; the command line wins")->type_name("FILE");
  }

  void build() {
    CLI::App* app = verb("build", "Compile a checkpoint into an engine", [this] { return cli::run(build_); });
    app->add_option("model", build_.model, "Hugging Face directory, or a config.json with --random-weights")
        ->required();
    add_text(app, "-o,--output-dir,--output", build_.output, "Directory of the engine");
    app->add_flag("--random-weights", build_.random_weights, "Draw the weights at random: for measuring speed");
    add_seed(app, build_.seed, "Seed of the random weights (0)");
    app->add_flag("--dry-run", build_.dry_run, "Decide everything, write no engine; a timing cache is filled");
    add_number(app, "--max-host-mem", build_.config.max_host_bytes,
               "Fail beyond this much anonymous memory, for example 4GiB", kPositive);
    add_shared(app, build_.shared);
    add_build_flags(app, build_.config);
  }

  void estimate() {
    CLI::App* app =
        verb("estimate", "Memory, what fits and how fast, from headers alone", [this] { return cli::run(estimate_); });
    app->add_option("model", estimate_.model, "Hugging Face directory or a lone config.json")->required();
    add_number(app, "--memory,--device-memory", estimate_.memory,
               "Memory to fit into, for example 16GiB; of the card for a GPU (what is available)", kPositive);
    add_shared(app, estimate_.shared);
    add_build_flags(app, estimate_.config);
  }

  void add_source(CLI::App* app, EngineSource& source) {
    app->add_option("engine", source.path, "Engine directory, or a model, which is built into the cache first")
        ->required();
    add_text(app, "--dtype", source.config.dtype, "For a model: float32, float16 or bfloat16");
    source.config.target = "";  // so that open_engine sees what was asked for
    add_text(app, "--target", source.config.target, std::string("For a model: ") + kTargets);
  }

  void run_verb() {
    CLI::App* app = verb("run", "Generate text", [this] { return cli::run(run_); });
    add_source(app, run_.source);
    app->add_option("prompt", run_.prompt, "The prompt; without it, standard input")->each([this](const std::string&) {
      run_.prompt_given = true;
    });
    add_number(app, "--threads", run_.session.threads, "Threads (what the engine was tuned for)", kThreads);
    app->add_option_function<std::string>(
           "--kv-cache-memory",
           [this](const std::string& text) {
             double part = 0;
             auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), part);
             bool is_part = error == std::errc() && end == text.data() + text.size() && text.find('.') != text.npos;
             if (is_part && !(part > 0 && part <= 1))
               fail(ErrorCode::kUsage, "--kv-cache-memory is {}; a part is more than 0 and at most 1", text);
             if (is_part)
               run_.session.kv_cache_fraction = part, run_.session.kv_cache_memory = 0;
             else
               run_.session.kv_cache_memory = parse_size(text, "--kv-cache-memory", kPositive);
           },
           "Memory for the KV cache, for example 2GiB, or a part of what is free, for example 0.8")
        ->type_name("SIZE|PART")
        ->take_last();
    add_shared(app, run_.shared);
    add_sampling_flags(app, run_.sampling);
  }

  void bench() {
    CLI::App* app = verb("bench", "Measure prefill and decode against this machine's ceilings",
                         [this] { return cli::run(bench_); });
    add_source(app, bench_.source);
    add_numbers(app, "--prompt-tokens", bench_.options.prompt_tokens, "Prompt lengths (512)");
    add_numbers(app, "--new-tokens", bench_.options.new_tokens, "Generated tokens (64)");
    add_numbers(app, "--batch-size", bench_.options.batch_sizes, "Sequences (1)");
    add_number(app, "--threads", bench_.options.threads, "Threads (what the engine was tuned for)", kThreads);
    add_number(app, "--repetitions", bench_.options.repetitions, "Turns of workload and ceilings (5)", kPositive);
    add_choice(app, "-o,--output", bench_.output, {"md", "json", "csv"}, "md, json or csv (md)");
    app->add_flag("--json", bench_.json, "The same as -o json");
    add_progress(app, bench_.progress);
  }

  void eval() {
    CLI::App* group = app_.add_subcommand("eval", "Quality of an engine");
    group->require_subcommand(1);
    CLI::App* app = group->add_subcommand("perplexity", "Perplexity on a text");
    add_common(app);
    app->callback([this] { action_ = [this] { return cli::run(perplexity_); }; });
    add_source(app, perplexity_.source);
    add_text(app, "--text", perplexity_.text, "Text file")->required();
    add_number(app, "--window", perplexity_.window, "Tokens of a window (1024)", kPositive);
    add_number(app, "--threads", perplexity_.threads, "Threads (what the engine was tuned for)", kThreads);
    add_shared(app, perplexity_.shared);
  }

  void verify() {
    CLI::App* app = verb("verify", "Compare logits with a reference", [this] { return cli::run(verify_); });
    add_source(app, verify_.source);
    add_text(app, "--reference", verify_.reference, "Safetensors file with input_ids and logits")->required();
    app->add_option_function<double>(
           "--tolerance",
           [this](double tolerance) {
             if (!(tolerance > 0) || !std::isfinite(tolerance))
               fail(ErrorCode::kUsage, "--tolerance is {}, needed a number above 0", tolerance);
             verify_.tolerance = tolerance;
           },
           "Relative error (1e-4 in float32, else 3e-2)")
        ->take_last();
    add_number(app, "--threads", verify_.threads, "Threads (what the engine was tuned for)", kThreads);
    add_shared(app, verify_.shared);
  }

  void inspect() {
    CLI::App* app =
        verb("inspect", "What an engine, checkpoint or timing cache holds", [this] { return cli::run(inspect_); });
    app->add_option("path", inspect_.path, "Engine, checkpoint or timing cache")->required();
    app->add_flag("--layers", inspect_.options.layers, "Every step of the smallest program");
    app->add_flag("--tactics", inspect_.options.tactics, "What solves each problem");
    app->add_flag("--memory", inspect_.options.memory, "Weights, states and arenas");
    app->add_flag("--graph", inspect_.options.graph, "The network of a checkpoint as text");
    add_shared(app, inspect_.shared);
  }

  void tokens() {
    CLI::App* tokenize = verb("tokenize", "Text to token ids", [this] { return run_tokenize(tokenize_); });
    tokenize->add_option("model", tokenize_.model, "Directory with a tokenizer.json")->required();
    tokenize->add_flag("--json", tokenize_.shared.json, "Read and write JSON lines");
    CLI::App* detokenize = verb("detokenize", "Token ids to text", [this] { return run_detokenize(tokenize_); });
    detokenize->add_option("model", tokenize_.model, "Directory with a tokenizer.json")->required();
    detokenize->add_flag("--json", tokenize_.shared.json, "Read and write JSON lines");
  }

  void devices() {
    CLI::App* app =
        verb("devices", "CPUs, instruction sets, GPUs and libraries found", [this] { return run_devices(devices_); });
    app->add_flag("--json", devices_.json, "Print the result as JSON");
  }

  CLI::App app_;
  int64_t verbose_ = 0;
  std::string config_;
  std::function<int()> action_;
  BuildCommand build_;
  EstimateCommand estimate_;
  RunCommand run_;
  BenchCommand bench_;
  PerplexityCommand perplexity_;
  VerifyCommand verify_;
  InspectCommand inspect_;
  TokenizeCommand tokenize_;
  Shared devices_;
};

int guarded(const std::function<int()>& work) {
  try {
    return work();
  } catch (const Error& error) {
    std::fprintf(stderr, "ingot: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "ingot: out of memory\n");
    return static_cast<int>(ErrorCode::kDoesNotFit);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ingot: %s\n", error.what());
    return static_cast<int>(ErrorCode::kRuntime);
  }
}

}  // namespace
}  // namespace ingot::cli

int main(int argc, char** argv) {
  using namespace ingot::cli;
  return guarded([&] { return CommandLine().run({argv + 1, argv + argc}); });
}
