// What the command line of test_passes sets.
#pragma once

#include <cstdint>

namespace ingot::testing {

struct TestOptions {
  bool update = false;  // --update: rewrite the expectations of golden cases
  int networks = 300;   // --networks=N: random networks to try
  uint64_t seed = 1;    // --seed=S: of the first of them
};

TestOptions& test_options();

}  // namespace ingot::testing
