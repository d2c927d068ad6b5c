// ingot estimate: what a build and a run would take, from headers alone.
#include "base/error.h"
#include "output.h"
#include "verbs.h"

#include <filesystem>

namespace ingot::cli {

int run(const EstimateCommand& command) {
  if (!std::filesystem::exists(command.model)) fail(ErrorCode::kUsage, "{} does not exist", command.model);
  bool lone = std::filesystem::is_regular_file(command.model);
  PretrainedModel model =
      lone ? PretrainedModel::from_config(command.model) : PretrainedModel::from_pretrained(command.model);
  Estimate e = estimate(model, command.config, command.memory);
  auto bytes = [](int64_t value) { return print_bytes(static_cast<double>(value)); };
  if (command.shared.json) {
    Json json = Json::object();
    json.set("architecture", e.architecture);
    json.set("dtype", e.dtype);
    json.set("target", e.target);
    json.set("parameters", e.parameters);
    json.set("weight_bytes", e.weight_bytes);
    json.set("kv_bytes_per_token", e.kv_bytes_per_token);
    json.set("max_seq_len", e.max_seq_len);
    json.set("max_batch_size", e.max_batch_size);
    json.set("kv_bytes_full", e.kv_bytes_full);
    json.set("working_bytes", e.working_bytes);
    json.set("memory_bytes", e.memory_bytes);
    json.set("tokens_that_fit", e.tokens_that_fit);
    json.set("fits", e.fits);
    json.set("ceilings", e.ceilings);
    json.set("read_bytes_per_second", e.read_bytes_per_second);
    json.set("matmul_flops", e.matmul_flops);
    json.set("decode_tokens_per_second", e.decode_tokens_per_second);
    json.set("prefill_tokens", e.prefill_tokens);
    json.set("prefill_tokens_per_second", e.prefill_tokens_per_second);
    json.set("build_seconds", e.build_seconds);
    json.set("advice", e.advice);
    print_line(json.dump(2));
  } else {
    const auto parameters = static_cast<double>(e.parameters);
    print_line(format("model     {} with {:.1f} {} parameters, {} for {}", e.architecture,
                      parameters < 1e9 ? parameters / 1e6 : parameters / 1e9, parameters < 1e9 ? "M" : "B", e.dtype,
                      e.target));
    print_line(format("weights   {}", bytes(e.weight_bytes)));
    print_line(format("KV cache  {} a token; {} for {} sequences of {}", bytes(e.kv_bytes_per_token),
                      bytes(e.kv_bytes_full), e.max_batch_size, e.max_seq_len));
    print_line(format("working   {}", bytes(e.working_bytes)));
    print_line(format("memory    {}: room for {} tokens of KV cache", bytes(e.memory_bytes), e.tokens_that_fit));
    const std::string from = e.ceilings == "measured" ? "measured at" : "from " + e.ceilings + ":";
    if (e.decode_tokens_per_second > 0)
      print_line(format("decode    at most {:.{}f} tokens/s for one sequence (reads {} {:.1f} GB/s)",
                        e.decode_tokens_per_second, e.decode_tokens_per_second < 1 ? 3 : 1, from,
                        e.read_bytes_per_second / 1e9));
    if (e.prefill_tokens_per_second > 0)
      print_line(format("prefill   at most {:.0f} tokens/s for a prompt of {} (products {} {:.0f} TFLOP/s)",
                        e.prefill_tokens_per_second, e.prefill_tokens, from, e.matmul_flops / 1e12));
    print_line(format("build     about {:.2f} s and tuning", e.build_seconds));
    if (!e.advice.empty()) print_line("does not fit: " + e.advice);
  }
  return e.fits ? 0 : static_cast<int>(ErrorCode::kDoesNotFit);
}

}  // namespace ingot::cli
