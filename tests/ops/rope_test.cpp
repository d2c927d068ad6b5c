#include "ops/rope.h"

#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(RopeAngles, HoldsCosinesThenSines) {
  HostTensors y = call(RopeAngles{2}, {tensor("i32[2]", {0, 3}), tensor("f32[2]", {1, 0.5})});
  expect_values(y[0], {2, 2, 0, 0, 2 * std::cos(3), 2 * std::cos(1.5), 2 * std::sin(3), 2 * std::sin(1.5)});
}

TEST(RopeAngles, RoundsTheAngleToF32) {
  float frequency = 0.7943282f;
  HostTensors y = call(RopeAngles{}, {tensor("i32[1]", {100003}), tensor("f32[1]", {frequency})});
  double angle = 100003 * frequency;  // in f32
  EXPECT_NE(angle, 100003 * double{frequency});
  expect_values(y[0], {std::cos(angle), std::sin(angle)});
}

TEST(Rope, RotatesHalvesOfHeads) {
  double c = 0.6, s = 0.8;
  HostTensor angles = tensor("f32[1, 2]", {c, s});
  HostTensor x = tensor("f32[1, 6]", {1, 2, 3, 4, 5, 6});  // two heads of 3, of which 2 rotate
  expect_values(call(Rope{3}, {x, angles})[0], {c - 2 * s, 2 * c + s, 3, 4 * c - 5 * s, 5 * c + 4 * s, 6});
}

TEST(Rope, PairsByLayout) {
  HostTensor angles = tensor("f32[1, 4]", {0, 1, 1, 0});  // the first pair turns by 90 degrees
  HostTensor x = tensor("f32[1, 4]", {1, 2, 3, 4});
  expect_values(call(Rope{4, false}, {x, angles})[0], {-3, 2, 1, 4});
  expect_values(call(Rope{4, true}, {x, angles})[0], {-2, 1, 3, 4});
}

TEST(Rope, UsesEachTokensAngles) {
  HostTensor angles = tensor("f32[2, 2]", {1, 0, 0, 1});
  expect_values(call(Rope{2}, {tensor("f32[2, 2]", {1, 2, 1, 2}), angles})[0], {1, 2, -2, 1});
}

TEST(Rope, MakesProductsDependOnDistanceAlone) {
  HostTensor frequencies = tensor("f32[2]", {1, 0.25}), q = noise("f32[1, 4]"), k = noise("f32[1, 4]", 2);
  auto product = [&](double at_q, double at_k) {
    auto turned = [&](const HostTensor& x, double at) {
      return call(Rope{4}, {x, call(RopeAngles{}, {tensor("i32[1]", {at}), frequencies})[0]})[0].values;
    };
    std::vector<double> a = turned(q, at_q), b = turned(k, at_k);
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
  };
  EXPECT_NEAR(product(7, 3), product(104, 100), 1e-12);
  EXPECT_GT(std::abs(product(7, 3) - product(7, 4)), 1e-3);
}

TEST(Rope, TypesSymbolicTokens) {
  EXPECT_EQ(inferred(RopeAngles{}, "i32[tokens] f32[32]"), "f32[tokens, 64]");
  EXPECT_EQ(inferred(Rope{64}, "bf16[tokens, 256] f32[tokens, 32]"), "bf16[tokens, 256]");
}

TEST(Rope, RefusesWhatDoesNotFit) {
  expect_contains(infer_error(Rope{0}, "f32[2, 8] f32[2, 4]"), "head_size = 0");
  expect_contains(infer_error(Rope{3}, "f32[2, 8] f32[2, 2]"), "heads * 3");
  expect_contains(infer_error(Rope{4}, "f32[2, 8] f32[2, 6]"), "r even and at most 4");
  expect_contains(infer_error(Rope{4}, "f32[2, 8] f32[2, 3]"), "r even and at most 4");
  expect_contains(infer_error(Rope{4}, "f32[tokens, 8] f32[2, 4]"), "angles, f32[tokens, r]");
  expect_contains(infer_error(RopeAngles{}, "f32[2] f32[4]"), "positions");
  expect_contains(infer_error(RopeAngles{}, "i32[2] f32[n]"), "frequencies");
}

}  // namespace
}  // namespace ingot
