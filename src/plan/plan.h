// What the builder made, as plain data: no pointers, no behaviour, no weight bytes. The runtime knows nothing else of a
// model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fields.h"
#include "tensor/cache_group.h"
#include "tensor/dim_range.h"
#include "tensor/type.h"

namespace ingot {

// Where a step's buffer lives.
//   arena:  `offset` bytes into the program's arena       weight, state, input, output: `index` into the plan's list
enum class BufferKind { kArena, kWeight, kState, kInput, kOutput };
std::span<const std::string_view> enum_names(BufferKind);

struct BufferRef {
  BufferKind kind = BufferKind::kArena;
  int64_t index = 0;
  uint64_t offset = 0;
  TensorType type;  // dims may be symbolic; a weight's layout included
  bool operator==(const BufferRef&) const = default;
};

// One launch.
struct Step {
  std::string kernel;      // "cpu.matmul_avx512"
  std::string parameters;  // text that the kernel parses when the engine is loaded
  std::vector<BufferRef> buffers;
  uint64_t scratch_offset = 0, scratch_bytes = 0;  // in the arena
  std::string label;                               // "layers.0.self_attn.q_proj"
  std::string problem, tactic;  // for inspect: what was solved and how ("cpu.matmul_avx512 layout=panel_16 …")
  std::vector<std::vector<std::string>> origins;  // per output buffer, the names of the values that it equals
  bool operator==(const Step&) const = default;
};

// Code for one range of sizes: an optimization profile.
struct Program {
  std::string entry = "main";
  std::string target;          // "cpu:avx512"
  std::vector<DimRange> dims;  // every symbol that the steps use; a run fits when all are within [min, max]
  std::vector<Step> steps;
  uint64_t arena_bytes = 0;
  bool operator==(const Program&) const = default;
};

// A stored weight: `recipe` says how its bytes come from checkpoint tensors.
struct PlanWeight {
  std::string name;
  TensorType type;      // constant; with the layout it is stored in
  std::string recipe;   // "pack(cast(concat(a, b, c), bf16), panel_16)"
  uint64_t offset = 0;  // in the weight section, a multiple of 64
  uint64_t bytes = 0;
  bool operator==(const PlanWeight&) const = default;
};

// What survives between runs; one buffer per state, its first dimension the pages of the pool, or one row for each
// sequence that runs.
struct PlanState {
  std::string name;
  TensorType type;    // [pool_pages.GROUP, …] or [seats, …]
  std::string group;  // empty for the latter
  bool operator==(const PlanState&) const = default;
};

// Device code that steps name: a cubin, in the engine's section of modules.
struct PlanModule {
  std::string name;     // stands for its source: 16 hexadecimal digits
  std::string target;   // "sm_90a"
  uint64_t offset = 0;  // in the module section, a multiple of 64
  uint64_t bytes = 0;
  bool operator==(const PlanModule&) const = default;
};

struct PlanInput {
  std::string name;
  TensorType type;
  bool operator==(const PlanInput&) const = default;
};
using PlanOutput = PlanInput;

struct Plan {
  std::vector<PlanInput> inputs;
  std::vector<PlanOutput> outputs;
  std::vector<CacheGroup> groups;
  std::vector<PlanState> states;
  std::vector<PlanWeight> weights;
  std::vector<PlanModule> modules;
  std::vector<Program> programs;
  bool avx512_bf16 = false;  // the CPU programs need VDPBF16PS
  bool operator==(const Plan&) const = default;
};

}  // namespace ingot
