// Any of our files, shown as data.
#pragma once

#include "base/json.h"
#include "base/mapped_file.h"
#include "ingot/inspect.h"

namespace ingot {

// An engine directory or file, a checkpoint directory or config.json, a safetensors file, or a timing cache. Throws an
// Error when it is none of these.
Json inspect_path(const Path& path, const InspectOptions& options);

}  // namespace ingot
