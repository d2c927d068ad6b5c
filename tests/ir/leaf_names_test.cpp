#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/text.h"

namespace ingot {
namespace {

// Found by fuzzing: the printer calls leaves by their names, so two of one name would not read back.
TEST(LeafNames, StandOnce) {
  const char* once = "dims tokens = 1..8\n%a: f32[tokens, 8] = input x\n%b: f32[tokens, 8] = input y\n";
  EXPECT_NO_THROW(parse_network(once));
  const char* twice = "dims tokens = 1..8\n%a: f32[tokens, 8] = input x\n%b: f32[8] = weight x\n";
  EXPECT_THROW(parse_network(twice), Error);
}

}  // namespace
}  // namespace ingot
