// From a network and its tactics to a plan: steps, stored weights, memory.
#pragma once

#include "build/choose.h"
#include "plan/plan.h"

namespace ingot {

struct Assembled {
  Plan plan;  // its modules have names and no bytes yet
  std::vector<DeviceModule> modules;
};

// Neighbouring programs with equal tactics become one. Weights are listed in the order in which the first program
// reads them, modules in the order in which steps name them. Equal inputs give equal plans.
Assembled assemble(const Network& network, const std::vector<ProgramShape>& programs, const Choice& choice,
                   const Target& target);

// Compiles the modules, several at a time, and gives them their places in the plan; the bytes of all of them.
std::vector<std::byte> compile_modules(Assembled& assembled, int threads);

}  // namespace ingot
