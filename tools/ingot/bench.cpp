// ingot bench: speed as a share of what the machine can do.
#include "base/error.h"
#include "output.h"
#include "verbs.h"

namespace ingot::cli {

namespace {

Json to_json(const BenchRow& r) {
  Json json = Json::object();
  json.set("phase", r.phase);
  json.set("batch_size", r.batch_size);
  json.set("prompt_tokens", r.prompt_tokens);
  json.set("new_tokens", r.new_tokens);
  json.set("context", r.context);
  json.set("dtype", r.dtype);
  json.set("target", r.target);
  json.set("threads", r.threads);
  json.set("ms_mean", r.ms_mean);
  json.set("ms_stddev", r.ms_stddev);
  json.set("tokens_per_second", r.tokens_per_second);
  json.set("bytes_per_step", r.bytes_per_step);
  json.set("flops", r.flops);
  json.set("ceiling_name", r.ceiling_name);
  json.set("ceiling_bytes_per_second", r.ceiling_bytes_per_second);
  json.set("ceiling_flops", r.ceiling_flops);
  json.set("ceiling_share", r.ceiling_share);
  return json;
}

std::string csv_value(const Json& value) {
  if (!value.is_string()) return value.dump();
  const std::string& text = value.as_string();
  return text.find(',') == std::string::npos ? text : '"' + text + '"';
}

void print_markdown(const std::vector<BenchRow>& rows) {
  print_line("| phase | batch | prompt | new | ms | ± | tokens/s | ceiling | share |");
  print_line("|---|---|---|---|---|---|---|---|---|");
  for (const BenchRow& r : rows) {
    std::string ceiling = r.ceiling_bytes_per_second > 0
                              ? format("{:.1f} GB/s {}", r.ceiling_bytes_per_second / 1e9, r.ceiling_name)
                              : format("{:.0f} GFLOP/s {}", r.ceiling_flops / 1e9, r.ceiling_name);
    print_line(format("| {} | {} | {} | {} | {:.2f} | {:.2f} | {:.1f} | {} | {:.1f} % |", r.phase, r.batch_size,
                      r.prompt_tokens, r.new_tokens, r.ms_mean, r.ms_stddev, r.tokens_per_second, ceiling,
                      100 * r.ceiling_share));
  }
}

}  // namespace

int run(const BenchCommand& command) {
  Engine engine = open_engine(command.source, command.progress);
  std::vector<BenchRow> rows;
  {
    ProgressBar bar(command.progress);
    rows = bench(engine, command.options, bar.callback());
  }
  if (command.output == "md" && !command.json) return print_markdown(rows), 0;
  if (command.output == "json" || command.json) {
    Json array = Json::array();
    for (const BenchRow& row : rows) array.push(to_json(row));
    return print_line(array.dump(2)), 0;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<std::string> names, values;
    const Json row = to_json(rows[i]);
    for (const auto& [name, value] : row.as_object()) names.push_back(name), values.push_back(csv_value(value));
    if (i == 0) print_line(join(names, ","));
    print_line(join(values, ","));
  }
  return 0;
}

}  // namespace ingot::cli
