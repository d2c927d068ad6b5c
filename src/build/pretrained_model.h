// What stands behind a public PretrainedModel.
#pragma once

#include "checkpoint/checkpoint.h"
#include "ingot/builder.h"

namespace ingot {

struct PretrainedModel::Impl {
  Checkpoint checkpoint;
};

}  // namespace ingot
