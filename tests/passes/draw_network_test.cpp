#include <gtest/gtest.h>

#include <random>

#include "ir/verify.h"
#include "ops/attention.h"
#include "ops/indexing.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/rope.h"
#include "passes/random_network.h"

namespace ingot::testing {

namespace {

constexpr int64_t kHidden = 8, kHeadSize = 4, kKvHeads = 2, kHeads = 4, kInner = 6;
constexpr int64_t kQWidth = kHeads * kHeadSize, kKvWidth = kKvHeads * kHeadSize;

class Drawer {
 public:
  explicit Drawer(uint64_t seed) : random_(seed) {}

  Network draw() {
    network_.groups = {{"full", 4, 0}};
    activations_ = chance(80) ? DType::kF32 : DType::kBF16;
    stream_ = {input("x"), input("y")};
    int64_t blocks = 2 + below(6);
    for (int64_t i = 0; i < blocks; ++i) draw_block(i);
    int64_t outputs = 1 + below(3);
    network_.add_output("last", stream_.back());
    if (chance(60)) network_.add_output("logits", head());
    for (int64_t i = 0; i < outputs; ++i) {
      Value value = any_op();
      network_.add_output(format("out{}", i), chance(20) ? picked_rows(value) : value);
    }
    for (const auto& [name, value] : states_) network_.add_output(name, value);
    verify(network_);
    return std::move(network_);
  }

 private:
  int64_t below(int64_t limit) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit)); }
  bool chance(int percent) { return below(100) < percent; }
  template <class T>
  T one_of(std::vector<T> choices) {
    return choices[static_cast<size_t>(below(static_cast<int64_t>(choices.size())))];
  }

  Value input(const std::string& name) { return network_.add_input(name, {activations_, {"tokens", kHidden}, ""}); }
  Value index_input(const std::string& name, Dim size) {
    Value found = network_.find(name);
    return found.node >= 0 ? found : network_.add_input(name, {DType::kI32, {size}, ""});
  }
  Value add(AnyOp op, Values inputs) {
    return network_.add_one(std::move(op), std::move(inputs), format("n{}", labels_++));
  }
  int64_t width(Value x) const { return network_.type(x).shape[1].constant(); }
  const TensorType& type(Value x) const { return network_.type(x); }

  // A value of the residual stream; mostly the last.
  Value stream() { return chance(70) ? stream_.back() : one_of(stream_); }

  // Any float matrix that is not a version of a state.
  Value any_op() {
    std::vector<Value> values;
    for (size_t i = 0; i < network_.nodes().size(); ++i) {
      const Node& node = network_.nodes()[i];
      if (node.kind != NodeKind::kOp) continue;
      for (size_t result = 0; result < node.types.size(); ++result)
        if (node.types[result].rank() == 2 && is_float(node.types[result].dtype))
          values.push_back({static_cast<int>(i), static_cast<int>(result)});
    }
    return values.empty() ? stream_.back() : one_of(values);
  }

  Value weight(Shape shape, DType dtype) {
    std::string name = format("w{}", weights_++);
    std::string leaf = name;
    if (chance(10)) {
      leaf = "shared";
      for (const Dim& dim : shape) leaf += format(".{}", dim.offset);
    }
    Recipe recipe = recipe::tensor(leaf);
    if (chance(50)) recipe = recipe::cast(recipe, dtype);
    return network_.add_weight(name, recipe, {dtype, std::move(shape), ""});
  }
  DType matrix_dtype() { return one_of<DType>({DType::kBF16, DType::kBF16, DType::kF32, DType::kF16}); }
  Value vector(int64_t size, DType narrow) { return weight({size}, chance(85) ? DType::kF32 : narrow); }
  Value gamma(int64_t size) { return weight({size}, DType::kF32); }
  ActivationFunction function() {
    return one_of<ActivationFunction>({ActivationFunction::kSilu, ActivationFunction::kGelu, ActivationFunction::kRelu,
                                       ActivationFunction::kNone, ActivationFunction::kTanh});
  }
  float factor() { return one_of<float>({1.0f, 0.5f, 0.3f, 2.0f, -1.5f, 8.0f}); }

  // A weight, sometimes behind ops that can be folded.
  Value folded_weight(Shape shape, DType dtype) {
    Value w;
    if (shape.size() == 2 && chance(10)) {
      Shape wider = shape;
      wider[1] = Dim(shape[1].offset + 2);
      w = add(Slice{1, shape[1].offset + 1}, {weight(wider, dtype)});
    } else if (chance(10)) {
      w = add(Cast{dtype}, {weight(shape, matrix_dtype())});
    } else {
      w = weight(shape, dtype);
    }
    if (chance(8)) w = add(Scale{factor()}, {w});
    if (chance(5) && shape.size() == 2) w = add(Multiply{}, {w, weight({shape[1]}, DType::kF32)});
    return w;
  }

  // x · wᵀ, with or without what surrounds it. `style` makes several alike: -1 draws one.
  Value linear(Value x, int64_t outputs, int style = -1) {
    if (style < 0) style = static_cast<int>(below(6));
    if (chance(8)) x = add(Scale{factor()}, {x});
    DType dtype = chance(85) ? DType::kBF16 : matrix_dtype();
    Value w = chance(5) && last_weight_.node >= 0 && network_.type(last_weight_).shape == Shape{outputs, width(x)}
                  ? last_weight_
                  : folded_weight({outputs, width(x)}, dtype);
    last_weight_ = w;
    Value y;
    if (style == 1) {
      y = add(Matmul{.bias = true}, {x, w, vector(outputs, type(x).dtype)});
    } else {
      y = add(Matmul{}, {x, w});
    }
    if (style == 2 || style == 3) y = add(Add{}, {y, vector(outputs, type(y).dtype)});
    if (chance(8)) y = add(Scale{factor()}, {y});
    return y;
  }
  int shared_style() { return chance(85) ? static_cast<int>(below(4)) : -1; }

  Value norm(Value x) {
    float epsilon = one_of<float>({1e-5f, 1e-6f});
    if (chance(70)) return add(RmsNorm{epsilon}, {x, gamma(chance(90) ? width(x) : width(x) / 2)});
    return add(LayerNorm{epsilon}, {x, gamma(width(x)), gamma(width(x))});
  }

  void residual(Value x, Value y) { stream_.push_back(chance(80) ? add(Add{}, {x, y}) : add(Add{}, {y, x})); }

  Value maybe_noise(Value x) {
    switch (below(12)) {
      case 0:
        return add(Scale{factor()}, {x});
      case 1:
        return add(Scale{factor()}, {add(Scale{factor()}, {x})});
      case 2:
        return add(Cast{type(x).dtype}, {x});
      case 3:
        return add(Slice{0, width(x)}, {x});
      case 4:
        return add(Activation{ActivationFunction::kNone}, {x});
      default:
        return x;
    }
  }

  void gated_mlp() {
    Value x = stream(), n = maybe_noise(norm(x));
    Value gate, up;
    if (chance(60)) {
      int style = shared_style();
      gate = linear(n, kInner, style);
      up = linear(chance(92) ? n : stream(), kInner, style);
    } else {
      Value both = linear(n, 2 * kInner);
      gate = add(Slice{0, kInner}, {both});
      up = add(Slice{kInner, 2 * kInner}, {both});
      if (chance(20)) std::swap(gate, up);
    }
    if (chance(92)) gate = add(Activation{function()}, {gate});
    if (chance(5)) network_.add_output(format("gate{}", labels_++), gate);
    Value product = chance(70) ? add(Multiply{}, {gate, up}) : add(Multiply{}, {up, gate});
    residual(x, linear(product, kHidden));
  }

  void plain_mlp() {
    Value x = stream();
    Value h = add(Activation{function()}, {linear(norm(x), kInner)});
    if (chance(30)) return residual(add(Add{}, {x, linear(h, kHidden)}), linear(norm(x), kHidden));
    residual(x, linear(h, kHidden));
  }

  Value angles() {
    if (angles_.node >= 0 && chance(85)) return angles_;
    int64_t rotated = chance(70) ? kHeadSize : kHeadSize / 2;
    recipe::RopeFrequencies parameters;
    parameters.theta = static_cast<double>(100 + below(1000));
    parameters.rotary_dim = rotated;
    Value frequencies = network_.add_weight(format("w{}", weights_++), recipe::rope_frequencies(parameters),
                                            {DType::kF32, {rotated / 2}, ""});
    return angles_ = add(RopeAngles{}, {index_input("positions", "tokens"), frequencies});
  }

  // q, k and v from one projection or from three.
  Values projections(Value n) {
    if (chance(35)) {
      Value qkv = linear(n, kQWidth + 2 * kKvWidth);
      Value q = add(Slice{0, kQWidth}, {qkv}), k = add(Slice{kQWidth, kQWidth + kKvWidth}, {qkv});
      Value v = add(Slice{kQWidth + kKvWidth, kQWidth + 2 * kKvWidth}, {qkv});
      if (chance(10)) std::swap(k, v);
      return {q, k, v};
    }
    int style = shared_style();
    Value q = linear(n, kQWidth, style), k = linear(n, kKvWidth, style);
    Value v = chance(92) ? linear(chance(95) ? n : stream(), kKvWidth, style) : k;
    return {q, k, v};
  }

  void attention() {
    Value x = stream();
    Values qkv = projections(maybe_noise(norm(x)));
    bool norm_q = chance(40), norm_k = chance(92) ? norm_q : !norm_q, rotate = chance(85);
    for (int i = 0; i < 2; ++i) {
      Value& value = qkv[static_cast<size_t>(i)];
      if (i == 0 ? norm_q : norm_k) {
        float epsilon = chance(95) ? 1e-6f : 1e-5f;
        value = add(RmsNorm{epsilon}, {value, gamma(chance(95) ? kHeadSize : width(value))});
      }
      if (rotate) value = add(Rope{kHeadSize, chance(3)}, {value, angles()});
    }
    Values states = write_states(qkv);
    Value attended =
        add(Attention{.heads = kHeads, .scale = 0.5f, .window = chance(20) ? 3 : 0},
            {qkv[0], states[0], states[1], index_input("query_starts", Dim("sequences", 1, 1)),
             index_input("context_lengths", "sequences"), index_input("page_starts.full", Dim("sequences", 1, 1)),
             index_input("page_list.full", "pages.full"), index_input("context_starts.full", "sequences")});
    residual(x, chance(30) ? norm(linear(attended, kHidden)) : linear(attended, kHidden));
  }

  Values write_states(const Values& qkv) {
    int64_t layer = layers_++;
    Value slots = index_input("slots.full", "tokens");
    DType dtype = chance(80) ? DType::kF32 : DType::kBF16;
    TensorType type{dtype, {"pool_pages.full", kKvHeads, 4, kHeadSize}, ""};
    Values versions;
    for (int i = 0; i < 2; ++i)
      versions.push_back(network_.add_state(format("{}.{}", layer, i == 0 ? "k" : "v"), type, "full"));
    bool k_first = chance(90), twice = chance(5);
    for (int turn = 0; turn < 2; ++turn) {
      size_t i = static_cast<size_t>(k_first ? turn : 1 - turn);
      versions[i] = add(KvWrite{}, {versions[i], qkv[i + 1], slots});
      if (twice && turn == 0) versions[i] = add(KvWrite{}, {versions[i], qkv[i + 1], slots});
      if (chance(5)) stream_.push_back(add(Activation{function()}, {stream()}));
    }
    for (size_t i = 0; i < 2; ++i) states_.emplace_back(format("{}.{}", layer, i == 0 ? "k" : "v"), versions[i]);
    return versions;
  }

  void pointwise() {
    Value x = stream();
    switch (below(7)) {
      case 0:
        return residual(x, stream());
      case 1:
        stream_.push_back(add(SoftCap{3}, {x}));
        return;
      case 2:
        stream_.push_back(norm(add(Add{}, {x, stream()})));
        return;
      case 3:
        stream_.push_back(add(Multiply{}, {x, vector(kHidden, type(x).dtype)}));
        return;
      case 4: {  // the same twice
        Value w = weight({kHidden, kHidden}, DType::kBF16);
        return residual(add(Activation{}, {add(Matmul{}, {x, w})}), add(Activation{}, {add(Matmul{}, {x, w})}));
      }
      case 5:
        return elementwise_run(x);
      default: {
        Value narrow = add(Cast{one_of<DType>({DType::kBF16, DType::kF16, DType::kF32})}, {x});
        stream_.push_back(add(Cast{activations_}, {chance(50) ? narrow : add(Activation{}, {narrow})}));
      }
    }
  }

  // Elementwise ops one after the other; now and then somebody else reads what stands between two of them.
  void elementwise_run(Value x) {
    for (int64_t left = 2 + below(6); left > 0; --left) {
      if (chance(10)) stream_.push_back(x);
      switch (below(6)) {
        case 0:
          x = add(Scale{factor()}, {x});
          break;
        case 1:
          x = add(SoftCap{3}, {x});
          break;
        case 2:
          x = add(Activation{function()}, {x});
          break;
        case 3:
          x = add(Add{}, chance(50) ? Values{x, stream()} : Values{stream(), x});
          break;
        case 4:
          x = add(Multiply{}, {x, vector(kHidden, type(x).dtype)});
          break;
        default:
          x = add(Cast{activations_}, {add(Cast{DType::kF32}, {x})});
      }
    }
    stream_.push_back(x);
  }

  Value picked_rows(Value x) {
    return add(GatherRows{}, {x, index_input(chance(85) ? "output_rows" : "other_rows", "outputs")});
  }

  // What models end in: a norm of some rows, and a projection that is f32 whatever the activations are.
  Value head() {
    Value x = chance(80) ? norm(picked_rows(stream())) : norm(stream());
    if (activations_ != DType::kF32 || chance(10)) x = add(Cast{DType::kF32}, {x});
    Value logits = linear(x, kInner);
    return chance(20) ? add(SoftCap{3}, {logits}) : logits;
  }

  void draw_block(int64_t) {
    switch (below(7)) {
      case 0:
      case 1:
        return attention();
      case 2:
      case 3:
        return gated_mlp();
      case 4:
        return plain_mlp();
      default:
        return pointwise();
    }
  }

  std::mt19937_64 random_;
  Network network_;
  DType activations_ = DType::kF32;
  Values stream_;
  Value angles_, last_weight_;
  std::vector<std::pair<std::string, Value>> states_;
  int64_t weights_ = 0, labels_ = 0, layers_ = 0;
};

}  // namespace

Network random_network(uint64_t seed) { return Drawer(seed).draw(); }

}  // namespace ingot::testing
