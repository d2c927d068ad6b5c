// How fast an engine runs, as shares of what the machine reaches in the same minutes.
#pragma once

#include <memory>

#include "ingot/inspect.h"
#include "runtime/loaded_engine.h"

namespace ingot {

// ingot::bench for a loaded engine.
std::vector<BenchRow> measure_speed(std::shared_ptr<const LoadedEngine> engine, const BenchOptions& options,
                                    const ProgressCallback& progress);

}  // namespace ingot
