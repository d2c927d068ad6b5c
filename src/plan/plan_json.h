// The JSON form of a plan: what the plan section of an engine file holds. Equal plans give equal text.
#pragma once

#include "base/json.h"
#include "plan/plan.h"

namespace ingot {

Json plan_to_json(const Plan& plan);

// Throws an Error that names the member which is missing, unknown or of the wrong type. The result is well formed but
// not yet consistent: check_plan looks at that.
Plan plan_from_json(const Json& json);

}  // namespace ingot
