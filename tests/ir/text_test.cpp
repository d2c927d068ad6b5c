// tests/ir/OP.ir: a network with every op kind, as the printer writes it. `test_ir --update` rewrites them.
#include "ir/text.h"

#include <gtest/gtest.h>

#include "ir/ir_cases.h"
#include "ir/random_step.h"
#include "ir/verify.h"

namespace ingot {
namespace {

bool update = false;

class OpText : public ::testing::TestWithParam<std::string> {};

TEST_P(OpText, RoundTripAndMeaning) {
  auto path = std::filesystem::path(INGOT_SOURCE_DIR) / "tests" / "ir" / (GetParam() + ".ir");
  ASSERT_TRUE(std::filesystem::exists(path)) << "every op has a network in " << path;
  std::string text = testing::read_text(path);
  Network network = parse_network(text);
  verify(network);
  EXPECT_NE(text.find(" = " + GetParam() + "("), std::string::npos);
  if (update) return testing::write_text(path, print(network));
  EXPECT_EQ(print(network), text);
  EXPECT_EQ(testing::difference(network, parse_network(text)), "");
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpEntry& entry : op_list()) names.emplace_back(entry.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, OpText, ::testing::ValuesIn(op_names()), [](auto& info) { return info.param; });

std::string error_of(std::string_view text) {
  try {
    parse_network(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Text, ValueNamesAreOfTheTextAlone) {
  Network network = parse_network(R"(
# a comment
%a: f32[tokens, 8] = input x   # where it comes from
%b: f32[tokens, 8] = activation(%a)

output o = %b
)");
  EXPECT_EQ(print(network),
            "%x: f32[tokens, 8] = input x  # where it comes from\n"
            "%0: f32[tokens, 8] = activation(%x)\noutput o = %0\n");
}

TEST(Text, NamesThatAreNoWordsAreQuoted) {
  Network network;
  Value x = network.add_input("a \"b\" \\c", {DType::kF32, {"tokens", 4}, ""});
  Value y = network.add_input("7", {DType::kF32, {"tokens", 4}, ""});
  Value w = network.add_weight("%w", recipe::tensor("%w"), {DType::kF32, {4}, ""});
  Value s = network.add_state("true", {DType::kF32, {Dim("tokens", 2, 1), 4}, ""}, "odd group");
  network.groups.push_back({"odd group", 4, 7});
  network.add_output(
      "out put", network.add_one(parse_network("%x: f32[4] = input x\n%0: f32[4] = scale(%x)\n").nodes()[1].op, {x}));
  network.add_output("y", y);
  network.add_output("w", w);
  network.add_output("true", s);
  std::string text = print(network);
  EXPECT_EQ(text,
            "group \"odd group\" {page_size = 4, window = 7}\n"
            "%@0: f32[tokens, 4] = input \"a \\\"b\\\" \\\\c\"\n%@1: f32[tokens, 4] = input \"7\"\n"
            "%@2: f32[4] = weight %w\n%@3: f32[2*tokens+1, 4] = state \"true\" {group = \"odd group\"}\n"
            "%0: f32[tokens, 4] = scale(%@0)\n"
            "output \"out put\" = %0\noutput y = %@1\noutput w = %@2\noutput \"true\" = %@3\n");
  EXPECT_EQ(print(parse_network(text)), text);
}

TEST(Text, DimsAndGroups) {
  std::string text =
      "dims tokens = 1..8192, sequences = 1..64..256, none = 0..0\ngroup full\ngroup near {window = 128}\n";
  Network network = parse_network(text);
  EXPECT_EQ(network.dims[0], (DimRange{"tokens", 1, 8192, 8192}));
  EXPECT_EQ(network.dims[1], (DimRange{"sequences", 1, 64, 256}));
  EXPECT_EQ(network.groups[1], (CacheGroup{"near", 16, 128}));
  EXPECT_EQ(print(network), text);
}

TEST(Text, RecipeIsLeftOutWhenItIsTheTensorOfThatName) {
  Network network = parse_network("%a: f32[4] = weight a\n%b: f32[4] = weight b {recipe = a}\n");
  EXPECT_EQ(network.nodes()[0].recipe, recipe::tensor("a"));
  EXPECT_EQ(print(network), "%a: f32[4] = weight a\n%b: f32[4] = weight b {recipe = a}\n");
}

struct Mistake {
  std::string_view text, message;
};

TEST(Text, MistakesAreFoundWithTheirPlace) {
  const Mistake kMistakes[] = {
      {"%x: f32[4] = input x\n%y: f32[4] = activation(%z)", "line 2: column 25: no earlier line defines %z"},
      {"%x: f32[4] = input x\n%y: f32[5] = activation(%x)", "line 2: %y is written as f32[5], but the op makes f32[4]"},
      {"%x: i32[4] = input x\n%y: i32[4] = activation(%x)", "line 2: column 14: activation(i32[4]): activation: found"},
      {"%x: f32[4] = input x\n%x: f32[4] = input y", "line 2: column 1: %x is defined already"},
      {"%x: f32[4] = inputs()", "line 1: there is no op \"inputs\""},
      {"%x: f32[4] = input x\n%y: f32[4] = activatoin(%x)",
       "line 2: there is no op \"activatoin\"; the nearest is \"activation\""},
      {"%x: f32[4], %y: f32[4] = input x", "one value for one input"},
      {"%x: f32[4] = input x\n%y: f32[4], %z: f32[4] = activation(%x)", "1 results, not 2"},
      {"%x: f32[4] = input x output o = %x", "line 1: column 22: found 'output' where the end of the line"},
      {"%x: f33[4] = input x", "line 1: \"f33\" is none of f64"},
      {"%x: f32[4", "line 1: column 10: found the end where ',' is needed"},
      {"%x: f32[-4] = input x", "dimensions that are not negative"},
      {"%x: f32[tokens-4] = input x", "a dimension name without '-'"},
      {"%x: f32[2*tokens -4] = input x", "dimensions that are not negative"},
      {"%x: f32[4]@tiles = input x", "row major"},
      {"%x: f32[1, 1, 1, 1, 1, 1, 1, 1, 1] = input x", "at most 8 dimensions"},
      {"%w: f32[tokens] = weight w",
       "line 1: the weight w: the weight \"w\" has the type f32[tokens], it must be constant"},
      {"%w: f32[4] = weight w {recipe = \"cast(w\"}", "line 1: the weight w: recipe: line 1, column 7"},
      {"%w: f32[4] = weight w {recipes = w}", "one of the fields recipe, not recipes"},
      {"%x: f32[4] = input \"\"", "needs a name"},
      {"%x: f32[4] = input \"a", "a closing '\"'"},
      {"dims tokens = 4..2", "numbers that rise"},
      {"dims tokens = 1.8", "line 1: column 16: found '.8' where '..' is needed"},
      {"group full {page = 4}", "one of the fields page_size, window"},
      {"output o = %x", "line 1: column 12: no earlier line defines %x"},
      {"outptu o = %x", "a line that begins with dims, group, output or a value, not \"outptu\""},
      {"%x: f32[4] = input x\n%y: f32[4] = scale(%x) {factor = 99999999999999999999}", "no error"},
      {"%x: f32[4] = input x\n%y: f32[4] = activation(%x) {function = sulu}", "line 2: \"sulu\" is none of none, silu"},
  };
  for (const Mistake& mistake : kMistakes) {
    std::string error = error_of(mistake.text);
    EXPECT_NE(error.find(mistake.message), std::string::npos) << mistake.text << "\n" << error;
  }
}

TEST(Text, ControlCharactersInNamesAreRefused) {
  Network network;
  EXPECT_THROW(network.add_input("a\nb", {}), Error);
  EXPECT_THROW(network.add_output("a\nb", {}), Error);
}

}  // namespace

void update_op_texts() { update = true; }

}  // namespace ingot

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--update") ingot::update_op_texts();
  return RUN_ALL_TESTS();
}
