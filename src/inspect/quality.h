// Is what an engine computes right: perplexity on a text, and logits beside those of another implementation.
#pragma once

#include <memory>
#include <string>

#include "base/mapped_file.h"
#include "ingot/inspect.h"
#include "runtime/loaded_engine.h"

namespace ingot {

// ingot::perplexity and ingot::verify for a loaded engine. Throw a usage Error when the text is shorter than a window,
// or the file lacks a tensor.
Perplexity measure_perplexity(std::shared_ptr<const LoadedEngine> engine, const std::string& text, int64_t window,
                              int threads, const ProgressCallback& progress);
Verification compare_logits(std::shared_ptr<const LoadedEngine> engine, const Path& reference, double tolerance,
                            int threads);

// The dtype that an engine was built for, from its config.json.
std::string engine_dtype(const LoadedEngine& engine);

}  // namespace ingot
