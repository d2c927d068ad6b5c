// The joint decision: one layout per weight over all its users in all programs, and with it a tactic for every op of
// every program. Reads only the rounded times of the timing cache, so a build that fills the cache and one that reads
// it decide alike.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "build/program_shapes.h"
#include "tune/tuner.h"

namespace ingot {

// The tactics of one program: one per op node, by node index; nullptr for other nodes. Point into the Timings.
using TacticTable = std::vector<const TimedTactic*>;

struct Choice {
  std::vector<TacticTable> programs;
  std::vector<std::string> remarks;  // second copies of weights and what they gain
};

Choice choose(const Network& network, const std::vector<ProgramShape>& programs, const Timings& timings);

}  // namespace ingot
