// ingot eval perplexity and ingot verify: is what the engine computes right?
#include "base/error.h"
#include "base/mapped_file.h"
#include "output.h"
#include "verbs.h"

namespace ingot::cli {

int run(const PerplexityCommand& command) {
  std::string text = read_text_file(command.text);
  Engine engine = open_text_engine(command.source, command.shared.progress);
  Perplexity p;
  {
    ProgressBar bar(command.shared.progress);
    p = perplexity(engine, text, command.window, command.threads, bar.callback());
  }
  if (command.shared.json) {
    Json json = Json::object();
    json.set("perplexity", p.perplexity);
    json.set("tokens", p.tokens);
    json.set("windows", p.windows);
    json.set("nll", p.nll);
    print_line(json.dump());
  } else {
    print_line(format("perplexity {:.4f} over {} tokens in {} windows", p.perplexity, p.tokens, p.windows));
  }
  return 0;
}

int run(const VerifyCommand& command) {
  Engine engine = open_engine(command.source, command.shared.progress);
  Verification v = verify(engine, command.reference, command.tolerance, command.threads);
  if (command.shared.json) {
    Json json = Json::object();
    json.set("relative_error", v.relative_error);
    json.set("max_abs_error", v.max_abs_error);
    json.set("top1_agreement", v.top1_agreement);
    json.set("greedy_match_tokens", v.greedy_match_tokens);
    json.set("greedy_tokens", v.greedy_tokens);
    json.set("passed", v.passed);
    print_line(json.dump());
  } else {
    print_line(
        format("relative error {:.3g} (allowed {:.3g}), largest difference {:.3g}, likeliest token equal in {:.2f} %",
               v.relative_error, v.tolerance, v.max_abs_error, 100 * v.top1_agreement));
    if (v.greedy_tokens) print_line(format("greedy tokens equal: {} of {}", v.greedy_match_tokens, v.greedy_tokens));
    print_line(v.passed ? "passed" : "FAILED");
  }
  return v.passed ? 0 : static_cast<int>(ErrorCode::kVerification);
}

}  // namespace ingot::cli
