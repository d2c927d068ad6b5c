// The reference interpreter of networks: every op's plain meaning, one node after the other, in double precision.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "ir/network.h"

namespace ingot {

using NamedTensors = std::map<std::string, HostTensor, std::less<>>;
// A checkpoint tensor by its name.
using LeafTensors = std::function<HostTensor(std::string_view)>;

struct EvaluateOptions {
  bool round = true;    // results to their dtypes; otherwise everything floating stays f64
  bool record = false;  // keep every value that has origins
  DimValues dims;       // of symbols that no input tells, such as pool_pages
};

struct Evaluation {
  NamedTensors outputs;
  NamedTensors recorded;  // by origin
};

// `inputs` holds every input and, by its name, the first version of a state; a state that is absent begins as zeros.
// Weights are made when an op reads them and values are freed after their last use, so that memory stays a few tensors
// high. Throws an Error that names an input that is missing or does not fit.
Evaluation evaluate(const Network& network, const NamedTensors& inputs, const LeafTensors& weights,
                    const EvaluateOptions& options = {});

}  // namespace ingot
