// A recipe ready to run: an object per function that can write any range of its elements, in row-major order, without
// having made the rest. Concat, stack, reshape and slice are then only arithmetic on positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "checkpoint/checkpoint.h"
#include "tensor/recipe.h"

namespace ingot {

class ElementSource {
 public:
  // Elements that already lie in memory; `data` need not be aligned.
  struct Run {
    const std::byte* data = nullptr;
    int64_t count = 0;
  };

  virtual ~ElementSource() = default;
  ElementSource(const ElementSource&) = delete;
  ElementSource& operator=(const ElementSource&) = delete;

  const TensorType& type() const { return type_; }
  // Writes the elements [begin, begin + count), which exist, to `out`, which need not be aligned. Thread-safe.
  virtual void fill(int64_t begin, int64_t count, std::byte* out) const = 0;
  // The longest run from `begin` on that is in memory as it is; empty when it has to be filled.
  virtual Run run(int64_t begin) const;
  // Ranges of whole multiples of so many elements are made fastest: the rows of a transpose. At least 1.
  virtual int64_t granularity() const { return 1; }

 protected:
  explicit ElementSource(TensorType type) : type_(std::move(type)) {}

 private:
  TensorType type_;
};

// A range of a source as bytes: in place if it lies in memory, else made in a buffer of its own.
class Elements {
 public:
  Elements(const ElementSource& source, int64_t begin, int64_t count);
  const std::byte* data() const { return data_; }

 private:
  const std::byte* data_;
  std::unique_ptr<std::byte[]> buffer_;
};

// `recipe` is not packed; `checkpoint` must outlive the source. Throws an Error when types do not fit or a tensor is
// missing; nothing can go wrong afterwards.
std::unique_ptr<const ElementSource> make_source(const Recipe& recipe, const Checkpoint& checkpoint);

}  // namespace ingot
