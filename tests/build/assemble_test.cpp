// Which values are handed over between two steps in a form of their own, and which are not.
#include "build/assemble.h"

#include <gtest/gtest.h>

#include "ir/text.h"

namespace ingot {
namespace {

// The parameters of the steps, one a line, as they come without measuring.
std::string steps_of(const std::string& text, int64_t tokens, std::string_view target_text = "cpu:amx") {
  Network network = parse_network(text);
  Target target = parse_target(target_text, 2);
  std::vector<ProgramShape> programs = {{{{"tokens", 1, tokens, tokens}}, {{"tokens", tokens}}, {{"tokens", tokens}}}};
  TimingCache cache;
  Timings timings = tune(list_problems(network, programs), target, cache, {.measure = false}, *make_progress("none"));
  Plan plan = assemble(network, programs, choose(network, programs, timings), target).plan;
  std::string parameters;
  for (const Step& step : plan.programs[0].steps) parameters += step.parameters + "\n";
  return parameters;
}

std::string mlp(int64_t width, const std::string& rest = "output o = %1") {
  return format(
      "dims tokens = 1..2048\n"
      "%x: f32[tokens, 64] = input x\n"
      "%g: bf16[{}, 64] = weight g\n"
      "%d: bf16[64, {}] = weight d\n"
      "%0: f32[tokens, {}] = matmul(%x, %g) {{function = silu, gated = true}}\n"
      "%1: f32[tokens, 64] = matmul(%0, %d)\n{}\n",
      2 * width, width, width, rest);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Assemble, HandsOverWhatTheNextProductWouldPack) {
  for (int64_t tokens : {17, 512, 2048}) {
    std::string steps = steps_of(mlp(96), tokens);
    EXPECT_TRUE(contains(steps, "gives_tiles = 512}\n")) << steps;
    EXPECT_TRUE(contains(steps, "takes_tiles = true}\n")) << steps;
  }
}

TEST(Assemble, HandsOverNothingThatOthersReadOrThatStepsCannotWriteSo) {
  const std::string also_given = "output o = %1\noutput between = %0";
  const std::string read_twice =
      "%2: f32[tokens, 64] = matmul(%0, %d)\n%3: f32[tokens, 64] = add(%1, %2)\noutput o = %3";
  for (const std::string& steps : {steps_of(mlp(96), 16), steps_of(mlp(80), 512), steps_of(mlp(96), 512, "cpu:avx512"),
                                   steps_of(mlp(96, also_given), 512), steps_of(mlp(96, read_twice), 512)}) {
    EXPECT_TRUE(contains(steps, "gated = true"));
    EXPECT_FALSE(contains(steps, "_tiles")) << steps;
  }
}

}  // namespace
}  // namespace ingot
