// Weights that nobody trained: tensors of declared shapes whose values are drawn when they are read. A value is a pure
// function of seed, tensor name and element index, so any range can be read in any order, by any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/type.h"

namespace ingot {

class RandomTensors {
 public:
  // `deviation`: the standard deviation of matrices, and of the noise around the mean of vectors.
  RandomTensors(uint64_t seed, DType dtype, double deviation);

  // The type that `name` has from now on; an Error when it was declared with another shape. Thread-safe, as all
  // members.
  const TensorType& declare(std::string_view name, const std::vector<int64_t>& shape);
  const TensorType* find(std::string_view name) const;
  std::vector<std::string> names() const;
  // `name` is declared, and the range lies inside of it.
  void read(std::string_view name, int64_t first_element, int64_t count, void* out) const;

 private:
  // Values by 16 random bits: the quantiles of the wanted distribution, stored as the dtype.
  using Table = std::vector<std::byte>;
  struct Entry {
    TensorType type;
    uint64_t key;
    bool around_one;  // vectors of norms are multipliers
  };
  std::shared_ptr<const Table> table(bool around_one) const;

  const uint64_t seed_;
  const DType dtype_;
  const double deviation_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_;
  mutable std::array<std::shared_ptr<const Table>, 2> tables_;  // made when first read
};

}  // namespace ingot
