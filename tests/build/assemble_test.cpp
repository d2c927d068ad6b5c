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
  const DimValues sizes = {{"tokens", tokens}, {"sequences", 1}, {"pages.full", 32}, {"pool_pages.full", 32}};
  std::vector<ProgramShape> programs = {{{{"tokens", 1, tokens, tokens}}, sizes, sizes}};
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

int64_t count(const std::string& text, const std::string& part) {
  int64_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Assemble, HandsOverWhatTheNextProductWouldPack) {
  for (int64_t tokens : {17, 512, 2048}) {
    std::string steps = steps_of(mlp(96), tokens);
    EXPECT_TRUE(contains(steps, "gives_tiles = 512}\n")) << steps;
    EXPECT_TRUE(contains(steps, "takes_tiles = true}\n")) << steps;
  }
}

TEST(Assemble, HandsOverToTwoProducts) {
  const std::string twice = "%2: f32[tokens, 64] = matmul(%0, %d)\n%3: f32[tokens, 64] = add(%1, %2)\noutput o = %3";
  std::string steps = steps_of(mlp(96, twice), 512);
  EXPECT_EQ(count(steps, "gives_tiles = 512}\n"), 1) << steps;
  EXPECT_EQ(count(steps, "takes_tiles = true}\n"), 2) << steps;
}

TEST(Assemble, HandsOverNothingThatOthersReadOrThatStepsCannotWriteSo) {
  const std::string also_given = "output o = %1\noutput between = %0";
  const std::string read_otherwise = "%2: f32[tokens, 96] = add(%0, %0)\noutput o = %1\noutput p = %2";
  for (const std::string& steps : {steps_of(mlp(96), 16), steps_of(mlp(80), 512), steps_of(mlp(96), 512, "cpu:avx512"),
                                   steps_of(mlp(96, also_given), 512), steps_of(mlp(96, read_otherwise), 512)}) {
    EXPECT_TRUE(contains(steps, "gated = true"));
    EXPECT_FALSE(contains(steps, "_tiles")) << steps;
  }
}

// %0 is a sum, %1 its norm.
std::string norm(int64_t width, const std::string& rest) {
  return format(
      "dims tokens = 1..2048\n"
      "%x: f32[tokens, {0}] = input x\n"
      "%y: f32[tokens, {0}] = input y\n"
      "%g: f32[{0}] = weight g\n"
      "%a: bf16[64, {0}] = weight a\n"
      "%b: bf16[96, {0}] = weight b\n"
      "%0: f32[tokens, {0}], %1: f32[tokens, {0}] = add_rms_norm(%x, %y, %g)\n{1}\n",
      width, rest);
}

const std::string kTwoProducts =
    "%2: f32[tokens, 64] = matmul(%1, %a)\n%3: f32[tokens, 96] = matmul(%1, %b)\noutput o = %2\noutput p = %3\n";

TEST(Assemble, HandsOverNormsToAllThatReadThem) {
  for (int64_t tokens : {17, 512, 1000})
    for (int64_t width : {64, 544}) {
      std::string steps = steps_of(norm(width, kTwoProducts + "output s = %0"), tokens);
      EXPECT_EQ(count(steps, "{gives_tiles = 512}\n"), 1) << steps;
      EXPECT_EQ(count(steps, "takes_tiles = true}\n"), 2) << steps;
    }
  std::string alone = steps_of(
      "dims tokens = 1..2048\n%x: f32[tokens, 64] = input x\n%g: f32[64] = weight g\n%h: f32[64] = weight h\n"
      "%a: bf16[64, 64] = weight a\n%0: f32[tokens, 64] = layer_norm(%x, %g, %h)\n"
      "%1: f32[tokens, 64] = matmul(%0, %a)\noutput o = %1\n",
      100);
  EXPECT_EQ(count(alone, "gives_tiles = 512}\n"), 1) << alone;
}

TEST(Assemble, HandsOverNoNormThatAnythingElseReads) {
  const std::string sum_read = "%2: f32[tokens, 64] = matmul(%0, %a)\noutput o = %2\noutput n = %1";
  const std::string also_given = kTwoProducts + "output n = %1";
  const std::string also_added = kTwoProducts + "%4: f32[tokens, 64] = add(%1, %x)\noutput n = %4";
  const std::string by_heads =
      "dims tokens = 1..2048\n%x: f32[tokens, 64] = input x\n%g: f32[32] = weight g\n%a: bf16[64, 64] = weight a\n"
      "%0: f32[tokens, 64] = rms_norm(%x, %g)\n%1: f32[tokens, 64] = matmul(%0, %a)\noutput o = %1\n";
  for (const std::string& steps :
       {steps_of(norm(64, sum_read), 512), steps_of(norm(64, also_given), 512), steps_of(norm(64, also_added), 512),
        steps_of(norm(80, kTwoProducts), 512), steps_of(norm(64, kTwoProducts), 16), steps_of(by_heads, 512),
        steps_of(norm(64, kTwoProducts), 512, "cpu:avx512")}) {
    EXPECT_TRUE(contains(steps, "form = ")) << steps;
    EXPECT_FALSE(contains(steps, "_tiles")) << steps;
  }
}

std::string attention(int64_t head_size, const std::string& state) {
  const int64_t width = 4 * head_size;
  return format(
      "dims tokens = 1..512, sequences = 1..8\n"
      "group full {{page_size = 16}}\n"
      "%q: f32[tokens, {0}] = input q\n"
      "%query_starts: i32[sequences+1] = input query_starts\n"
      "%context_lengths: i32[sequences] = input context_lengths\n"
      "%page_starts.full: i32[sequences+1] = input page_starts.full\n"
      "%page_list.full: i32[pages.full] = input page_list.full\n"
      "%context_starts.full: i32[sequences] = input context_starts.full\n"
      "%k: {2}[pool_pages.full, 2, 16, {1}] = state k {{group = full}}\n"
      "%v: {2}[pool_pages.full, 2, 16, {1}] = state v {{group = full}}\n"
      "%o: bf16[64, {0}] = weight o\n"
      "%0: f32[tokens, {0}] = attention(%q, %k, %v, %query_starts, %context_lengths, %page_starts.full, "
      "%page_list.full, %context_starts.full) {{heads = 4}}\n"
      "%1: f32[tokens, 64] = matmul(%0, %o)\n"
      "output y = %1\n",
      width, head_size, state);
}

TEST(Assemble, HandsOverAttentionWhoseHeadsAreWholeTiles) {
  for (const char* state : {"bf16", "f32"}) {
    EXPECT_TRUE(contains(steps_of(attention(64, state), 512), "gives_tiles = 512}\n"));
    EXPECT_FALSE(contains(steps_of(attention(48, state), 512), "_tiles"));
    EXPECT_FALSE(contains(steps_of(attention(96, state), 512), "_tiles"));
    EXPECT_FALSE(contains(steps_of(attention(64, state), 16), "_tiles"));
  }
}

}  // namespace
}  // namespace ingot
