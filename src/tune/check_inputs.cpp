// Inputs that problems are measured and checked on.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "ops/attention.h"
#include "ops/experts.h"
#include "ops/sample.h"
#include "tune/check.h"

namespace ingot {

Inputs::Inputs(Types types) : types_(std::move(types)) {
  for (const TensorType& type : types_) memory_.emplace_back(static_cast<size_t>(type.bytes()));
}

Inputs::Inputs(const Inputs& other) : Inputs(other.types_) {
  for (size_t i = 0; i < size(); ++i)
    if (memory_[i].size() > 0) std::memcpy(data(i), other.data(i), memory_[i].size());
}

std::vector<TensorView> Inputs::views() const {
  std::vector<TensorView> views;
  for (size_t i = 0; i < size(); ++i) views.push_back(view(i));
  return views;
}

namespace {

// splitmix64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t limit) { return static_cast<int64_t>(next() % static_cast<uint64_t>(limit)); }
  double unit() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[next() % i]);
  }

 private:
  uint64_t state_;
};

constexpr int64_t kTableSize = 1 << 15, kRun = 64;

// Drawn once: the tuner makes inputs for hundreds of problems.
const std::vector<double>& normal_table() {
  static const std::vector<double> table = [] {
    Random random(1);
    std::vector<double> normals(kTableSize + kRun);
    for (double& normal : normals)
      normal = std::sqrt(-2 * std::log(random.unit())) * std::cos(2 * M_PI * random.unit());
    return normals;
  }();
  return table;
}

class InputMaker {
 public:
  InputMaker(const Problem& problem, uint64_t seed, int64_t largest_filled)
      : problem_(problem),
        inputs_(problem.inputs),
        random_(seed),
        largest_filled_(largest_filled),
        normals_(normal_table()) {}

  Inputs take() { return std::move(inputs_); }
  const Problem& problem() const { return problem_; }
  Random& random() { return random_; }
  int64_t size(size_t input, size_t axis) const { return problem_.inputs[input].shape[axis].constant(); }

  // mean + deviation * normal: runs of a table of normals, copied from random places, which writes at memory speed.
  void normal(size_t input, double deviation = 1, double mean = 0) {
    const TensorType& type = problem_.inputs[input];
    if (largest_filled_ < 0 || (input > 0 && type.bytes() > largest_filled_)) return;
    std::vector<std::byte> table(static_cast<size_t>(kTableSize + kRun) * 8);
    for (int64_t i = 0; i < kTableSize + kRun; ++i)
      store_element(type.dtype, table.data(), i, mean + deviation * normals_[static_cast<size_t>(i)]);
    size_t width = static_cast<size_t>(size_of(type.dtype)), left = static_cast<size_t>(type.bytes());
    std::byte* out = inputs_.data(input);
    while (left > 0) {
      const std::byte* source = table.data() + (random_.next() % kTableSize) * width;
      size_t bytes = std::min(left, kRun * width);
      std::memcpy(out, source, bytes);
      out += bytes, left -= bytes;
    }
  }

  // One value per element, from f(index).
  template <class F>
  void each(size_t input, F f) {
    const TensorType& type = problem_.inputs[input];
    for (int64_t i = 0; i < type.elements(); ++i) store_element(type.dtype, inputs_.data(input), i, f(i));
  }
  // The same from f(index, value).
  template <class F>
  void replace(size_t input, F f) {
    TensorView view = inputs_.view(input);
    each(input, [&](int64_t i) { return f(i, view[i]); });
  }
  void integers(size_t input, const std::vector<int64_t>& values) {
    each(input, [&](int64_t i) { return static_cast<double>(values[static_cast<size_t>(i)]); });
  }

  // Indices below `limit`; the first is the last valid one.
  void indices(size_t input, int64_t limit) {
    if (limit <= 0 && problem_.inputs[input].elements() > 0)
      fail(ErrorCode::kRuntime, "{}: there is nothing to index", problem_.key());
    each(input, [&](int64_t i) { return static_cast<double>(i == 0 ? limit - 1 : random_.below(limit)); });
  }

  // Rows of cosines, then sines.
  void angles(size_t input) {
    int64_t half = size(input, 1) / 2;
    std::vector<double> row(static_cast<size_t>(half));
    each(input, [&](int64_t i) {
      int64_t column = i % (2 * half);
      if (column < half) row[static_cast<size_t>(column)] = 2 * M_PI * random_.unit();
      return column < half ? std::cos(row[static_cast<size_t>(column)])
                           : std::sin(row[static_cast<size_t>(column - half)]);
    });
  }

  // Different slots of a pool: runs through shuffled pages, with jumps where there is room. Every 13th is -1.
  void slots(size_t input, size_t state) {
    int64_t page_size = size(state, 2), pages = size(state, 0), tokens = problem_.inputs[input].elements();
    std::vector<int64_t> order(static_cast<size_t>(pages));
    std::iota(order.begin(), order.end(), 0);
    random_.shuffle(order);
    int64_t next = random_.below(page_size), spare = pages * page_size - next - tokens;
    each(input, [&](int64_t i) {
      if (i % 13 == 12) return -1.0;
      if (int64_t jump = page_size - next % page_size; random_.below(4) == 0 && spare >= jump)
        next += jump, spare -= jump;
      if (next >= pages * page_size) return -1.0;
      double slot = static_cast<double>(order[static_cast<size_t>(next / page_size)] * page_size + next % page_size);
      ++next;
      return slot;
    });
  }

 private:
  const Problem& problem_;
  Inputs inputs_;
  Random random_;
  int64_t largest_filled_;
  const std::vector<double>& normals_;
};

void fill_norm(InputMaker& make) {
  size_t count = make.problem().inputs.size();
  bool beta = make.problem().op.name() == "layer_norm" || make.problem().op.name() == "add_layer_norm";
  size_t gamma = count - (beta ? 2 : 1);
  for (size_t i = 0; i < gamma; ++i) make.normal(i);
  make.normal(gamma, 0.25, 1);
  if (beta) make.normal(count - 1, 0.25);
}

void fill_matmul(InputMaker& make) {
  make.normal(0);
  make.normal(1, 1 / std::sqrt(static_cast<double>(std::max<int64_t>(1, make.size(1, 1)))));
  for (size_t i = 2; i < make.problem().inputs.size(); ++i) make.normal(i, 0.5);
}

void fill_embedding(InputMaker& make) {
  make.indices(0, make.size(1, 0));
  make.normal(1);
}

void fill_gather_rows(InputMaker& make) {
  make.normal(0);
  make.indices(1, make.size(0, 0));
}

// Positions up to the longest contexts, where the argument of the cosine is large.
void fill_rope_angles(InputMaker& make) {
  make.indices(0, 131072);
  double half = static_cast<double>(std::max<int64_t>(1, make.size(1, 0)));
  make.each(1, [&](int64_t i) { return std::pow(10000.0, -static_cast<double>(i) / half); });
}

void fill_rope(InputMaker& make) {
  make.normal(0);
  make.angles(1);
}

void fill_kv_write(InputMaker& make) {
  make.normal(0);
  make.normal(1);
  make.slots(2, 0);
}

void fill_rope_kv_write(InputMaker& make) {
  for (size_t i : {0, 2, 3}) make.normal(i);
  make.angles(1);
  make.slots(4, 2);
  for (size_t i = 5; i < make.problem().inputs.size(); ++i) make.normal(i, 0.25, 1);
}

// Logits a tenth apart in a random order, so that no rounding changes the order, with one pair of equal ones per row.
void fill_route(InputMaker& make) {
  int64_t experts = make.size(0, 1);
  std::vector<int64_t> order(static_cast<size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  make.each(0, [&](int64_t i) {
    if (i % experts == 0) make.random().shuffle(order);
    int64_t place = order[static_cast<size_t>(i % experts)];
    return 0.1 * static_cast<double>((place == 1 ? 0 : place) - experts / 2);
  });
}

// Rows of every kind in turn: greedy ones, one for each filter, all of them together, with and without listed ids, and
// one that chooses nothing. Seats differ.
struct SampleRow {
  double temperature = 0, top_p = 1, min_p = 0;
  int64_t top_k = 0;
  int64_t logprobs = -1;
  bool listed = false, pending = false, chooses = true;
  // Normal ones; or some equal ones, the others -inf.
  enum { kNormal, kTwoOfThreeEqual, kNineEqual } logits = kNormal;
};
constexpr SampleRow kSampleRows[] = {
    {},
    {.temperature = 0.8, .logprobs = 0},
    {.temperature = 1, .top_k = 20, .logprobs = 3},
    {.temperature = 1.2, .top_p = 0.9},
    {.temperature = 0.7, .min_p = 0.05},
    {.temperature = 0.9, .top_p = 0.95, .min_p = 0.01, .top_k = 50, .logprobs = 20, .listed = true, .pending = true},
    {.logprobs = 5, .chooses = false},
    {.logprobs = 7, .listed = true, .pending = true},
    {.temperature = 1.5, .top_k = 1},
    {.temperature = 2, .top_p = 0.3, .listed = true},
    {.temperature = 1, .top_p = 0.7, .top_k = 301, .logprobs = 20, .logits = SampleRow::kTwoOfThreeEqual},
    {.temperature = 1, .top_p = 0.9, .top_k = 50, .logprobs = 20, .logits = SampleRow::kNineEqual},
    {.logprobs = 20},
};

void fill_sample(InputMaker& make) {
  int64_t rows = make.size(0, 0), vocab = make.size(0, 1), pairs = make.size(3, 0), seats = make.size(4, 0);
  Random& random = make.random();
  constexpr int64_t kKinds = std::size(kSampleRows);
  // The rows with lists share the pairs; the ids of one are spread evenly, from anywhere.
  int64_t share = std::min(vocab, pairs / std::max<int64_t>(1, 3 * ((rows + kKinds - 1) / kKinds))), next_pair = 0;
  std::vector<double> options;
  std::vector<int64_t> choices, listed, order(static_cast<size_t>(seats));
  std::iota(order.begin(), order.end(), 0);
  random.shuffle(order);
  for (int64_t i = 0; i < rows; ++i) {
    const SampleRow& row = kSampleRows[i % kKinds];
    int64_t count = row.listed ? share : 0, start = random.below(vocab);
    int64_t seat = row.chooses && i < seats ? order[static_cast<size_t>(i)] : -1;
    options.insert(options.end(), {row.temperature, row.top_p, row.min_p, 1.3, 0.4, 0.1});
    choices.insert(choices.end(), {seat, row.top_k, random.below(int64_t{1} << 31), random.below(int64_t{1} << 22),
                                   next_pair, next_pair + count, row.pending ? 1 : 0, row.logprobs});
    next_pair += count;
    for (int64_t j = 0; j < count; ++j)
      listed.insert(listed.end(), {(start + j * (vocab / share)) % vocab, j % 7 == 6 ? -1 : j % 4});
  }
  listed.resize(static_cast<size_t>(2 * pairs), 0);
  make.normal(0, 3);
  make.replace(0, [&](int64_t i, double logit) {
    auto kind = kSampleRows[i / vocab % kKinds].logits;
    if (kind == SampleRow::kNormal) return logit;
    bool equal = kind == SampleRow::kTwoOfThreeEqual ? i % vocab % 3 != 1 : i % vocab % (vocab / 9 + 1) == 0;
    return equal ? 0.5 : -INFINITY;
  });
  make.each(1, [&](int64_t i) { return options[static_cast<size_t>(i)]; });
  make.integers(2, choices);
  make.integers(3, listed);
  make.each(4, [&](int64_t) { return static_cast<double>(random.below(vocab)); });
}

// Every other id is that of a seat.
void fill_next_ids(InputMaker& make) {
  int64_t seats = make.size(1, 0);
  make.each(0, [&](int64_t i) {
    return static_cast<double>(i % 2 == 0 || seats == 0 ? make.random().below(1 << 20)
                                                        : -1 - make.random().below(seats));
  });
  make.indices(1, 1 << 20);
}

void fill_expert_mlp(InputMaker& make) {
  int64_t top_k = make.size(1, 1), experts = make.size(3, 0);
  make.normal(0);
  std::vector<int64_t> order(static_cast<size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  make.each(1, [&](int64_t i) {
    if (i % top_k == 0) make.random().shuffle(order);
    return static_cast<double>(order[static_cast<size_t>(i % top_k % experts)]);
  });
  make.each(2, [&](int64_t) { return (0.5 + make.random().unit()) / static_cast<double>(top_k); });
  make.normal(3, 1 / std::sqrt(static_cast<double>(std::max<int64_t>(1, make.size(3, 2)))));
  make.normal(4, 2 / std::sqrt(static_cast<double>(std::max<int64_t>(1, make.size(4, 2)))));
}

// How many of `tokens` each sequence has: one each for the leading half, the rest shared unequally by the others. With
// fewer tokens than sequences the last ones have none.
std::vector<int64_t> token_counts(int64_t tokens, int64_t sequences) {
  std::vector<int64_t> counts(static_cast<size_t>(sequences));
  int64_t decodes = tokens <= sequences ? tokens : sequences / 2, left = tokens - decodes;
  for (int64_t s = 0; s < decodes; ++s) counts[static_cast<size_t>(s)] = 1;
  for (int64_t s = decodes; s < sequences && left > 0; ++s) {
    int64_t others = sequences - s - 1, share = others == 0 ? left : std::max<int64_t>(1, left * 2 / 3);
    counts[static_cast<size_t>(s)] = std::min(share, left - std::min(others, left - 1));
    left -= counts[static_cast<size_t>(s)];
  }
  return counts;
}

// Page counts that hold the tokens, all pages given out. The first sequences get fewer of the spare ones.
std::vector<int64_t> page_counts(const InputMaker& make, const std::vector<int64_t>& tokens) {
  int64_t pages = make.size(6, 0), page_size = make.size(1, 2), spare = pages, weight = 0;
  std::vector<int64_t> counts;
  for (int64_t count : tokens) counts.push_back((count + page_size - 1) / page_size), spare -= counts.back();
  if (spare < 0)
    fail(ErrorCode::kRuntime, "{}: {} tokens do not fit into {} listed pages", make.problem().key(), make.size(0, 0),
         pages);
  int64_t sequences = static_cast<int64_t>(tokens.size());
  for (int64_t s = 0; s < sequences; ++s) weight += s + sequences;
  int64_t shared = spare;
  for (int64_t s = 0; s < sequences; ++s) {
    int64_t extra = s == sequences - 1 ? spare : shared * (s + sequences) / weight;
    counts[static_cast<size_t>(s)] += extra, spare -= extra;
  }
  return counts;
}

void fill_attention(InputMaker& make) {
  for (size_t i : {0, 1, 2}) make.normal(i);
  int64_t sequences = make.size(4, 0), page_size = make.size(1, 2), pool = make.size(1, 0), pages = make.size(6, 0);
  int64_t window = make.problem().op.as<Attention>()->window;
  if (sequences == 0) return;
  std::vector<int64_t> tokens = token_counts(make.size(0, 0), sequences), counts = page_counts(make, tokens);
  std::vector<int64_t> query_starts = {0}, page_starts = {0}, contexts, context_starts;
  for (size_t s = 0; s < tokens.size(); ++s) {
    query_starts.push_back(query_starts.back() + tokens[s]);
    page_starts.push_back(page_starts.back() + counts[s]);
    int64_t full = counts[s] * page_size;
    int64_t held = std::max({tokens[s], full - make.random().below(page_size), std::min<int64_t>(full, 1)});
    // Every other sequence whose window has passed the first listed page begins later.
    bool passed = window > 0 && s % 2 == 1 && held >= tokens[s] + window - 1;
    context_starts.push_back(passed ? 3 * page_size : 0);
    contexts.push_back(context_starts.back() + held);
  }
  std::vector<int64_t> list(static_cast<size_t>(std::max(pool, pages)));
  for (size_t i = 0; i < list.size(); ++i) list[i] = static_cast<int64_t>(i) % std::max<int64_t>(1, pool);
  make.random().shuffle(list);
  make.integers(3, query_starts);
  make.integers(4, contexts);
  make.integers(5, page_starts);
  make.integers(6, list);
  make.integers(7, context_starts);
}

struct FillRule {
  std::string_view op;
  void (*fill)(InputMaker& make);
};
// Ops that are not listed have float inputs only.
constexpr FillRule kRules[] = {
    {"matmul", fill_matmul},
    {"rms_norm", fill_norm},
    {"layer_norm", fill_norm},
    {"add_rms_norm", fill_norm},
    {"add_layer_norm", fill_norm},
    {"embedding", fill_embedding},
    {"gather_rows", fill_gather_rows},
    {"rope_angles", fill_rope_angles},
    {"rope", fill_rope},
    {"kv_write", fill_kv_write},
    {"attention", fill_attention},
    {"rope_kv_write", fill_rope_kv_write},
    {"route", fill_route},
    {"expert_mlp", fill_expert_mlp},
    {"sample", fill_sample},
    {"next_ids", fill_next_ids},
};

}  // namespace

Inputs make_inputs(const Problem& problem, uint64_t seed, int64_t largest_filled) {
  InputMaker make(problem, seed, largest_filled);
  for (const FillRule& rule : kRules) {
    if (rule.op != problem.op.name()) continue;
    rule.fill(make);
    return make.take();
  }
  for (size_t i = 0; i < problem.inputs.size(); ++i) make.normal(i);
  return make.take();
}

}  // namespace ingot
