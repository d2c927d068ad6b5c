#include "checkpoint/random_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/error.h"
#include "base/hash.h"

namespace ingot {

namespace {

constexpr int64_t kQuantiles = 65536;

// The standard normal's quantiles at (i + 0.5) / kQuantiles: Newton's method, each begun at the previous one. The
// distribution function is concave above 0, so that the steps never overshoot. The lower half is the mirror image.
std::vector<double> normal_quantiles() {
  std::vector<double> quantiles(kQuantiles);
  double z = 0;
  for (int64_t i = kQuantiles / 2; i < kQuantiles; ++i) {
    double above = 1 - (static_cast<double>(i) + 0.5) / kQuantiles;
    for (int step = 0; step < 40; ++step) {
      double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
      double delta = (0.5 * std::erfc(z * std::numbers::sqrt2 / 2) - above) / density;
      z += delta;
      if (std::abs(delta) < 1e-9) break;
    }
    quantiles[static_cast<size_t>(i)] = z;
    quantiles[static_cast<size_t>(kQuantiles - 1 - i)] = -z;
  }
  return quantiles;
}

// SplitMix64's output function: every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// 64 bits serve the elements 4 * group … 4 * group + 3.
uint64_t bits_of(uint64_t key, int64_t group) { return mix(key + static_cast<uint64_t>(group) * 0x9e3779b97f4a7c15); }

template <class T>
void draw(const std::byte* table, uint64_t key, int64_t first, int64_t count, std::byte* out) {
  auto put = [&](int64_t position, uint64_t bits) {
    std::memcpy(out + position * static_cast<int64_t>(sizeof(T)), table + (bits & 0xffff) * sizeof(T), sizeof(T));
  };
  int64_t i = 0;
  for (; i < count && (first + i) % 4 != 0; ++i) put(i, bits_of(key, (first + i) / 4) >> (first + i) % 4 * 16);
  for (; i + 4 <= count; i += 4) {
    uint64_t bits = bits_of(key, (first + i) / 4);
    put(i, bits);
    put(i + 1, bits >> 16);
    put(i + 2, bits >> 32);
    put(i + 3, bits >> 48);
  }
  for (; i < count; ++i) put(i, bits_of(key, (first + i) / 4) >> (first + i) % 4 * 16);
}

bool multiplies(std::string_view name) {
  return name.ends_with("weight") &&
         (name.find("norm") != std::string_view::npos || name.find("ln_") != std::string_view::npos);
}

}  // namespace

RandomTensors::RandomTensors(uint64_t seed, DType dtype, double deviation)
    : seed_(seed), dtype_(dtype), deviation_(deviation) {}

const TensorType& RandomTensors::declare(std::string_view name, const std::vector<int64_t>& shape) {
  std::lock_guard lock(mutex_);
  TensorType type{dtype_, {shape.begin(), shape.end()}, ""};
  auto found = entries_.find(name);
  if (found == entries_.end()) {
    if (std::any_of(shape.begin(), shape.end(), [](int64_t size) { return size < 0; }))
      fail(ErrorCode::kRuntime, "the tensor \"{}\" cannot have the type {}", name, print(type));
    type.elements();  // refuses a product that overflows
    Entry entry{std::move(type), hash64(name) ^ mix(seed_ + 1), shape.size() == 1 && multiplies(name)};
    found = entries_.emplace(std::string(name), std::move(entry)).first;
  } else if (found->second.type != type) {
    fail(ErrorCode::kRuntime, "the random tensor \"{}\" was declared as {} before, now {} is needed", name,
         print(found->second.type), print(type));
  }
  return found->second.type;
}

const TensorType* RandomTensors::find(std::string_view name) const {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second.type;
}

std::vector<std::string> RandomTensors::names() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

std::shared_ptr<const RandomTensors::Table> RandomTensors::table(bool around_one) const {
  auto& table = tables_[around_one ? 1 : 0];
  if (!table) {
    auto made = std::make_shared<Table>(static_cast<size_t>(kQuantiles * size_of(dtype_)));
    std::vector<double> quantiles = normal_quantiles();
    for (int64_t i = 0; i < kQuantiles; ++i)
      store_element(dtype_, made->data(), i, (around_one ? 1 : 0) + deviation_ * quantiles[static_cast<size_t>(i)]);
    table = std::move(made);
  }
  return table;
}

void RandomTensors::read(std::string_view name, int64_t first_element, int64_t count, void* out) const {
  std::shared_ptr<const Table> values;
  uint64_t key;
  {
    std::lock_guard lock(mutex_);
    const Entry& entry = entries_.find(name)->second;
    values = table(entry.around_one);
    key = entry.key;
  }
  auto* bytes = static_cast<std::byte*>(out);
  if (size_of(dtype_) == 2) return draw<uint16_t>(values->data(), key, first_element, count, bytes);
  draw<uint32_t>(values->data(), key, first_element, count, bytes);
}

}  // namespace ingot
