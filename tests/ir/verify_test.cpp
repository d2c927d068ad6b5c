#include "ir/verify.h"

#include <gtest/gtest.h>

#include "ir/text.h"
#include "ops/pointwise.h"

namespace ingot {
namespace {

constexpr std::string_view kStates = R"(
group full {page_size = 4}
%s: i32[tokens] = input slots
%x: f32[tokens, 8] = input x
%k: f32[pool_pages, 2, 4, 4] = state k {group = full}
%v: f32[pool_pages, 2, 4, 4] = state v {group = full}
)";

std::string error_of(const Network& network) {
  try {
    verify(network);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_error(const std::string& text, std::string_view message) {
  std::string error = error_of(parse_network(text));
  EXPECT_NE(error.find(message), std::string::npos) << text << "\n" << error;
}

TEST(Verify, AcceptsThreadedStates) {
  std::string text = std::string(kStates) + R"(
%k1: f32[pool_pages, 2, 4, 4] = kv_write(%k, %x, %s)
%k2: f32[pool_pages, 2, 4, 4] = kv_write(%k1, %x, %s)
output k = %k2
)";
  EXPECT_EQ(error_of(parse_network(text)), "no error");
}

TEST(Verify, StateMistakes) {
  std::string write = std::string(kStates) + "%k1: f32[pool_pages, 2, 4, 4] = kv_write(%k, %x, %s)  # cache\n";
  expect_error(write + "%k2: f32[pool_pages, 2, 4, 4] = kv_write(%k, %x, %s)\noutput k = %k2\n",
               "%1 = kv_write reads %k after %0 = kv_write (cache) has overwritten that version of the state k");
  expect_error(write + "%0: f32[pool_pages, 2, 4, 4] = activation(%k)\noutput k = %k1\noutput o = %0\n",
               "%1 = activation reads %k after");
  expect_error(write, "%0 = kv_write (cache) is the final version of the state k, but not an output");
  expect_error(write + "output l = %k1\n", "the output \"l\" is a version of the state k, whose name it must have");
  expect_error(write + "output k = %k1\noutput old = %k\n", "a version of the state k that is overwritten");
  expect_error(std::string(kStates) + R"(
%y: f32[pool_pages, 2, 4, 4] = input y
%y1: f32[pool_pages, 2, 4, 4] = kv_write(%y, %x, %s)
output y = %y1
)",
               "writes to %y, which is not a version of a state");
  expect_error(std::string(kStates) + R"(
%a: f32[tokens, 4] = input angles
%q: f32[tokens, 24] = input qkv
%0: f32[tokens, 8], %1: f32[pool_pages, 2, 4, 4], %2: f32[pool_pages, 2, 4, 4] = rope_kv_write(%q, %a, %k, %k, %s) {heads = 2}
output k = %1
)",
               "reads %k besides overwriting it");
}

TEST(Verify, Declarations) {
  expect_error("%k: f32[4] = state k {group = full}\n", "the cache group \"full\", which is not declared");
  expect_error("group full {page_size = 8}\n%k: f32[p, 2, 4, 4] = state k {group = full}\n", "have 8 positions");
  expect_error("group full\ngroup full\n", "the cache group full is declared twice");
  expect_error("group full {page_size = 0}\n", "page_size 0");
  expect_error("%k: f32[rows, 4] = state k\n", "is f32[rows, 4]; without a cache group it is [seats, ...]");
  expect_error("dims a = 1..2, a = 1..2\n", "the dimension a is declared twice");
  expect_error("%x: f32[4] = input x\noutput o = %x\noutput o = %x\n", "two outputs are called \"o\"");
}

// What no text can say: networks that code has changed by hand.
TEST(Verify, LeavesOfOneName) {
  Network network;
  network.add_input("x", parse_type("f32[4]"));
  network.add_weight("x", recipe::tensor("x"), parse_type("f32[4]"));
  EXPECT_NE(error_of(network).find("are called \"x\""), std::string::npos);
}

TEST(Verify, BrokenNodes) {
  const std::string text = "%x: f32[4] = input x\n%0: f32[4] = activation(%x)\noutput o = %0\n";
  Network network = parse_network(text);
  network.mutable_node({1, 0}).inputs[0] = {1, 0};
  EXPECT_NE(error_of(network).find("reads a value that is not before it"), std::string::npos);
  network = parse_network(text);
  network.mutable_node({1, 0}).inputs[0] = {0, 1};
  EXPECT_NE(error_of(network).find("reads a value that is not before it"), std::string::npos);
  network = parse_network(text);
  network.mutable_node({1, 0}).types[0].dtype = DType::kBF16;
  EXPECT_NE(error_of(network).find("other types than its op infers: bf16[4] and f32[4]"), std::string::npos);
  network = parse_network(text);
  network.mutable_node({1, 0}).op = Cast{DType::kF16};
  EXPECT_NE(error_of(network).find("other types than its op infers"), std::string::npos);
  network = parse_network(text);
  network.outputs()[0].second = {2, 0};
  EXPECT_NE(error_of(network).find("is a value that does not exist"), std::string::npos);
  network = parse_network(text);
  network.mutable_node({1, 0}).origins.clear();
  EXPECT_NE(error_of(network).find("origins"), std::string::npos);
}

TEST(Network, InferenceErrorsNameOpLabelAndTypes) {
  Network network;
  Value x = network.add_input("x", {DType::kF32, {"tokens", 8}, ""});
  Value y = network.add_input("y", {DType::kF32, {"tokens", 4}, ""});
  try {
    network.add_one(Add{}, {x, y}, "layers.3.residual");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("add(f32[tokens, 8], f32[tokens, 4]) (layers.3.residual): add: found"), 0u)
        << error.what();
  }
  EXPECT_THROW(network.add_one(Add{}, {x, {7, 0}}), Error);
  EXPECT_EQ(network.nodes().size(), 2u) << "a failed add leaves nothing behind";
}

}  // namespace
}  // namespace ingot
