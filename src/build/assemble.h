// From a network and its tactics to a plan: steps, stored weights, memory.
#pragma once

#include "build/choose.h"
#include "plan/plan.h"

namespace ingot {

// Neighbouring programs with equal tactics become one. Weights are listed in the order in which the first program
// reads them. Equal inputs give equal plans.
Plan assemble(const Network& network, const std::vector<ProgramShape>& programs, const Choice& choice,
              const Target& target);

}  // namespace ingot
