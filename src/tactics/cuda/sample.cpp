#include "tactics/cuda/sample.h"

#include "ops/sample.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

// Of a block. The fewer leave room for two blocks on a multiprocessor; the more serve the largest vocabularies.
constexpr int64_t kFewThreads = 512, kManyThreads = 1024;
// Logits of a thread: more find no registers.
constexpr int64_t kWantedPerThread = 16, kMostOfFew = 20, kMostOfMany = 18;
constexpr int64_t kMostBlocks = 16;  // of a row
constexpr int64_t kGreedyBlocks = 8, kGreedyThreads = 1024;
// Of the multiprocessors that a GPU has, clusters of 16 find room on about so many: the parts that hold one differ.
constexpr int64_t kSmsWithClusters = 16, kOfSms = 18;
// Without clusters: teams of blocks at a time, and what they need in scratch memory.
constexpr int64_t kMostTeams = 64;
constexpr int64_t kCounterBytes = kMostTeams * 4, kMailboxBytes = kMostTeams * (2 * kMostBlocks * 4 + 2 * 256) * 8;

// How a row is shared out.
struct Shares {
  int64_t blocks = 1, threads = kFewThreads, per_thread = 1;
  bool clusters = false;
  static constexpr auto fields() {
    return std::tuple{field("blocks", &Shares::blocks), field("threads", &Shares::threads),
                      field("per_thread", &Shares::per_thread), field("clusters", &Shares::clusters)};
  }
  int64_t blocks_on_sm() const { return kManyThreads / threads; }
};

// Of 16 blocks; smaller Blackwell GPUs have only those of 8.
bool has_clusters(const Target& target) {
  const int arch = std::stoi(target.cuda_arch.substr(3));
  return arch >= 90 && arch < 120;
}

Shares shares_of(const Problem& problem, const Target& target) {
  const int64_t vocab = problem.inputs[0].shape[1].constant();
  Shares shares;
  while (shares.blocks < kMostBlocks && shares.blocks * kFewThreads * kWantedPerThread < vocab) shares.blocks *= 2;
  if (vocab > shares.blocks * kFewThreads * kMostOfFew) shares.threads = kManyThreads;
  shares.clusters = shares.blocks > 1 && has_clusters(target);
  shares.per_thread = (vocab + shares.blocks * shares.threads - 1) / (shares.blocks * shares.threads);
  return shares;
}

int64_t greedy_blocks(const Shares& shares) { return shares.clusters ? std::min(shares.blocks, kGreedyBlocks) : 1; }

void add_greedy_step(CompiledTactic& tactic, const DeviceModule& code, const Problem& problem, const Shares& shares) {
  ModuleLaunch launch{.function = "sample_greedy", .dependent = true};
  launch.grid = {format("{} * size(0, 0)", greedy_blocks(shares))};
  launch.block = {kGreedyThreads};
  launch.cluster = greedy_blocks(shares);
  for (int i : {0, 1, 2, 5, 6, 7, 8}) launch.arguments.push_back(buffer(i));
  add_module_step(tactic, code, std::move(launch), every_argument(problem));
}

// All blocks of a row run at once: they wait for each other.
void add_rows_step(CompiledTactic& tactic, const DeviceModule& code, const Problem& problem, const Shares& shares) {
  const bool teams = shares.blocks > 1 && !shares.clusters;
  std::string at_once = format("sms * {} / {}", shares.blocks_on_sm(), shares.blocks);
  if (shares.clusters)
    at_once = format("sms * {} / {}", kSmsWithClusters * shares.blocks_on_sm(), shares.blocks * kOfSms);
  if (teams) {
    at_once = format("min({}, {})", kMostTeams, at_once);
    ModuleLaunch begin{.function = "sample_begin", .dependent = true};
    begin.arguments = {"scratch 0", format("i32 {}", kMostTeams)};
    add_module_step(tactic, code, std::move(begin), every_argument(problem));
    tactic.scratch_bytes = kCounterBytes + kMailboxBytes;
  }
  ModuleLaunch launch;
  launch.function = "sample_rows";
  launch.grid = {format("{} * min(size(0, 0), max(1, {}))", shares.blocks, at_once)};
  launch.block = {shares.threads};
  launch.cluster = shares.clusters ? shares.blocks : 1;
  launch.shared_bytes = shares.threads * shares.per_thread * 4;
  launch.dependent = !teams;
  launch.cooperative = teams;
  for (int i : {0, 1, 2, 3, 5, 6, 7, 8}) launch.arguments.push_back(buffer(i));
  launch.arguments.emplace_back("i32 size(0, 0)");
  launch.arguments.emplace_back(teams ? "scratch 0" : "i64 0");
  launch.arguments.push_back(teams ? format("scratch {}", kCounterBytes) : "i64 0");
  add_module_step(tactic, code, std::move(launch), every_argument(problem));
}

class SampleSource final : public CudaOpSource {
 public:
  SampleSource() : CudaOpSource(Sample::name, "sample.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto shares = parse_fields<Shares>(lexer);
    const DeviceModule code = module(
        target, {define("VOCAB", problem.inputs[0].shape[1].constant()), define("LIKELIEST", sample::kMostLikeliest),
                 define("BLOCKS", shares.blocks), define("THREADS", shares.threads), define("PER", shares.per_thread),
                 define("CLUSTERS", int64_t{shares.clusters}), define("GREEDY_BLOCKS", greedy_blocks(shares))});
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_greedy_step(tactic, code, problem, shares);
    add_rows_step(tactic, code, problem, shares);
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    if (problem.inputs[0].dtype != DType::kF32) return format("found {}: needs f32", print(problem.inputs[0]));
    if (problem.inputs[0].shape[1].constant() > kMostOfMany * kMostBlocks * kManyThreads)
      return format("found {}: needs at most {} logits in a row", print(problem.inputs[0]),
                    kMostOfMany * kMostBlocks * kManyThreads);
    return "";
  }
  std::vector<std::string> configs(const Problem& problem, const Target& target) const override {
    return {print_fields(shares_of(problem, target))};
  }
};

class NextIdsSource final : public CudaOpSource {
 public:
  NextIdsSource() : CudaOpSource(NextIds::name, "next_ids.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view, const Target& target) const override {
    constexpr int64_t kBlock = 256;
    ModuleLaunch launch;
    launch.function = "next_ids";
    launch.grid = {format("ceil(size(0, 0), {})", kBlock)};
    launch.block = {kBlock};
    launch.dependent = true;
    launch.arguments = {buffer(0), buffer(1), buffer(2), "i32 size(0, 0)"};
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, {define("BLOCK", kBlock)}), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem&) const override { return ""; }
  std::vector<std::string> configs(const Problem&, const Target&) const override { return {""}; }
};

}  // namespace

const TacticSource* cuda_sample_source() {
  static const SampleSource source;
  return &source;
}

const TacticSource* cuda_next_ids_source() {
  static const NextIdsSource source;
  return &source;
}

}  // namespace ingot
