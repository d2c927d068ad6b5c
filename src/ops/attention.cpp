#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include "ops/indexing.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "ops/typing.h"

namespace ingot {

namespace {

// A state [pool_pages, kv_heads, page_size, head_size] whose last three sizes are positive constants.
void check_state(const TensorType& state, std::string_view name) {
  bool fits = is_float(state.dtype) && state.rank() == 4;
  for (size_t axis = 1; fits && axis < 4; ++axis)
    fits = state.shape[axis].is_constant() && state.shape[axis].constant() > 0;
  check_type(fits, state, format("{}, a float state [pool_pages, kv_heads, page_size, head_size],", name));
}

void check_index_vector(const TensorType& type, const Dim& size, std::string_view name) {
  check_type(is_index_vector(type, size), type, format("{}, i32[{}],", name, print(size)));
}

void check_positive(int64_t value, std::string_view name) {
  if (value <= 0) fail(ErrorCode::kRuntime, "found {} = {} where a positive number is needed", name, value);
}

// Where the vector of (page, head, offset) begins in a state's values.
int64_t vector_begin(const HostTensor& state, int64_t page, int64_t head, int64_t offset) {
  return ((page * state.size(1) + head) * state.size(2) + offset) * state.size(3);
}

// What one sequence of a step sees.
struct Sequence {
  int64_t first_token, tokens;  // in the packed list
  int64_t first_position;       // of its first token
  int64_t context_start;        // the position of the first slot of its first listed page
  const double *pages, *pages_end;
};

// Reads and checks sequence s of an attention step.
Sequence sequence_at(const HostTensors& inputs, size_t s) {
  const std::vector<double>&query_starts = inputs[3].values, &page_starts = inputs[5].values;
  int64_t tokens = inputs[0].size(0), pages = inputs[6].size(0);
  int64_t begin = checked_index(query_starts[s], tokens + 1, "the query start");
  int64_t end = checked_index(query_starts[s + 1], tokens + 1, "the query start");
  int64_t first_page = checked_index(page_starts[s], pages + 1, "the page start");
  int64_t last_page = checked_index(page_starts[s + 1], pages + 1, "the page start");
  if (end < begin || last_page < first_page)
    fail(ErrorCode::kRuntime, "sequence {}: found starts that fall where rising ones are needed", s);
  int64_t context = static_cast<int64_t>(inputs[4].values[s]), start = static_cast<int64_t>(inputs[7].values[s]);
  if (context < end - begin || start < 0)
    fail(ErrorCode::kRuntime, "sequence {}: found context length {} and context start {} with {} tokens", s, context,
         start, end - begin);
  const double* list = inputs[6].values.data();
  return {begin, end - begin, context - (end - begin), start, list + first_page, list + last_page};
}

// The page that holds `position`, and its offset there.
std::pair<int64_t, int64_t> locate(const Sequence& sequence, int64_t position, const HostTensor& state) {
  int64_t slot = position - sequence.context_start, page_size = state.size(2);
  if (slot < 0 || slot / page_size >= sequence.pages_end - sequence.pages)
    fail(ErrorCode::kRuntime, "position {} lies on none of the {} listed pages, which begin at position {}", position,
         sequence.pages_end - sequence.pages, sequence.context_start);
  return {checked_index(sequence.pages[slot / page_size], state.size(0), "the page"), slot % page_size};
}

double capped(double score, double soft_cap) { return soft_cap > 0 ? soft_cap * std::tanh(score / soft_cap) : score; }

}  // namespace

Types KvWrite::infer(const Types& inputs) const {
  check_input_count(inputs, 3, 3);
  const TensorType &state = inputs[0], &x = inputs[1], &slots = inputs[2];
  check_state(state, "the state");
  int64_t width = multiplied(state.shape[1].constant(), state.shape[3].constant());
  check_type(is_float_matrix(x) && x.shape[1] == Dim(width), x, format("x, a float matrix [tokens, {}],", width));
  check_index_vector(slots, x.shape[0], "slots");
  return {{state.dtype, state.shape, ""}};
}

HostTensors KvWrite::evaluate(const HostTensors& inputs) const {
  HostTensor state = inputs[0];
  const HostTensor &x = inputs[1], &slots = inputs[2];
  int64_t heads = state.size(1), page_size = state.size(2), head_size = state.size(3);
  for (int64_t i = 0; i < x.size(0); ++i) {
    double value = slots.values[static_cast<size_t>(i)];
    if (value == -1) continue;
    int64_t slot = checked_index(value, state.size(0) * page_size, "the slot");
    for (int64_t head = 0; head < heads; ++head) {
      int64_t begin = vector_begin(state, slot / page_size, head, slot % page_size);
      std::copy_n(x.values.begin() + (i * heads + head) * head_size, head_size, state.values.begin() + begin);
    }
  }
  return {state};
}

Types Attention::infer(const Types& inputs) const {
  check_input_count(inputs, 8, 8);
  const TensorType &q = inputs[0], &k = inputs[1], &v = inputs[2];
  check_positive(heads, "heads");
  if (window < 0) fail(ErrorCode::kRuntime, "found window = {} where 0 or more is needed", window);
  if (!(soft_cap >= 0)) fail(ErrorCode::kRuntime, "found soft_cap = {} where 0 or more is needed", soft_cap);
  check_state(k, "the k state");
  check_state(v, "the v state");
  bool alike = v.shape[0] == k.shape[0] && v.shape[1] == k.shape[1] && v.shape[2] == k.shape[2];
  check_type(alike, v, format("a v state with the pages and heads of the k state {}", print(k)));
  check_type(heads % k.shape[1].constant() == 0, k, format("a k state whose kv_heads divide {} heads", heads));
  int64_t width = multiplied(heads, k.shape[3].constant());
  check_type(is_float_matrix(q) && q.shape[1] == Dim(width), q, format("q, a float matrix [tokens, {}],", width));
  check_type(is_index_vector(inputs[4]), inputs[4], "context_lengths, i32[sequences],");
  const Dim& sequences = inputs[4].shape[0];
  check_index_vector(inputs[3], plus_one(sequences), "query_starts");
  check_index_vector(inputs[5], plus_one(sequences), "page_starts");
  check_type(is_index_vector(inputs[6]), inputs[6], "page_list, i32[pages],");
  check_index_vector(inputs[7], sequences, "context_starts");
  return {{q.dtype, {q.shape[0], Dim(multiplied(heads, v.shape[3].constant()))}, ""}};
}

HostTensors Attention::evaluate(const HostTensors& inputs) const {
  const HostTensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  int64_t head_size = k.size(3), v_head_size = v.size(3), heads_per_kv = heads / k.size(1);
  HostTensor y(TensorType{q.type.dtype, {q.size(0), heads * v_head_size}, ""});
  std::vector<double> scores;
  for (size_t s = 0; s < inputs[4].values.size(); ++s) {
    Sequence sequence = sequence_at(inputs, s);
    for (int64_t j = 0; j < sequence.tokens; ++j) {
      int64_t last = sequence.first_position + j;
      int64_t first = window > 0 ? std::max<int64_t>(0, last - window + 1) : 0;
      for (int64_t head = 0; head < heads; ++head) {
        const double* query = q.values.data() + ((sequence.first_token + j) * heads + head) * head_size;
        double* result = y.values.data() + ((sequence.first_token + j) * heads + head) * v_head_size;
        scores.clear();
        for (int64_t p = first; p <= last; ++p) {
          auto [page, offset] = locate(sequence, p, k);
          const double* key = k.values.data() + vector_begin(k, page, head / heads_per_kv, offset);
          double score = 0;
          for (int64_t d = 0; d < head_size; ++d) score += query[d] * key[d];
          scores.push_back(capped(score * scale, soft_cap));
        }
        double greatest = *std::max_element(scores.begin(), scores.end()), sum = 0;
        for (double& score : scores) sum += score = std::exp(score - greatest);
        for (int64_t p = first; p <= last; ++p) {
          auto [page, offset] = locate(sequence, p, v);
          const double* value = v.values.data() + vector_begin(v, page, head / heads_per_kv, offset);
          double weight = scores[static_cast<size_t>(p - first)] / sum;
          for (int64_t d = 0; d < v_head_size; ++d) result[d] += weight * value[d];
        }
      }
    }
  }
  return {y};
}

// Contexts are data; the types tell only how many pages there are. Counts as if they were full and shared equally.
double Attention::flops(const Types& inputs) const {
  auto size = [&](size_t input, size_t axis) { return static_cast<double>(inputs[input].shape[axis].constant()); };
  double sequences = std::max(1.0, size(4, 0));
  double context = size(6, 0) * size(1, 2) / sequences, chunk = size(0, 0) / sequences;
  double seen = std::max(1.0, context - (chunk - 1) / 2);
  if (window > 0) seen = std::min(seen, static_cast<double>(window));
  return 2 * size(0, 0) * static_cast<double>(heads) * (size(1, 3) + size(2, 3)) * seen;
}

Types RopeKvWrite::infer(const Types& inputs) const {
  size_t count = norm ? 7 : 5;
  check_input_count(inputs, count, count);
  const TensorType &qkv = inputs[0], &angles = inputs[1], &k = inputs[2], &v = inputs[3], &slots = inputs[4];
  check_positive(heads, "heads");
  check_state(k, "the k state");
  check_state(v, "the v state");
  check_type(v.shape == k.shape, v, format("a v state of the k state's shape {}", print(k)));
  int64_t kv_heads = k.shape[1].constant(), head_size = k.shape[3].constant();
  int64_t kv_width = multiplied(kv_heads, multiplied(2, head_size)), q_width = multiplied(heads, head_size);
  int64_t width = 0;
  bool overflows = __builtin_add_overflow(q_width, kv_width, &width);
  check_type(!overflows && heads % kv_heads == 0, k, format("a k state whose kv_heads divide {} heads", heads));
  check_type(is_float_matrix(qkv) && qkv.shape[1] == Dim(width), qkv,
             format("qkv, a float matrix [tokens, {}],", width));
  bool fits = is_wide_float(angles.dtype) && angles.rank() == 2 && angles.shape[0] == qkv.shape[0] &&
              holds_groups_of(angles, 2) && angles.shape[1].constant() <= head_size;
  check_type(fits, angles, format("angles, f32[{}, r] with r even and at most {},", print(qkv.shape[0]), head_size));
  check_index_vector(slots, qkv.shape[0], "slots");
  for (size_t i = 5; i < count; ++i)
    check_type(is_wide_vector(inputs[i], Dim(head_size)), inputs[i], format("a gamma, f32[{}],", head_size));
  return {{qkv.dtype, {qkv.shape[0], Dim(q_width)}, ""}, {k.dtype, k.shape, ""}, {v.dtype, v.shape, ""}};
}

// Is the composition that the fusing rewrite replaces.
HostTensors RopeKvWrite::evaluate(const HostTensors& inputs) const {
  const HostTensor &qkv = inputs[0], &angles = inputs[1], &slots = inputs[4];
  int64_t kv_heads = inputs[2].size(1), head_size = inputs[2].size(3);
  int64_t k_begin = heads * head_size, v_begin = k_begin + kv_heads * head_size, v_end = v_begin + kv_heads * head_size;
  HostTensor q = Slice{0, k_begin}.evaluate({qkv})[0];
  HostTensor k = Slice{k_begin, v_begin}.evaluate({qkv})[0];
  HostTensor v = Slice{v_begin, v_end}.evaluate({qkv})[0];
  if (norm) {
    q = RmsNorm{epsilon}.evaluate({q, inputs[5]})[0];
    k = RmsNorm{epsilon}.evaluate({k, inputs[6]})[0];
  }
  Rope rope{head_size, interleaved};
  q = rope.evaluate({q, angles})[0];
  k = rope.evaluate({k, angles})[0];
  return {q, KvWrite{}.evaluate({inputs[2], k, slots})[0], KvWrite{}.evaluate({inputs[3], v, slots})[0]};
}

}  // namespace ingot
