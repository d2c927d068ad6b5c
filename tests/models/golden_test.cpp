// Every architecture against the float32 logits that transformers computed for a toy checkpoint.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "ir/evaluate.h"
#include "model_files.h"
#include "models/model.h"

namespace ingot {
namespace {

struct Golden {
  std::string name;
  int64_t max_seq_len = 64;
  const char* logits = "logits";  // of as many of the first ids as it has rows
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.name; }

HostTensor read_tensor(const SafetensorsFile& file, std::string_view name) {
  for (const StoredTensor& tensor : file.tensors())
    if (tensor.name == name) return HostTensor(TensorView{tensor.type, file.file().bytes().data() + tensor.offset});
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

HostTensor index_vector(const std::vector<int64_t>& values) {
  return {{DType::kI32, {static_cast<int64_t>(values.size())}, ""}, {values.begin(), values.end()}};
}

// The inputs of a step with one sequence whose tokens `begin` … `end` are new, in pages that are not in order.
NamedTensors step_inputs(const Network& network, const HostTensor& ids, int64_t begin, int64_t end) {
  std::vector<int64_t> new_ids, positions, rows;
  for (int64_t i = begin; i < end; ++i) {
    new_ids.push_back(static_cast<int64_t>(ids.values[static_cast<size_t>(i)]));
    positions.push_back(i);
    rows.push_back(i - begin);
  }
  NamedTensors inputs;
  inputs["ids"] = index_vector(new_ids);
  inputs["positions"] = index_vector(positions);
  inputs["query_starts"] = index_vector({0, end - begin});
  inputs["context_lengths"] = index_vector({end});
  inputs["output_rows"] = index_vector(rows);
  for (const CacheGroup& group : network.groups) {
    int64_t pages = (end + group.page_size - 1) / group.page_size;
    std::vector<int64_t> list, slots;
    for (int64_t page = 0; page < pages; ++page) list.push_back((page * 5 + 3) % 16);
    for (int64_t i : positions)
      slots.push_back(list[static_cast<size_t>(i / group.page_size)] * group.page_size + i % group.page_size);
    inputs["slots." + group.name] = index_vector(slots);
    inputs["page_starts." + group.name] = index_vector({0, pages});
    inputs["page_list." + group.name] = index_vector(list);
    inputs["context_starts." + group.name] = index_vector({0});
  }
  return inputs;
}

DimValues pool_sizes(const Network& network) {
  DimValues dims;
  for (const CacheGroup& group : network.groups) dims["pool_pages." + group.name] = 16;
  return dims;
}

LeafTensors leaves_of(const Checkpoint& checkpoint) {
  return [&](std::string_view name) { return HostTensor(checkpoint.view(name)); };
}

// The largest difference relative to the largest magnitude, and how many rows have the same largest element.
struct Agreement {
  double error = 0;
  int64_t same_choice = 0;
};

Agreement compare(const HostTensor& got, const HostTensor& want) {
  EXPECT_EQ(got.type.shape, want.type.shape);
  Agreement agreement;
  double largest = 0;
  for (size_t i = 0; i < want.values.size(); ++i) {
    largest = std::max(largest, std::abs(want.values[i]));
    agreement.error = std::max(agreement.error, std::abs(got.values[i] - want.values[i]));
  }
  agreement.error /= largest;
  int64_t vocab = want.size(1);
  for (int64_t row = 0; row < want.size(0); ++row) {
    auto best = [&](const HostTensor& t) {
      auto begin = t.values.begin() + row * vocab;
      return std::max_element(begin, begin + vocab) - begin;
    };
    agreement.same_choice += best(got) == best(want);
  }
  return agreement;
}

class GoldenLogits : public testing::TestWithParam<Golden> {};

TEST_P(GoldenLogits, AreThoseOfTransformers) {
  const Golden& golden = GetParam();
  Checkpoint checkpoint = Checkpoint::open(golden_folder(golden.name));
  SafetensorsFile file(golden_folder(golden.name) / "golden.safetensors");
  HostTensor want = read_tensor(file, golden.logits), ids = read_tensor(file, "input_ids");
  Network network =
      load_model(checkpoint,
                 {.dtype = DType::kF32, .activations = DType::kF32, .max_seq_len = golden.max_seq_len, .page_size = 4});
  NamedTensors inputs = step_inputs(network, ids, 0, want.size(0));
  Evaluation result = evaluate(network, inputs, leaves_of(checkpoint), {.dims = pool_sizes(network)});
  Agreement agreement = compare(result.outputs.at("logits"), want);
  EXPECT_LE(agreement.error, 1e-5);
  EXPECT_EQ(agreement.same_choice, want.size(0));
  RecordProperty("relative_error", format("{}", agreement.error));
}

INSTANTIATE_TEST_SUITE_P(
    Models, GoldenLogits,
    testing::Values(Golden{"gemma2"}, Golden{"gemma2-tied"}, Golden{"gemma3"}, Golden{"gemma3-nested"},
                    Golden{"gpt-neox"}, Golden{"gpt-neox-serial"}, Golden{"gpt2"}, Golden{"gpt2-bare"}, Golden{"llama"},
                    Golden{"llama-linear"}, Golden{"llama-tied-bias"}, Golden{"llama-yarn"}, Golden{"llama3-rope"},
                    Golden{"mistral-sliding"}, Golden{"mixtral"}, Golden{"mixtral-fused"}, Golden{"phi3"},
                    Golden{"phi3-longrope"}, Golden{"phi3-longrope", 16, "short_logits"}, Golden{"qwen2"},
                    Golden{"qwen2-sliding"}, Golden{"qwen3"}, Golden{"qwen3-moe"}, Golden{"qwen3-moe-mixed"}),
    [](const auto& info) {
      std::string name = info.param.name + (info.param.logits == std::string("logits") ? "" : "-short");
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

// Trained weights, whose activations are not noise.
class TrainedModel : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Shared, TrainedModel, testing::Values("baker-1m", "baker-7m"),
                         [](const auto& info) { return info.param.substr(0, 5) + "_" + info.param.substr(6); });

TEST_P(TrainedModel, HasTheLogitsOfTransformers) {
  Path folder = Path(INGOT_SOURCE_DIR) / "../shared/models" / GetParam();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  Checkpoint checkpoint = Checkpoint::open(folder);
  SafetensorsFile file(folder / "golden.safetensors");
  HostTensor ids = read_tensor(file, "input_ids"), want = read_tensor(file, "logits");
  const int64_t rows = 32;
  want.values.resize(static_cast<size_t>(rows * want.size(1)));
  want.type.shape[0] = rows;
  Network network =
      load_model(checkpoint, {.dtype = DType::kF32, .activations = DType::kF32, .max_seq_len = 64, .page_size = 4});
  Evaluation result =
      evaluate(network, step_inputs(network, ids, 0, rows), leaves_of(checkpoint), {.dims = pool_sizes(network)});
  Agreement agreement = compare(result.outputs.at("logits"), want);
  EXPECT_LE(agreement.error, 1e-5);
  EXPECT_EQ(agreement.same_choice, rows);
}

// The states of one step carry the past into the next.
TEST(GoldenSteps, ContinueFromTheirStates) {
  Checkpoint checkpoint = Checkpoint::open(golden_folder("gemma3-nested"));
  SafetensorsFile file(golden_folder("gemma3-nested") / "golden.safetensors");
  HostTensor want = read_tensor(file, "logits"), ids = read_tensor(file, "input_ids");
  Network network =
      load_model(checkpoint, {.dtype = DType::kF32, .activations = DType::kF32, .max_seq_len = 64, .page_size = 4});
  HostTensor got(TensorType{DType::kF32, {0, want.size(1)}, ""});
  NamedTensors states;
  for (auto [begin, end] : {std::pair{0, 17}, {17, 30}, {30, 31}, {31, 40}}) {
    NamedTensors inputs = step_inputs(network, ids, begin, end);
    inputs.insert(states.begin(), states.end());
    states = evaluate(network, inputs, leaves_of(checkpoint), {.dims = pool_sizes(network)}).outputs;
    const HostTensor logits = states.at("logits");
    states.erase("logits");
    got.values.insert(got.values.end(), logits.values.begin(), logits.values.end());
    got.type.shape[0] = got.size(0) + logits.size(0);
  }
  Agreement agreement = compare(got, want);
  EXPECT_LE(agreement.error, 1e-5);
  EXPECT_EQ(agreement.same_choice, want.size(0));
}

}  // namespace
}  // namespace ingot
