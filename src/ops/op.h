// An op is what is computed, as a plain struct with a typing rule and a plain meaning. AnyOp holds one of any kind.
//
// An op kind T is an aggregate with `static constexpr std::string_view name`, a `fields()` list, and the members
//   Types infer(const Types& inputs) const;             // one or more results; throws Error when the inputs do not fit
//   HostTensors evaluate(const HostTensors& in) const;  // the plainest meaning, in f64, results not rounded
// and, where it helps,
//   double evaluate_at(std::span<const TensorView> in, int output, int64_t index) const;   // one element alone
//   int aliased_input(int output) const;                // the state input that an output continues, or -1
//   std::vector<bool> row_inputs(const Types& inputs) const;   // if rows are independent: whether row i of the outputs
//                                                       // needs only row i of an input, not all of it
//   double flops(const Types& inputs) const;            // multiplications and additions, for reports and ceilings
//   double cut(Types& inputs, int64_t max_bytes, double max_flops) const;  // makes the problem smaller where its time
//                                                       // is proportional to a size; returns the factor taken away
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/fields.h"
#include "tensor/host_tensor.h"
#include "tensor/type.h"

namespace ingot {

template <class T>
concept OpKind = HasFields<T> && requires(const T& op, const Types& types, const HostTensors& tensors) {
  { T::name } -> std::convertible_to<std::string_view>;
  { op.infer(types) } -> std::same_as<Types>;
  { op.evaluate(tensors) } -> std::same_as<HostTensors>;
};

class AnyOp {
 public:
  AnyOp() = default;
  template <OpKind T>
  AnyOp(T op) : self_(std::make_shared<const Model<T>>(std::move(op))) {}

  explicit operator bool() const { return self_ != nullptr; }
  std::string_view name() const { return self_->name(); }
  // "{epsilon = 1e-05}", or "" when every field has its default.
  std::string attributes() const { return self_->attributes(); }

  // Errors begin with the op's name.
  Types infer(const Types& inputs) const;
  // What the op means. With `round`, results are rounded to their dtypes.
  HostTensors evaluate(const HostTensors& inputs, bool round = true) const;
  // One element of one output, unrounded; nullopt when the op kind cannot compute a single element.
  std::optional<double> evaluate_at(std::span<const TensorView> inputs, int output, int64_t index) const {
    return self_->evaluate_at(inputs, output, index);
  }
  int aliased_input(int output) const { return self_->aliased_input(output); }
  // Empty when the op kind does not say that rows are independent.
  std::vector<bool> row_inputs(const Types& inputs) const { return self_->row_inputs(inputs); }
  double flops(const Types& inputs) const { return self_->flops(inputs); }
  // Cuts `inputs` down towards the limits where the kind can; returns how many times smaller the work became (1: not).
  double cut(Types& inputs, int64_t max_bytes, double max_flops) const {
    return self_->cut(inputs, max_bytes, max_flops);
  }

  // The struct when this holds a T, else nullptr.
  template <class T>
  const T* as() const {
    auto* model = dynamic_cast<const Model<T>*>(self_.get());
    return model ? &model->op : nullptr;
  }
  template <class T>
  bool is() const {
    return as<T>() != nullptr;
  }
  bool operator==(const AnyOp& other) const {
    return self_ == other.self_ ||
           (self_ && other.self_ && name() == other.name() && attributes() == other.attributes());
  }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual std::string_view name() const = 0;
    virtual std::string attributes() const = 0;
    virtual Types infer(const Types&) const = 0;
    virtual HostTensors evaluate(const HostTensors&) const = 0;
    virtual std::optional<double> evaluate_at(std::span<const TensorView>, int, int64_t) const = 0;
    virtual int aliased_input(int) const = 0;
    virtual std::vector<bool> row_inputs(const Types&) const = 0;
    virtual double flops(const Types&) const = 0;
    virtual double cut(Types&, int64_t, double) const = 0;
  };

  template <class T>
  struct Model final : Concept {
    explicit Model(T op_) : op(std::move(op_)) {}
    std::string_view name() const override { return T::name; }
    std::string attributes() const override { return print_fields(op); }
    Types infer(const Types& inputs) const override { return op.infer(inputs); }
    HostTensors evaluate(const HostTensors& inputs) const override { return op.evaluate(inputs); }
    std::optional<double> evaluate_at(std::span<const TensorView> in, int output, int64_t index) const override {
      if constexpr (requires { op.evaluate_at(in, output, index); }) return op.evaluate_at(in, output, index);
      return std::nullopt;
    }
    int aliased_input(int output) const override {
      if constexpr (requires { op.aliased_input(output); }) return op.aliased_input(output);
      return -1;
    }
    std::vector<bool> row_inputs(const Types& inputs) const override {
      if constexpr (requires { op.row_inputs(inputs); }) return op.row_inputs(inputs);
      return {};
    }
    double flops(const Types& inputs) const override {
      if constexpr (requires { op.flops(inputs); }) return op.flops(inputs);
      return 0;
    }
    double cut(Types& inputs, int64_t max_bytes, double max_flops) const override {
      if constexpr (requires { op.cut(inputs, max_bytes, max_flops); }) return op.cut(inputs, max_bytes, max_flops);
      return 1;
    }
    T op;
  };

  std::shared_ptr<const Concept> self_;
};

// One entry of the list of op kinds: how to parse the attributes behind its name.
struct OpEntry {
  std::string_view name;
  AnyOp (*parse)(Lexer& lexer);
};

template <OpKind T>
constexpr OpEntry op_entry() {
  return {T::name, [](Lexer& lexer) { return AnyOp(parse_fields<T>(lexer)); }};
}

// The op kinds, in the order of op_list.cpp.
std::span<const OpEntry> op_list();
// Parses `{…}` or nothing for the op called `name`; an unknown name is an Error that names the nearest known one.
AnyOp parse_op(std::string_view name, Lexer& lexer);

// --- checks for typing rules ----------------------------------------------------------------------------------------

// Throws an Error unless there are between `least` and `most` inputs.
void check_input_count(const Types& inputs, size_t least, size_t most);
// Throws an Error that says `what` and prints the type, unless `holds`.
void check_type(bool holds, const TensorType& type, std::string_view what);

}  // namespace ingot
