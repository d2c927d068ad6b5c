// BuildConfig as JSON, and how wishes become what is used.
#pragma once

#include "base/json.h"
#include "build/program_shapes.h"
#include "ingot/builder.h"
#include "models/model.h"

namespace ingot {

// What goes into an engine's config.json: everything that shapes the engine, nothing that names a path.
Json to_json(const BuildConfig& config);
// Reads what to_json wrote; unknown keys are an Error that names the nearest one.
BuildConfig build_config_from_json(const Json& json);

// Throws unless every value is one that resolve() can give: for what was read from an engine's config.json.
void check_resolved(const BuildConfig& config);

// A configuration with every open choice made.
struct ResolvedConfig {
  BuildConfig config;
  DType dtype = DType::kBF16;
  StepLimits limits;
  Target target;
  std::vector<Override> overrides;
};

// Throws a usage Error for values that make no sense, and with `strict` for any override.
ResolvedConfig resolve(const BuildConfig& asked, const ModelFacts& facts, const Json& model_config);

}  // namespace ingot
