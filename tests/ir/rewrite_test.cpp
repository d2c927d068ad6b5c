#include "ir/rewrite.h"

#include <gtest/gtest.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "ops/norm.h"
#include "ops/pointwise.h"

namespace ingot {
namespace {

constexpr std::string_view kSum = R"(
%x: f32[tokens, 4] = input x
%y: f32[tokens, 4] = input y
%w: f32[4] = weight w
%0: f32[tokens, 4] = activation(%x)  # act
%1: f32[tokens, 4] = multiply(%y, %0)  # product
%2: f32[tokens, 4] = add(%1, %w)
output o = %2
)";

size_t matches(std::string_view pattern, std::string_view network_text, int root) {
  Network network = parse_network(network_text);
  return Pattern(pattern).find(network, root, network.uses()).size();
}

TEST(Pattern, Matches) {
  EXPECT_EQ(matches("multiply(activation(%x), %y)", kSum, 4), 1u) << "in the other order";
  EXPECT_EQ(matches("multiply(%y, activation(%x))", kSum, 4), 1u);
  EXPECT_EQ(matches("multiply(%a, %b)", kSum, 4), 2u) << "in both orders";
  EXPECT_EQ(matches("multiply(%a, %a)", kSum, 4), 0u) << "one name is one value";
  EXPECT_EQ(matches("add(multiply(%a, activation(%b)), @w)", kSum, 5), 1u);
  EXPECT_EQ(matches("add(%a, @w)", kSum, 5), 1u);
  EXPECT_EQ(matches("multiply(%a, @w)", kSum, 4), 0u) << "no weight";
  EXPECT_EQ(matches("activation(%a, %b)", kSum, 3), 0u) << "too few inputs";
  EXPECT_EQ(matches("add(%a)", kSum, 5), 0u) << "too many inputs";
  EXPECT_EQ(matches("add(%a, %rest...)", kSum, 5), 1u);
  EXPECT_EQ(matches("add(%rest...)", kSum, 5), 1u);
  EXPECT_EQ(matches("activation(%a)", kSum, 0), 0u) << "an input is no op";
}

TEST(Pattern, OutsideReaders) {
  std::string shared = std::string(kSum) + "output act = %0\n";
  EXPECT_EQ(matches("multiply(activation(%x), %y)", shared, 4), 0u);
  EXPECT_EQ(matches("multiply(activation*(%x), %y)", shared, 4), 1u);
  EXPECT_EQ(matches("multiply(activation&(%x), %y)", shared, 4), 1u);
}

TEST(Pattern, Results) {
  constexpr std::string_view kTwo = R"(
%x: f32[tokens, 4] = input x
%w: f32[4] = weight w
%0: f32[tokens, 4], %1: f32[tokens, 4] = add_rms_norm(%x, %x, %w)
%2: f32[tokens, 4] = activation(%1)
output o = %2
)";
  EXPECT_EQ(matches("activation(add_rms_norm.1(%a, %b, %w))", kTwo, 3), 1u);
  EXPECT_EQ(matches("activation(add_rms_norm(%a, %b, %w))", kTwo, 3), 0u);
}

TEST(Pattern, Mistakes) {
  for (const char* text :
       {"", "add", "add(", "add(%x", "add(%x %y)", "add(%x,)", "add(%x) more", "add(%rest..., %x)", "a.b(%x)"})
    EXPECT_THROW(Pattern{text}, Error) << text;
}

Rewritten to_gated(const Match& match, Network& out) {
  if (match.op<Activation>("act").function != ActivationFunction::kSilu) return Unsupported{"only silu"};
  return Values{out.add_one(GatedActivation{}, {match["gate"], match["up"]})};
}
constexpr Rule kToGated[] = {{"to_gated", "multiply(act = activation(%gate), %up)", to_gated}};

TEST(ApplyRules, RewritesAndCarriesLabelsAndOrigins) {
  Network network = parse_network(kSum);
  network.mutable_node({4, 0}).origins[0] = {"p"};
  RewriteLog log;
  network = apply_rules(network, kToGated, log);
  verify(network);
  EXPECT_EQ(log.fired, 1);
  EXPECT_EQ(network.nodes()[3].op.name(), "gated_activation");
  EXPECT_EQ(network.nodes()[3].label, "product");
  EXPECT_EQ(network.nodes()[3].origins[0], std::vector<std::string>{"p"});
}

TEST(ApplyRules, CollectsEachRefusalOnce) {
  std::string text(kSum);
  text.replace(text.find("(%x)  # act"), 4, "(%x) {function = relu}");
  RewriteLog log;
  Network network = apply_rules(parse_network(text), kToGated, log);
  EXPECT_EQ(print(network), print(parse_network(text)));
  EXPECT_EQ(log.refusals, std::vector<std::string>{"to_gated at product: only silu"});
}

Rewritten wrong_type(const Match& match, Network& out) { return Values{out.add_one(Cast{DType::kF16}, {match["x"]})}; }
Rewritten nothing(const Match&, Network&) { return Values{}; }
Rewritten again(const Match& match, Network& out) { return Values{out.add_one(Activation{}, {match["x"]})}; }

TEST(ApplyRules, MistakesOfRules) {
  RewriteLog log;
  for (const Rule& rule : {Rule{"wrong_type", "activation(%x)", wrong_type}, Rule{"nothing", "activation(%x)", nothing},
                           Rule{"endless", "activation(%x)", again}})
    EXPECT_THROW(apply_rules(parse_network(kSum), {&rule, 1}, log), Error) << rule.name;
}

TEST(ApplyRules, TwoMatchesNeverTakeOneNode) {
  // Either product could take the activation; it has two readers, so neither may.
  RewriteLog log;
  Network network = parse_network(R"(
%x: f32[tokens, 4] = input x
%0: f32[tokens, 4] = activation(%x)
%1: f32[tokens, 4] = multiply(%0, %0)
output o = %1
)");
  network = apply_rules(network, kToGated, log);
  EXPECT_EQ(log.fired, 0);
  // Both operands are activations: one of them is the gate.
  network = parse_network(R"(
%x: f32[tokens, 4] = input x
%y: f32[tokens, 4] = input y
%0: f32[tokens, 4] = activation(%x)
%1: f32[tokens, 4] = activation(%y)
%2: f32[tokens, 4] = multiply(%0, %1)
output o = %2
)");
  network = apply_rules(network, kToGated, log);
  EXPECT_EQ(log.fired, 1);
  EXPECT_EQ(network.nodes().size(), 4u);
}

Rewritten to_add_norm(const Match& match, Network& out) {
  Values fused = out.add(AddRmsNorm{}, {match["a"], match["b"], match["g"]});
  return Values{fused[1], fused[0]};
}
constexpr Rule kToAddNorm[] = {{"to_add_norm", "rms_norm(add&(%a, %b), %g)", to_add_norm}};

TEST(ApplyRules, ReplacedInnerNodesMoveTheMatchUp) {
  RewriteLog log;
  Network network = parse_network(R"(
%x: f32[tokens, 4] = input x
%0: f32[tokens, 4] = add(%x, %x)
%1: f32[tokens, 4] = activation(%0)
%g: f32[4] = weight g
%2: f32[tokens, 4] = rms_norm(%0, %g)
output a = %1
output b = %2
)");
  network = apply_rules(network, kToAddNorm, log);
  verify(network);
  EXPECT_EQ(print(network), R"(%x: f32[tokens, 4] = input x
%g: f32[4] = weight g
%0: f32[tokens, 4], %1: f32[tokens, 4] = add_rms_norm(%x, %x, %g)
%2: f32[tokens, 4] = activation(%0)
output a = %2
output b = %1
)");
  EXPECT_EQ(log.fired, 1);
}

TEST(ApplyRules, RefusesWhereAValueComesLater) {
  RewriteLog log;
  apply_rules(parse_network(R"(
%x: f32[tokens, 4] = input x
%0: f32[tokens, 4] = add(%x, %x)
%w: f32[4] = weight w
%g: f32[4] = activation(%w)
%2: f32[tokens, 4] = rms_norm(%0, %g)  # norm
output b = %2
)"),
              kToAddNorm, log);
  EXPECT_EQ(log.refusals,
            std::vector<std::string>{"to_add_norm at norm: %g comes later than the result that would be replaced"});
}

TEST(RemoveDead, KeepsTheInterface) {
  Network network = remove_dead(parse_network(R"(
group full
%x: f32[tokens, 4] = input x
%s: f32[4] = state s {group = full}
%w: f32[4] = weight w
%0: f32[tokens, 4] = add(%x, %w)
)"));
  EXPECT_EQ(print(network), "group full\n%x: f32[tokens, 4] = input x\n%s: f32[4] = state s {group = full}\n");
}

}  // namespace
}  // namespace ingot
