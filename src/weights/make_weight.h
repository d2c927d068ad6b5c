// Runs weight recipes: the stored bytes of one weight, made piece by piece from a checkpoint. The bytes depend on
// recipe and checkpoint alone; the memory needed besides the mapped files stays below 64 MiB whatever the weight's
// size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "kernels/weight_layout.h"
#include "tensor/recipe.h"

namespace ingot {

using LayoutLookup = std::function<const WeightLayout*(std::string_view)>;  // find_weight_layout, or a test's own

// Receives consecutive pieces of a weight, mostly of 2 to 8 MiB. It is called on the thread of make_weight, while other
// threads make the next piece; it may throw.
using WeightSink = std::function<void(std::span<const std::byte>)>;

// The type of the weight, with its layout. Throws an Error when a tensor is missing or does not fit.
TensorType weight_type(const Recipe& recipe, const Checkpoint& checkpoint);

// The number of bytes a weight of this type is stored in. Throws an Error when the layout is unknown or refuses.
int64_t weight_bytes(const TensorType& type, const LayoutLookup& find_layout);

// Hands the weight_bytes(weight_type(recipe)) stored bytes to `sink`, in order. Tensors that already have the wanted
// form come straight from the mapped file. An Error of the sink ends the work and is passed on.
void make_weight(const Recipe& recipe, const Checkpoint& checkpoint, ThreadPool& pool, const LayoutLookup& find_layout,
                 const WeightSink& sink);

}  // namespace ingot
