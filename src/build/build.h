// The builder: one function from a checkpoint to an engine file.
#pragma once

#include <string>

#include "base/mapped_file.h"
#include "base/progress.h"
#include "build/build_config.h"
#include "checkpoint/checkpoint.h"
#include "plan/plan.h"
#include "tune/timing_cache.h"

namespace ingot {

inline constexpr const char* kVersion = "0.1.0";

// Throws an Error that names the file when a tokenizer or generation file that an engine of this checkpoint would take
// over cannot be read: its users would find that first.
void check_companions(const Checkpoint& checkpoint);

// Loads, rewrites, tunes, chooses and assembles; nothing is written. New times go into `timings`.
Plan make_plan(Checkpoint& checkpoint, const BuildConfig& config, TimingCache& timings, BuildReport& report,
               Progress& progress);

// The same, and the engine directory at `out`: config.json, rank0.engine and the model's tokenizer and generation
// files. `out` appears, or changes, only when everything is complete; on an Error nothing new stays behind.
BuildReport build(Checkpoint& checkpoint, const BuildConfig& config, TimingCache& timings, const Path& out,
                  Progress& progress);

// The network as tuned for: loaded and rewritten.
Network optimized_network(Checkpoint& checkpoint, const ResolvedConfig& config);

// The loaded network before any pass.
Network loaded_network(Checkpoint& checkpoint, const ResolvedConfig& config);

}  // namespace ingot
