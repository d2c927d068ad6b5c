#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/fields.h"
#include "base/format.h"
#include "tensor/recipe.h"

namespace ingot {

namespace {

using recipe::RopeFrequencies;
using recipe::RopeType;

class Parser {
 public:
  explicit Parser(std::string_view text) : lexer_(text) {}

  Recipe parse_whole() {
    Recipe recipe = parse();
    if (!lexer_.at_end()) lexer_.fail("the end of the recipe");
    return recipe;
  }

 private:
  // Limits the recursion itself; Recipe's own limit comes too late for that.
  Recipe parse() {
    if (++depth_ > recipe::kMaxDepth) lexer_.fail(format("at most {} nested functions", recipe::kMaxDepth));
    Recipe recipe = parse_node();
    --depth_;
    return recipe;
  }

  Recipe parse_node() {
    if (lexer_.peek("\"")) return recipe::tensor(lexer_.string());
    std::string name = lexer_.word("a tensor name or a function");
    if (!lexer_.accept("(")) return recipe::tensor(name);
    Recipe recipe = parse_function(name);
    lexer_.expect(")");
    return recipe;
  }

  // One recipe function after its opening parenthesis.
  Recipe parse_function(const std::string& name) {
    if (name == "tensor") return recipe::tensor(lexer_.string());
    if (name == "constant") return recipe::constant(parse_floats());
    if (name == "rope_frequencies") return parse_rope_frequencies();
    if (name == "concat") return recipe::concat(parse_list());
    if (name == "stack") return recipe::stack(parse_list());
    if (name == "transpose") return recipe::transpose(parse());
    if (name == "cast") return parse_cast();
    if (name == "slice") return parse_slice();
    if (name == "reshape") return parse_reshape();
    if (name == "pack") return parse_pack();
    bool is_mul = name == "mul", is_scale = name == "scale";
    if (!is_mul && !is_scale && name != "mul_rows" && name != "add")
      lexer_.fail(
          "one of tensor, constant, rope_frequencies, cast, concat, stack, transpose, slice, reshape, add, scale, mul, "
          "mul_rows and pack, not the function " +
          name);
    Recipe e = parse();
    lexer_.expect(",");
    if (is_scale) return recipe::scale(std::move(e), lexer_.number());
    if (name == "add") return recipe::add(std::move(e), lexer_.number());
    Recipe factors = parse();
    return is_mul ? recipe::mul(std::move(e), std::move(factors)) : recipe::mul_rows(std::move(e), std::move(factors));
  }

  std::vector<Recipe> parse_list() {
    std::vector<Recipe> parts;
    do {
      if (static_cast<int64_t>(parts.size()) == recipe::kMaxNodes) lexer_.fail("fewer parts");
      parts.push_back(parse());
    } while (lexer_.accept(","));
    return parts;
  }

  Recipe parse_cast() {
    Recipe e = parse();
    lexer_.expect(",");
    return recipe::cast(std::move(e), parse_name<DType>("a dtype"));
  }

  Recipe parse_pack() {
    if (depth_ != 1) lexer_.fail("pack as the outermost function only");
    Recipe e = parse();
    lexer_.expect(",");
    return recipe::pack(std::move(e), lexer_.string());
  }

  Recipe parse_slice() {
    Recipe e = parse();
    int64_t numbers[3];
    for (int64_t& number : numbers) {
      lexer_.expect(",");
      number = lexer_.integer();
    }
    return recipe::slice(std::move(e), numbers[0], numbers[1], numbers[2]);
  }

  Recipe parse_reshape() {
    Recipe e = parse();
    std::vector<int64_t> shape;
    while (lexer_.accept(",")) shape.push_back(lexer_.integer());
    return recipe::reshape(std::move(e), std::move(shape));
  }

  std::vector<float> parse_floats() {
    std::vector<float> values;
    lexer_.expect("[");
    do {
      double value = lexer_.number();
      if (!(std::abs(value) <= std::numeric_limits<float>::max())) lexer_.fail("numbers that f32 can hold");
      values.push_back(static_cast<float>(value));
    } while (lexer_.accept(","));
    lexer_.expect("]");
    return values;
  }

  Recipe parse_rope_frequencies() {
    RopeFrequencies p;
    p.theta = lexer_.number();
    lexer_.expect(",");
    p.rotary_dim = lexer_.integer();
    lexer_.expect(",");
    p.type = parse_name<RopeType>("a rope type");
    auto key = [&](std::string_view name) {
      lexer_.expect(",");
      lexer_.expect(name);
      lexer_.expect("=");
    };
    if (p.type == RopeType::kLinear || p.type == RopeType::kLlama3) {
      key("factor");
      p.factor = lexer_.number();
    }
    if (p.type == RopeType::kLlama3) {
      key("low_freq_factor");
      p.low_freq_factor = lexer_.number();
      key("high_freq_factor");
      p.high_freq_factor = lexer_.number();
      key("original_max_position_embeddings");
      p.original_max_position_embeddings = lexer_.integer();
    }
    if (p.type == RopeType::kLongrope) {
      key("factors");
      p.factors = parse_floats();
    }
    return recipe::rope_frequencies(std::move(p));
  }

  // Like parse_enum, but the Error says where.
  template <class E>
  E parse_name(std::string_view what) {
    std::string name = lexer_.word(what);
    auto names = enum_names(E{});
    for (size_t i = 0; i < names.size(); ++i)
      if (names[i] == name) return static_cast<E>(i);
    lexer_.fail(format("{}, one of {}, not {},", what, join({names.begin(), names.end()}), name));
  }

  Lexer lexer_;
  int depth_ = 0;
};

}  // namespace

Recipe parse_recipe(std::string_view text) {
  if (text.size() > recipe::kMaxTextBytes)
    fail(ErrorCode::kRuntime, "a recipe of {} bytes is longer than the limit, {}", text.size(), recipe::kMaxTextBytes);
  Scope scope("recipe");
  return Parser(text).parse_whole();
}

}  // namespace ingot
