#include "tune/check_bounds.h"

#include <algorithm>
#include <cmath>

#include "ops/attention.h"
#include "ops/experts.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pointwise_chain.h"
#include "ops/rope.h"
#include "ops/sample.h"

namespace ingot {

namespace {

constexpr double kU = 0x1p-24;   // the unit roundoff of f32
constexpr double kSlope = 1.13;  // the steepest slope of any activation function
constexpr double kDeviations = 3;
constexpr double kExact = -1;  // as an error: the result is a copy

double unit_roundoff(DType dtype) {
  if (dtype == DType::kBF16) return 0x1p-8;
  if (dtype == DType::kF16) return 0x1p-11;
  return dtype == DType::kF32 ? kU : 0;
}

// What flushing a denormal, or rounding one, may cost.
double tiny(DType dtype) { return dtype == DType::kF16 ? 0x1p-24 : 0x1p-126; }

// The errors of a case before its results are stored, by output and element.
struct Case {
  const Problem& problem;
  const HostTensors& in;
  const HostTensors& out;
  DType compute;
  std::vector<std::vector<double>> errors;

  double value(size_t output, size_t i) const { return out[output].values[i]; }
  // The roundoff of operands that are wider than the compute dtype.
  double operand_roundoff(DType dtype) const {
    return unit_roundoff(dtype) < unit_roundoff(compute) ? unit_roundoff(compute) : 0;
  }
  template <class F>
  void each(size_t output, F f) {
    for (size_t i = 0; i < errors[output].size(); ++i) errors[output][i] = f(i);
  }
  void copies() {
    for (std::vector<double>& output : errors) std::fill(output.begin(), output.end(), kExact);
  }
};

struct Dot {
  double sum = 0, squares = 0, absolute = 0;
};

Dot dot(const double* a, const double* b, int64_t count) {
  Dot dot;
  for (int64_t i = 0; i < count; ++i) {
    double product = a[i] * b[i];
    dot.sum += product;
    dot.squares += product * product;
    dot.absolute += std::abs(product);
  }
  return dot;
}

double sum_error(const Dot& dot, int64_t count) {
  return kDeviations * kU * std::sqrt(static_cast<double>(count)) * (std::sqrt(dot.squares) + std::abs(dot.sum));
}

// `a` and `b` are the roundoffs of the two operands, 0 when they are used as they are.
double operand_error(const Dot& dot, double a, double b) {
  return std::min((a + b) * dot.absolute, kDeviations * std::sqrt((a * a + b * b) * dot.squares));
}

// The error of function(x) in f32 when x has `error`.
double function_error(ActivationFunction function, double x, double error) {
  if (function == ActivationFunction::kNone || function == ActivationFunction::kRelu) return error;
  bool bounded = function == ActivationFunction::kTanh || function == ActivationFunction::kSigmoid;
  return kSlope * error + 8 * kU * (bounded ? 1 : std::abs(x));
}

void matmul(Case& c) {
  const Matmul& op = *c.problem.op.as<Matmul>();
  const HostTensor &x = c.in[0], &w = c.in[1];
  int64_t k = x.size(1), n = op.gated ? w.size(0) / 2 : w.size(0);
  double a = c.operand_roundoff(x.type.dtype), b = c.operand_roundoff(w.type.dtype);
  struct Feature {
    double value, error;
  };
  auto feature = [&](int64_t row, int64_t column) {
    Dot products = dot(x.values.data() + row * k, w.values.data() + column * k, k);
    double bias = op.bias ? c.in[2].values[static_cast<size_t>(column)] : 0, z = products.sum + bias;
    return Feature{z, sum_error(products, k) + operand_error(products, a, b) + kU * std::abs(z)};
  };
  c.each(0, [&](size_t i) {
    int64_t row = static_cast<int64_t>(i) / n, column = static_cast<int64_t>(i) % n;
    Feature gate = feature(row, column);
    double error = function_error(op.function, gate.value, gate.error);
    if (op.gated) {
      Feature up = feature(row, n + column);
      error = error * (std::abs(up.value) + up.error) + up.error * std::abs(apply(op.function, gate.value));
    }
    return op.residual || op.gated ? error + kU * std::abs(c.value(0, i)) : error;
  });
}

double norm_roundoff(double size) { return kU * (8 + std::sqrt(size)); }

void rms_norm(Case& c) {
  double relative = norm_roundoff(static_cast<double>(c.in[1].values.size()));
  c.each(0, [&](size_t i) { return relative * std::abs(c.value(0, i)); });
}

// The errors of output `output`, the layer norm of `x`, each of whose elements deviates by up to `input_roundoff`.
void layer_norm(Case& c, size_t output, const HostTensor& x, double epsilon, double input_roundoff) {
  const std::vector<double>&gamma = c.in[c.in.size() - 2].values, &beta = c.in.back().values;
  size_t size = gamma.size();
  for (size_t begin = 0; begin < x.values.size(); begin += size) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < size; ++i) sum += x.values[begin + i], squares += x.values[begin + i] * x.values[begin + i];
    double h = static_cast<double>(size), mean = sum / h, rms = std::sqrt(squares / h);
    double root = std::sqrt(std::max(0.0, squares / h - mean * mean) + epsilon);
    double loss = rms / root;  // digits lost by subtracting the mean
    for (size_t i = 0; i < size; ++i) {
      double value = std::abs(x.values[begin + i]);
      double error = norm_roundoff(h) * (value + rms) * (1 + loss * loss) / 2;
      error += input_roundoff * (value + kDeviations * rms / std::sqrt(h));
      c.errors[output][begin + i] = error / root * std::abs(gamma[i]) + 2 * kU * std::abs(beta[i]);
    }
  }
}

// A kernel may norm the sum as it is or as it is stored.
double sum_roundoff(const Case& c) {
  double roundoff = unit_roundoff(c.out[0].type.dtype);
  return roundoff > kU ? roundoff : 0;
}

void relative_f32(Case& c, size_t output) {
  c.each(output, [&](size_t i) { return kU * std::abs(c.value(output, i)); });
}

void add_rms_norm(Case& c) {
  relative_f32(c, 0);
  double relative = norm_roundoff(static_cast<double>(c.in[2].values.size())) + sum_roundoff(c);
  c.each(1, [&](size_t i) { return relative * std::abs(c.value(1, i)); });
}

void add_layer_norm(Case& c) {
  relative_f32(c, 0);
  layer_norm(c, 1, c.out[0], c.problem.op.as<AddLayerNorm>()->epsilon, sum_roundoff(c));
}

void soft_cap(Case& c) {
  double cap = c.problem.op.as<SoftCap>()->cap;
  c.each(0, [&](size_t) { return 8 * kU * cap; });
}

void activation(Case& c) {
  ActivationFunction function = c.problem.op.as<Activation>()->function;
  c.each(0, [&](size_t i) { return function_error(function, c.in[0].values[i], 0); });
}

void gated_activation(Case& c) {
  ActivationFunction function = c.problem.op.as<GatedActivation>()->function;
  size_t n = c.out[0].values.size() == 0 ? 1 : static_cast<size_t>(c.out[0].size(1));
  c.each(0, [&](size_t i) {
    size_t both = i / n * 2 * n + i % n;
    double gate = c.in.size() == 2 ? c.in[0].values[i] : c.in[0].values[both];
    double up = c.in.size() == 2 ? c.in[1].values[i] : c.in[0].values[both + n];
    return function_error(function, gate, 0) * std::abs(up) + kU * std::abs(c.value(0, i));
  });
}

// Each step carries the errors of those before it on and adds its own.
void pointwise_chain(Case& c) {
  HostTensor value = c.in[0];
  size_t next = 1;
  for (const AnyOp& step : parse_chain_steps(c.problem.op.as<PointwiseChain>()->steps)) {
    HostTensors operands = {value};
    if (takes_operand(step)) operands.push_back(c.in[next++]);
    HostTensor result = step.evaluate(operands, false)[0];
    c.each(0, [&](size_t i) {
      double error = c.errors[0][i], last_operation = kU * std::abs(result.values[i]);
      if (const Activation* op = step.as<Activation>()) return function_error(op->function, value.values[i], error);
      if (const SoftCap* op = step.as<SoftCap>()) return error + 8 * kU * op->cap;
      if (const Scale* op = step.as<Scale>()) return error * std::abs(op->factor) + last_operation;
      if (step.is<Cast>()) return error;
      if (step.is<Add>()) return error + last_operation;
      const std::vector<double>& b = operands[1].values;
      return error * std::abs(b[i % b.size()]) + last_operation;
    });
    value = std::move(result);
  }
}

void rope_angles(Case& c) {
  double factor = std::abs(c.problem.op.as<RopeAngles>()->attention_factor);
  c.each(0, [&](size_t) { return 4 * kU * factor; });
}

// Adds the errors of rotating `output`, whose heads have `head_size` elements, to the relative errors they had before.
// A rotation preserves the length of a pair, so the exact result tells how large its terms were.
void rotate(Case& c, size_t output, int64_t head_size, bool interleaved, int64_t rotated, double relative) {
  const std::vector<double>& y = c.out[output].values;
  c.each(output, [&](size_t i) {
    int64_t at = static_cast<int64_t>(i) % head_size, half = rotated / 2;
    if (at >= rotated) return relative > 0 ? relative * std::abs(y[i]) : kExact;
    int64_t partner = interleaved ? at ^ 1 : (at < half ? at + half : at - half);
    double length = std::hypot(y[i], y[static_cast<size_t>(static_cast<int64_t>(i) + partner - at)]);
    return (4 * kU + relative) * length;
  });
}

void rope(Case& c) {
  const Rope& op = *c.problem.op.as<Rope>();
  rotate(c, 0, op.head_size, op.interleaved, c.in[1].size(1), 0);
}

void rope_kv_write(Case& c) {
  const RopeKvWrite& op = *c.problem.op.as<RopeKvWrite>();
  const HostTensor &k = c.in[2], &slots = c.in[4];
  int64_t head_size = k.size(3), page_size = k.size(2), rotated = c.in[1].size(1);
  double relative = op.norm ? norm_roundoff(static_cast<double>(head_size)) : 0;
  rotate(c, 0, head_size, op.interleaved, rotated, relative);
  rotate(c, 1, head_size, op.interleaved, rotated, relative);
  // Slots that no token writes keep their bytes, and so do all values.
  std::vector<bool> written(static_cast<size_t>(k.size(0) * page_size));
  for (double slot : slots.values)
    if (slot >= 0) written[static_cast<size_t>(slot)] = true;
  for (size_t i = 0; i < c.errors[1].size(); ++i) {
    int64_t vector = static_cast<int64_t>(i) / head_size;
    int64_t slot = vector / (k.size(1) * page_size) * page_size + vector % page_size;
    if (!written[static_cast<size_t>(slot)]) c.errors[1][i] = kExact;
  }
  std::fill(c.errors[2].begin(), c.errors[2].end(), kExact);
}

// Scores have independent errors of at most `score_error`; weights are rounded to the compute dtype.
struct Weighted {
  double score_error = 0;
  std::vector<double> weights;
  std::vector<const double*> values;
};

void add_attention_errors(const Case& c, const Weighted& seen, const double* y, int64_t size, double* errors) {
  double count = static_cast<double>(seen.weights.size());
  double weight_error = kDeviations * c.operand_roundoff(DType::kF32);
  for (int64_t d = 0; d < size; ++d) {
    double spread = 0, squares = 0;
    for (size_t i = 0; i < seen.weights.size(); ++i) {
      double p = seen.weights[i], v = seen.values[i][d];
      spread += p * p * (std::abs(v) + std::abs(y[d])) * (std::abs(v) + std::abs(y[d]));
      squares += p * p * v * v;
    }
    errors[d] = seen.score_error * std::sqrt(spread) + weight_error * std::sqrt(squares) +
                kU * (8 + kDeviations * std::sqrt(count)) * (std::abs(y[d]) + std::sqrt(squares));
  }
}

// Looks at the cache as attention does, for one head of one token.
Weighted weigh(const Case& c, const double* query, size_t sequence, int64_t position, int64_t kv_head) {
  const Attention& op = *c.problem.op.as<Attention>();
  const HostTensor &k = c.in[1], &v = c.in[2];
  int64_t page_size = k.size(2), head_size = k.size(3);
  const double* pages = c.in[6].values.data() + static_cast<int64_t>(c.in[5].values[sequence]);
  int64_t start = static_cast<int64_t>(c.in[7].values[sequence]);
  int64_t first = op.window > 0 ? std::max<int64_t>(0, position - op.window + 1) : 0;
  double q_roundoff = c.operand_roundoff(c.in[0].type.dtype), k_roundoff = c.operand_roundoff(k.type.dtype);
  Weighted seen;
  for (int64_t p = first; p <= position; ++p) {
    int64_t page = static_cast<int64_t>(pages[(p - start) / page_size]);
    int64_t vector = (page * k.size(1) + kv_head) * page_size + (p - start) % page_size;
    Dot score = dot(query, k.values.data() + vector * head_size, head_size);
    double error = sum_error(score, head_size) + operand_error(score, q_roundoff, k_roundoff), s = score.sum * op.scale;
    error = error * op.scale + 2 * kU * std::abs(s);
    if (op.soft_cap > 0) {
      s = op.soft_cap * std::tanh(s / op.soft_cap);
      error += 8 * kU * op.soft_cap;
    }
    seen.score_error = std::max(seen.score_error, error);
    seen.weights.push_back(s);
    seen.values.push_back(v.values.data() + vector * v.size(3));
  }
  double greatest = *std::max_element(seen.weights.begin(), seen.weights.end()), sum = 0;
  seen.score_error += 2 * kU * std::abs(greatest);
  for (double& weight : seen.weights) sum += weight = std::exp(weight - greatest);
  for (double& weight : seen.weights) weight /= sum;
  return seen;
}

void attention(Case& c) {
  const Attention& op = *c.problem.op.as<Attention>();
  const HostTensor &q = c.in[0], &k = c.in[1];
  int64_t head_size = k.size(3), v_head_size = c.in[2].size(3), group = op.heads / k.size(1);
  for (size_t s = 0; s < c.in[4].values.size(); ++s) {
    int64_t begin = static_cast<int64_t>(c.in[3].values[s]), end = static_cast<int64_t>(c.in[3].values[s + 1]);
    int64_t context = static_cast<int64_t>(c.in[4].values[s]);
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t head = 0; head < op.heads; ++head) {
        const double* query = q.values.data() + (t * op.heads + head) * head_size;
        Weighted seen = weigh(c, query, s, context - (end - t), head / group);
        int64_t at = (t * op.heads + head) * v_head_size;
        add_attention_errors(c, seen, c.out[0].values.data() + at, v_head_size, c.errors[0].data() + at);
      }
    }
  }
}

// Ids are exact: the input maker keeps logits apart or equal.
void route(Case& c) {
  double largest = 0;
  for (double logit : c.in[0].values) largest = std::max(largest, std::abs(logit));
  double relative = kU * (8 + std::sqrt(static_cast<double>(c.in[0].size(1))) + 2 * largest);
  std::fill(c.errors[0].begin(), c.errors[0].end(), kExact);
  c.each(1, [&](size_t i) { return relative * std::abs(c.value(1, i)); });
}

// The inner values of one expert for one token, and their errors.
struct Inner {
  std::vector<double> values, errors;
};

Inner inner_values(const Case& c, const double* x, int64_t expert) {
  const ExpertMlp& op = *c.problem.op.as<ExpertMlp>();
  const HostTensor& gate_up = c.in[3];
  int64_t h = gate_up.size(2), n = gate_up.size(1) / 2;
  double a = c.operand_roundoff(c.in[0].type.dtype), b = c.operand_roundoff(gate_up.type.dtype);
  Inner inner;
  for (int64_t i = 0; i < n; ++i) {
    Dot gate = dot(gate_up.values.data() + (expert * 2 * n + i) * h, x, h);
    Dot up = dot(gate_up.values.data() + (expert * 2 * n + n + i) * h, x, h);
    double gate_error = function_error(op.function, gate.sum, sum_error(gate, h) + operand_error(gate, a, b));
    double up_error = sum_error(up, h) + operand_error(up, a, b), activated = apply(op.function, gate.sum);
    inner.values.push_back(activated * up.sum);
    inner.errors.push_back(gate_error * std::abs(up.sum) + up_error * std::abs(activated) +
                           kU * std::abs(activated * up.sum));
  }
  return inner;
}

void expert_mlp(Case& c) {
  const HostTensor &x = c.in[0], &ids = c.in[1], &weights = c.in[2], &down = c.in[4];
  int64_t h = x.size(1), top_k = ids.size(1), n = down.size(2);
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t j = 0; j < top_k; ++j) {
      int64_t expert = static_cast<int64_t>(ids.values[static_cast<size_t>(t * top_k + j)]);
      double weight = std::abs(weights.values[static_cast<size_t>(t * top_k + j)]);
      // The inner values may be rounded to the compute dtype: an operand of the second product like any other.
      double inner_roundoff = c.operand_roundoff(DType::kF32), down_roundoff = c.operand_roundoff(down.type.dtype);
      Inner inner = inner_values(c, x.values.data() + t * h, expert);
      for (int64_t i = 0; i < h; ++i) {
        const double* row = down.values.data() + (expert * h + i) * n;
        Dot sum = dot(row, inner.values.data(), n), carried = dot(row, inner.errors.data(), n);
        double error = sum_error(sum, n) + operand_error(sum, inner_roundoff, down_roundoff);
        error += std::sqrt(carried.squares) + 2 * kU * std::abs(sum.sum);
        c.errors[0][static_cast<size_t>(t * h + i)] += weight * error;
      }
    }
    for (int64_t i = 0; i < h; ++i) {
      size_t at = static_cast<size_t>(t * h + i);
      c.errors[0][at] += kU * static_cast<double>(top_k) * std::abs(c.value(0, at));
    }
  }
}

// Adds `shift` to every element of a column of a matrix, within 0 … most.
void shift_column(HostTensor& matrix, int64_t column, double shift, double most) {
  for (size_t i = static_cast<size_t>(column); i < matrix.values.size(); i += static_cast<size_t>(matrix.size(1)))
    matrix.values[i] = std::clamp(matrix.values[i] + shift, 0.0, most);
}

// What a log-probability may be wrong by: the exponents and their sum, the logarithm, and the subtractions.
void logprob_errors(Case& c) {
  constexpr double kUnit = 0x1p-40;  // sums of weights may be sums of multiples of twice that
  const int64_t vocab = c.in[0].size(1), columns = c.out[3].size(1);
  for (int64_t row = 0; row < c.out[3].size(0); ++row) {
    const double* logits = c.in[0].values.data() + row * vocab;
    double max = *std::max_element(logits, logits + vocab), sum = 0, lost = 0;
    for (int64_t i = 0; i < vocab; ++i) {
      double weight = std::exp(logits[i] - max);
      sum += weight;
      if (weight > 0) lost += weight * kU * (8 + max - logits[i]) + kUnit;
    }
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i)
      c.errors[3][static_cast<size_t>(i)] =
          lost / sum + kU * (2 + 4 * std::log(sum) + 2 * std::abs(c.value(3, static_cast<size_t>(i))));
  }
}

// A row must give the same token unless a change of its random number, its top_p or its min_p by the rounding of the
// sums gives another one: then the choice lies between two tokens, and the row says nothing.
void sample(Case& c) {
  constexpr double kShift = 1e-5, kMostHigh = 0x1p31 - 1;
  c.copies();
  logprob_errors(c);
  for (int variant = 0; variant < 4; ++variant) {
    HostTensors in = c.in;
    double shift = variant % 2 == 0 ? kShift : -kShift;
    if (variant < 2) {
      shift_column(in[2], sample::kRandomHigh, std::round(shift * 0x1p31), kMostHigh);
    } else {
      shift_column(in[1], sample::kTopP, shift, 1);
      shift_column(in[1], sample::kMinP, shift * 0.01, 1);
    }
    HostTensor ids = c.problem.op.evaluate(in, false)[0];
    for (size_t row = 0; row < ids.values.size(); ++row) {
      if (ids.values[row] == c.value(0, row)) continue;
      double seat = c.in[2].values[row * sample::kChoices + sample::kSeat];
      c.errors[0][row] = c.errors[1][static_cast<size_t>(seat)] = INFINITY;
      c.errors[3][row * static_cast<size_t>(c.out[3].size(1))] = INFINITY;
    }
  }
}

void one_operation(Case& c) { relative_f32(c, 0); }
void copy(Case& c) { c.copies(); }
void plain_layer_norm(Case& c) { layer_norm(c, 0, c.in[0], c.problem.op.as<LayerNorm>()->epsilon, 0); }

struct BoundRule {
  std::string_view op;
  void (*fill)(Case& c);
};
constexpr BoundRule kRules[] = {
    {"matmul", matmul},
    {"rms_norm", rms_norm},
    {"layer_norm", plain_layer_norm},
    {"add_rms_norm", add_rms_norm},
    {"add_layer_norm", add_layer_norm},
    {"add", one_operation},
    {"multiply", one_operation},
    {"scale", one_operation},
    {"soft_cap", soft_cap},
    {"activation", activation},
    {"gated_activation", gated_activation},
    {"cast", copy},
    {"pointwise_chain", pointwise_chain},
    {"embedding", copy},
    {"gather_rows", copy},
    {"slice", copy},
    {"rope_angles", rope_angles},
    {"rope", rope},
    {"kv_write", copy},
    {"attention", attention},
    {"rope_kv_write", rope_kv_write},
    {"route", route},
    {"expert_mlp", expert_mlp},
    {"sample", sample},
    {"next_ids", copy},
};

}  // namespace

Bounded evaluate_bounded(const Problem& problem, const HostTensors& inputs, DType compute) {
  Bounded result{problem.op.evaluate(inputs, false), {}};
  Case c{problem, inputs, result.values, compute, {}};
  for (const HostTensor& output : result.values) c.errors.emplace_back(output.values.size());
  bool found = false;
  for (const BoundRule& rule : kRules)
    if (rule.op == problem.op.name()) rule.fill(c), found = true;
  if (!found)
    fail(ErrorCode::kRuntime, "there is no error bound for {}; add one in check_bounds.cpp", problem.op.name());
  for (size_t o = 0; o < result.values.size(); ++o) {
    HostTensor& output = result.values[o];
    DType dtype = output.type.dtype;
    for (size_t i = 0; i < output.values.size(); ++i) {
      double error = c.errors[o][i];
      double& value = output.values[i];
      if (error < 0) {
        c.errors[o][i] = 0;
        value = rounded(dtype, value);
      } else {
        c.errors[o][i] = error + unit_roundoff(dtype) * (std::abs(value) + error) + tiny(dtype);
      }
    }
  }
  result.bounds = std::move(c.errors);
  return result;
}

}  // namespace ingot
