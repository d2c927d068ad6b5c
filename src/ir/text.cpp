#include "ir/text.h"

#include <map>
#include <set>

namespace ingot {

namespace {

constexpr size_t kMaxTextBytes = size_t{256} << 20;
constexpr size_t kMaxNodes = size_t{1} << 20;
constexpr int64_t kMaxRank = 8;

// The attributes of leaves.
struct WeightFields {
  std::string recipe;
  static constexpr auto fields() { return std::tuple{field("recipe", &WeightFields::recipe)}; }
};
struct StateFields {
  std::string group;
  static constexpr auto fields() { return std::tuple{field("group", &StateFields::group)}; }
};
// The name stands before the braces.
struct GroupFields {
  int64_t page_size = CacheGroup{}.page_size, window = CacheGroup{}.window;
  static constexpr auto fields() {
    return std::tuple{field("page_size", &GroupFields::page_size), field("window", &GroupFields::window)};
  }
};

bool is_plain_name(const std::string& name) {
  bool letter = (name[0] >= 'a' && name[0] <= 'z') || (name[0] >= 'A' && name[0] <= 'Z') || name[0] == '_';
  return letter && name.find('%') == std::string::npos && print_string_value(name) == name;
}

std::string spaced(const std::string& attributes) { return attributes.empty() ? "" : " " + attributes; }

// --- printing -----------------------------------------------------------------------------------------------------

class Printer {
 public:
  explicit Printer(const Network& network) : network_(network) {
    for (const Node& node : network.nodes()) {
      first_number_.push_back(results_);
      if (node.kind == NodeKind::kOp) results_ += node.types.size();
    }
  }

  std::string name(Value value) const {
    const Node& node = network_.node(value);
    size_t index = static_cast<size_t>(value.node);
    if (node.kind == NodeKind::kOp)
      return "%" + std::to_string(first_number_[index] + static_cast<size_t>(value.result));
    // No plain name begins with '@', so that numbers of oddly named leaves collide with nothing.
    return is_plain_name(node.name) ? "%" + node.name : "%@" + std::to_string(index);
  }

  std::string print_all() const {
    std::string text = print_dims();
    for (const CacheGroup& group : network_.groups) {
      GroupFields fields{group.page_size, group.window};
      text += "group " + print_string_value(group.name) + spaced(print_fields(fields)) + "\n";
    }
    for (size_t i = 0; i < network_.nodes().size(); ++i) text += print_node(static_cast<int>(i)) + "\n";
    for (const auto& [name, value] : network_.outputs())
      text += "output " + print_string_value(name) + " = " + this->name(value) + "\n";
    return text;
  }

 private:
  std::string print_dims() const {
    std::vector<std::string> parts;
    for (const DimRange& dim : network_.dims) {
      std::string opt = dim.opt == dim.max ? "" : std::to_string(dim.opt) + "..";
      parts.push_back(format("{} = {}..{}{}", dim.symbol, dim.min, opt, dim.max));
    }
    return parts.empty() ? "" : "dims " + join(parts) + "\n";
  }

  std::string print_node(int index) const {
    const Node& node = network_.nodes()[static_cast<size_t>(index)];
    std::string text;
    for (size_t i = 0; i < node.types.size(); ++i) {
      text += (i ? ", " : "") + name({index, static_cast<int>(i)}) + ": " + ingot::print(node.types[i]);
    }
    text += " = ";
    switch (node.kind) {
      case NodeKind::kInput:
        text += "input " + print_string_value(node.name);
        break;
      case NodeKind::kState:
        text += "state " + print_string_value(node.name) + spaced(print_fields(StateFields{node.group}));
        break;
      case NodeKind::kWeight:
        text += "weight " + print_string_value(node.name) + print_recipe(node);
        break;
      case NodeKind::kOp:
        text += print_call(node);
        break;
    }
    return node.label.empty() ? text : text + "  # " + node.label;
  }

  static std::string print_recipe(const Node& node) {
    if (node.recipe == recipe::tensor(node.name)) return "";
    return spaced(print_fields(WeightFields{ingot::print(node.recipe)}));
  }

  std::string print_call(const Node& node) const {
    std::vector<std::string> inputs;
    for (Value value : node.inputs) inputs.push_back(name(value));
    return format("{}({}){}", node.op.name(), join(inputs), spaced(node.op.attributes()));
  }

  const Network& network_;
  std::vector<size_t> first_number_;  // per node
  size_t results_ = 0;
};

// --- parsing ------------------------------------------------------------------------------------------------------

class Parser {
 public:
  void parse_line(std::string_view line) {
    Lexer lexer(line, /*one_line=*/true);
    if (lexer.at_end()) return;
    first_new_ = network_.nodes().size();
    if (lexer.peek("%")) {
      parse_definition(lexer);
    } else {
      std::string word = lexer.word("dims, group, output or a value");
      if (word == "dims") {
        parse_dims(lexer);
      } else if (word == "group") {
        parse_group(lexer);
      } else if (word == "output") {
        parse_output(lexer);
      } else {
        lexer.fail("a line that begins with dims, group, output or a value, not \"" + word + "\"");
      }
    }
    if (!lexer.at_end()) lexer.fail("the end of the line");
    if (network_.nodes().size() > first_new_)
      network_.mutable_node({static_cast<int>(first_new_), 0}).label = lexer.take_comment();
  }

  Network take() { return std::move(network_); }

 private:
  struct Result {
    std::string name;
    TensorType type;
  };

  // Of the word that was read last.
  static size_t column_of(const std::string& word, const Lexer& lexer) { return lexer.position() + 1 - word.size(); }

  void parse_dims(Lexer& lexer) {
    do {
      DimRange dim;
      dim.symbol = lexer.word("a dimension name");
      if (dim.symbol.find('-') != std::string::npos) lexer.fail("a dimension name without '-'");
      lexer.expect("=");
      dim.min = lexer.integer();
      lexer.expect("..");
      dim.opt = dim.max = lexer.integer();
      if (lexer.accept("..")) dim.max = lexer.integer();
      if (dim.min < 0 || dim.opt < dim.min || dim.max < dim.opt) lexer.fail("numbers that rise from 0 or more");
      network_.dims.push_back(std::move(dim));
    } while (lexer.accept(","));
  }

  void parse_group(Lexer& lexer) {
    std::string name = lexer.string();
    GroupFields fields = parse_fields<GroupFields>(lexer);
    network_.groups.push_back({std::move(name), fields.page_size, fields.window});
  }

  void parse_output(Lexer& lexer) {
    std::string name = lexer.string();
    lexer.expect("=");
    network_.add_output(std::move(name), parse_value(lexer));
  }

  Value parse_value(Lexer& lexer) {
    if (!lexer.peek("%")) lexer.fail("a value, '%' and its name");
    std::string name = lexer.word("a value");
    auto found = values_.find(name);
    if (found == values_.end())
      fail(ErrorCode::kRuntime, "column {}: no earlier line defines {}", column_of(name, lexer), name);
    return found->second;
  }

  Result parse_result(Lexer& lexer) {
    if (!lexer.peek("%")) lexer.fail("a value, '%' and its name");
    Result result;
    result.name = lexer.word("a value");
    if (values_.contains(result.name))
      fail(ErrorCode::kRuntime, "column {}: {} is defined already", column_of(result.name, lexer), result.name);
    lexer.expect(":");
    result.type = parse_type(lexer);
    if (!result.type.layout.empty()) lexer.fail("a type without a layout: values of networks are row major");
    if (result.type.rank() > kMaxRank) lexer.fail(format("a type with at most {} dimensions", kMaxRank));
    for (const Dim& dim : result.type.shape) {
      // "tokens-1" reads as one word.
      if (dim.symbol.find('-') != std::string::npos) lexer.fail("a dimension name without '-'");
      if (dim.offset < 0 || (!dim.is_constant() && dim.scale <= 0)) lexer.fail("dimensions that are not negative");
    }
    return result;
  }

  void parse_definition(Lexer& lexer) {
    if (network_.nodes().size() >= kMaxNodes) lexer.fail(format("at most {} nodes", kMaxNodes));
    std::vector<Result> results;
    do results.push_back(parse_result(lexer));
    while (lexer.accept(","));
    lexer.expect("=");
    std::string kind = lexer.word("input, weight, state or an op");
    Values values;
    if (kind == "input" || kind == "weight" || kind == "state") {
      if (results.size() != 1) lexer.fail("one value for one " + kind);
      values = {parse_leaf(kind, results[0].type, lexer)};
    } else {
      values = parse_call(kind, lexer);
      check_types(results, values, lexer);
    }
    for (size_t i = 0; i < results.size(); ++i)
      if (!values_.emplace(results[i].name, values[i]).second)
        lexer.fail(format("different names, not twice {}", results[i].name));
  }

  Value parse_leaf(const std::string& kind, const TensorType& type, Lexer& lexer) {
    std::string name = lexer.string();
    if (!leaf_names_.insert(name).second)
      lexer.fail(format("a name that no other input, weight or state has, not again {}", print_string_value(name)));
    if (kind == "input") return network_.add_input(std::move(name), type);
    if (kind == "state") return network_.add_state(std::move(name), type, parse_fields<StateFields>(lexer).group);
    std::string text = parse_fields<WeightFields>(lexer).recipe;
    Scope scope("the weight " + print_string_value(name));
    Recipe recipe = text.empty() ? recipe::tensor(name) : parse_recipe(text);
    return network_.add_weight(std::move(name), std::move(recipe), type);
  }

  Values parse_call(const std::string& op_name, Lexer& lexer) {
    size_t column = column_of(op_name, lexer);
    lexer.expect("(");
    Values inputs;
    while (!lexer.accept(")")) {
      if (!inputs.empty()) lexer.expect(",");
      inputs.push_back(parse_value(lexer));
    }
    AnyOp op = parse_op(op_name, lexer);
    Scope scope(format("column {}", column));
    return network_.add(std::move(op), std::move(inputs));
  }

  void check_types(const std::vector<Result>& written, const Values& values, Lexer& lexer) {
    if (written.size() != values.size()) lexer.fail(format("{} results, not {}", values.size(), written.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      const TensorType& inferred = network_.type(values[i]);
      if (inferred == written[i].type) continue;
      fail(ErrorCode::kRuntime, "{} is written as {}, but the op makes {}", written[i].name,
           ingot::print(written[i].type), ingot::print(inferred));
    }
  }

  Network network_;
  std::set<std::string> leaf_names_;
  std::map<std::string, Value, std::less<>> values_;
  size_t first_new_ = 0;
};

}  // namespace

std::string print(const Network& network) { return Printer(network).print_all(); }

std::string print_value_name(const Network& network, Value value) { return Printer(network).name(value); }

Network parse_network(std::string_view text) {
  if (text.size() > kMaxTextBytes)
    fail(ErrorCode::kRuntime, "the network's text has {} bytes, at most {} are read", text.size(), kMaxTextBytes);
  Parser parser;
  size_t line = 1;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    Scope scope(format("line {}", line++));
    parser.parse_line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parser.take();
}

}  // namespace ingot
